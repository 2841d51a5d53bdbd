// Rows of float32: products, quantised copies, and the largest entries of one. Built with the other files here by
// `harness/sae/native/__init__.py`. Shape letters: N entries of a row, K of them wanted, D width.
#pragma once

#include <algorithm>
#include <cmath>
#include <cstring>
#include <cstdint>
#include <limits>
#include <vector>

using Size = std::int64_t;

typedef float Eight __attribute__((vector_size(32), aligned(4)));

// Sum of products of two rows [n]: always in the same order, whatever runs beside it.
inline float dot(const float* a, const float* b, Size n) {
    Eight sums[4] = {};
    Size i = 0;
    for (; i + 32 <= n; i += 32) {
#pragma GCC unroll 4
        for (int j = 0; j < 4; ++j)
            sums[j] += *reinterpret_cast<const Eight*>(a + i + 8 * j) * *reinterpret_cast<const Eight*>(b + i + 8 * j);
    }
    const Eight s = (sums[0] + sums[1]) + (sums[2] + sums[3]);
    float sum = ((s[0] + s[4]) + (s[1] + s[5])) + ((s[2] + s[6]) + (s[3] + s[7]));
    for (; i < n; ++i) sum += a[i] * b[i];
    return sum;
}

struct Entry {
    float value;
    std::int32_t index;
};

// As in torch, what is not a number is the largest; of equal ones the first in the row counts as larger.
inline bool larger(const Entry& a, const Entry& b) {
    const bool nan_a = std::isnan(a.value), nan_b = std::isnan(b.value);
    if (nan_a != nan_b) return nan_a;
    return a.value > b.value || (!(a.value < b.value) && a.index < b.index);
}

// Finds the largest entries of rows of one length. One for each thread: it keeps its scratch memory.
class Picker {
public:
    Picker(Size entries, Size wanted) : n_(entries), k_(wanted), groups_(32), found_(entries) {
        while (groups_ < 6 * k_) groups_ *= 2;
        maxima_.resize(groups_);
    }

    // Those entries of `row` [N] that can be among the K largest of what it stands for, each of which may be off by
    // `error` and by `relative` of itself; at least K, in `found()`. An error that is no number lets all of them in.
    Size candidates(const float* row, float error, float relative) {
        const float floor = reach(floor_of(row), error, relative);
        Size count = 0, i = 0;
        for (; i + 32 <= n_; i += 32) {
            int any = 0;
            for (Size j = 0; j < 32; ++j) any |= !(row[i + j] < floor);
            if (any) count = keep(row, i, i + 32, floor, count);
        }
        count = keep(row, i, n_, floor, count);
        first(count);
        const float least = reach(found_[k_ - 1].value, error, relative);
        const auto end = std::partition(found_.begin() + k_, found_.begin() + count,
                                        [&](const Entry& entry) { return !(entry.value < least); });
        return end - found_.begin();
    }

    // Brings the K largest of the first `count` found to the front.
    void first(Size count) {
        if (count > k_) std::nth_element(found_.begin(), found_.begin() + k_ - 1, found_.begin() + count, larger);
    }

    Entry* found() { return found_.data(); }

private:
    // How small an entry can look that is as large as one which looks like `value`; 2.02 for twice, and rounding.
    static float reach(float value, float error, float relative) {
        return value - 2.02f * (error + relative * std::fabs(value));
    }

    // A number that at least K entries reach, and few more: K groups have a maximum that does. A group is every
    // `groups`-th entry, so that the maxima are taken over vectors.
    float floor_of(const float* row) {
        if (n_ < 2 * groups_) return -std::numeric_limits<float>::infinity();
        float* maxima = maxima_.data();
        std::copy(row, row + groups_, maxima);
        for (Size i = groups_; i + groups_ <= n_; i += groups_)
            for (Size g = 0; g < groups_; ++g) maxima[g] = row[i + g] > maxima[g] ? row[i + g] : maxima[g];
        return nearly_kth(maxima);
    }

    // By bisection, which takes no branches that depend on the numbers: up to K/16 too many are let through.
    float nearly_kth(const float* maxima) const {
        float low = maxima[0], high = maxima[0];
        for (Size g = 1; g < groups_; ++g) {
            low = maxima[g] < low ? maxima[g] : low;
            high = maxima[g] > high ? maxima[g] : high;
        }
        for (int turn = 0; turn < 24; ++turn) {
            const float middle = low + (high - low) / 2;
            std::int32_t count = 0;
            for (Size g = 0; g < groups_; ++g) count += maxima[g] >= middle;
            (count < k_ ? high : low) = middle;
            if (count >= k_ && count <= k_ + k_ / 16) break;
        }
        return low;
    }

    Size keep(const float* row, Size begin, Size end, float floor, Size count) {
        Entry* found = found_.data();
        for (Size i = begin; i < end; ++i)
            if (!(row[i] < floor)) found[count++] = {row[i], static_cast<std::int32_t>(i)};
        return count;
    }

    Size n_, k_, groups_;
    std::vector<float> maxima_;
    std::vector<Entry> found_;
};

// What a step needs besides products and `embedding_bag`, in one pass each; the plain-PyTorch versions stand beside
// their callers. Arrays are contiguous. Shape letters: B tokens, N latents, D width, K active latents a token,
// A = B K active entries.
#include "rows.h"

// Elsewhere products in bfloat16 (AMX) or float32 (AVX-512 without VNNI) are as fast.
#if defined(__AVX512VNNI__) && defined(__AVX512BW__) && !defined(__AMX_BF16__) || \
    defined(__AVX2__) && defined(__FMA__) && !defined(__AVX512F__)
#define HAS_INT16
#include <omp.h>

#include "product.h"
#endif

namespace {

// The K largest of `count` candidates for a token, which are computed in float32 here.
void settle(Picker& picker, Size count, const float* x, const float* weight, const float* bias, Size d, Size k,
            float* values, Size* indices) {
    Entry* found = picker.found();
    for (Size j = 0; j < count; ++j)
        found[j].value = dot(x, weight + found[j].index * d, d) + bias[found[j].index];
    picker.first(count);
    for (Size j = 0; j < k; ++j) values[j] = found[j].value, indices[j] = found[j].index;
}

}  // namespace

extern "C" {

// The K largest entries of each row of `dense` [B, N]: values and indices [B, K].
void top_k(const float* dense, Size b, Size n, Size k, float* values, Size* indices) {
#pragma omp parallel
    {
        Picker picker(n, k);
#pragma omp for schedule(static)
        for (Size row = 0; row < b; ++row) {
            picker.candidates(dense + row * n, 0, 0);
            for (Size j = 0; j < k; ++j) {
                values[row * k + j] = picker.found()[j].value;
                indices[row * k + j] = picker.found()[j].index;
            }
        }
    }
}

// The K largest entries of each row of x W^T + bias, of which `rough` [B, N] knows the upper halves of float32 up to
// `error` [B], and each entry up to `relative` of itself: x [B, D], weight [N, D] -> values and indices [B, K].
void top_k_near(const std::uint16_t* rough, const float* error, float relative, const float* x, const float* weight,
                const float* bias, Size b, Size n, Size d, Size k, float* values, Size* indices) {
#pragma omp parallel
    {
        Picker picker(n, k);
        std::vector<float> row(n);
#pragma omp for schedule(static)
        for (Size token = 0; token < b; ++token) {
            for (Size i = 0; i < n; ++i) {
                const std::uint32_t bits = static_cast<std::uint32_t>(rough[token * n + i]) << 16;
                std::memcpy(&row[i], &bits, 4);
            }
            const Size count = picker.candidates(row.data(), error[token], relative);
            settle(picker, count, x + token * d, weight, bias, d, k, values + token * k, indices + token * k);
        }
    }
}

// Entries by latent: indices [A] of latents -> order [A], the token of each in that order [A], each latent's first
// place in it [N]. Entries of one latent stay in their order.
void by_latent(const Size* indices, const Size* tokens, Size a, Size n, Size* order, Size* ordered_tokens,
               Size* starts) {
    std::fill(starts, starts + n, 0);
    for (Size i = 0; i < a; ++i) ++starts[indices[i]];
    std::vector<Size> next(n);
    for (Size i = 0, sum = 0; i < n; ++i) {
        sum += starts[i];
        next[i] = starts[i] = sum - starts[i];
    }
    for (Size i = 0; i < a; ++i) {
        const Size place = next[indices[i]]++;
        order[place] = i;
        ordered_tokens[place] = tokens[i];
    }
}

// Each token's row times its active weight rows: rows [B, D], weight [N, D], indices [A] of latents, starts [B] -> [A].
void inner_products(const float* rows, const float* weight, const Size* indices, const Size* starts, Size b, Size a,
                    Size d, float* products) {
#pragma omp parallel for schedule(static)
    for (Size token = 0; token < b; ++token) {
        const Size end = token + 1 < b ? starts[token + 1] : a;
        for (Size i = starts[token]; i < end; ++i) products[i] = dot(rows + token * d, weight + indices[i] * d, d);
    }
}

// The sum over a latent's active tokens of value times token row: values [A], rows [B, D] -> sums [N, D]; order, tokens
// and starts as `by_latent` gives them. Few latents have most of the entries, hence the small shares.
void weighted_tokens(const float* values, const float* rows, const Size* order, const Size* tokens,
                     const Size* starts, Size n, Size a, Size d, float* sums) {
#pragma omp parallel for schedule(dynamic, 16)
    for (Size latent = 0; latent < n; ++latent) {
        const Size begin = starts[latent], end = latent + 1 < n ? starts[latent + 1] : a;
        float* sum = sums + latent * d;
        Size column = 0;
        for (; column + 64 <= d; column += 64) {  // as many as registers hold
            Eight wide[8] = {};
            for (Size i = begin; i < end; ++i) {
                const float value = values[order[i]], *row = rows + tokens[i] * d + column;
#pragma GCC unroll 8
                for (int j = 0; j < 8; ++j) wide[j] += value * *reinterpret_cast<const Eight*>(row + 8 * j);
            }
#pragma GCC unroll 8
            for (int j = 0; j < 8; ++j) *reinterpret_cast<Eight*>(sum + column + 8 * j) = wide[j];
        }
        std::fill(sum + column, sum + d, 0.0f);
        for (Size i = begin; i < end; ++i)
            for (Size c = column; c < d; ++c) sum[c] += values[order[i]] * rows[tokens[i] * d + c];
    }
}

// Takes from each row of `gradient` [N, D] its part along the row of `weight` [N, D], which has unit norm.
void project(float* gradient, const float* weight, Size n, Size d) {
#pragma omp parallel for schedule(static)
    for (Size row = 0; row < n; ++row) {
        float* g = gradient + row * d;
        const float* w = weight + row * d;
        const float along = dot(g, w, d);
        for (Size i = 0; i < d; ++i) g[i] -= along * w[i];
    }
}

// Brings each row of `weight` [N, D] to unit norm.
void normalise(float* weight, Size n, Size d) {
#pragma omp parallel for schedule(static)
    for (Size row = 0; row < n; ++row) {
        float* w = weight + row * d;
        const float norm = std::max(std::sqrt(dot(w, w, d)), 1e-12f);
        for (Size i = 0; i < d; ++i) w[i] /= norm;
    }
}

#ifdef HAS_INT16
constexpr Size BLOCK = 16 * int16::TILE;  // tokens at a time: they and a panel of weights stay in the caches

// Bytes of memory that `top_k_of_product` works in.
Size top_k_of_product_bytes(Size n, Size d) {
    using namespace int16;
    const Size each = Quantised::bytes(BLOCK, d, TILE) + BLOCK * Quantised::padded(n, PANEL) * 4;
    return Quantised::bytes(n, d, PANEL) + omp_get_max_threads() * each;
}

// The K largest entries of each row of x W^T + bias: x [B, D], weight [N, D], bias [N] -> values and indices [B, K].
//
// Products in int16 say which entries can be among them, by the Cauchy-Schwarz inequality:
// x.w - x'.w' = (x - x').w + x'.(w - w') for x', w' rounded. Those are computed again in float32.
void top_k_of_product(const float* x, const float* weight, const float* bias, Size b, Size n, Size d, Size k,
                      char* memory, float* values, Size* indices) {
    using namespace int16;
    constexpr float ROUNDING = 1e-6f;  // of the scaled sums in float32, relative to the norms' product
    const Size stride = Quantised::padded(n, PANEL);
    Quantised w(n, d, PANEL, memory);
    std::vector<float> biases(bias, bias + n);
    biases.resize(stride);
    float longest = 0, worst = 0, sound = 0;
#pragma omp parallel
    {
        std::vector<float> scratch(d + 1);
#pragma omp for schedule(static)
        for (Size row = 0; row < n; ++row) w.put(row, weight + row * d, scratch.data());
#pragma omp single
        for (Size row = 0; row < n; ++row) {
            longest = std::max(longest, w.norm[row]);
            worst = std::max(worst, w.error[row]);
            sound += 0 * w.norm[row];  // no number if one of them is none
        }
        char* own = memory + Quantised::bytes(n, d, PANEL) +
                    omp_get_thread_num() * (Quantised::bytes(BLOCK, d, TILE) + BLOCK * stride * 4);
        float* rough = reinterpret_cast<float*>(own + Quantised::bytes(BLOCK, d, TILE));
        Quantised block(BLOCK, d, TILE, own);
        Picker picker(n, k);
#pragma omp for schedule(dynamic)
        for (Size start = 0; start < b; start += BLOCK) {
            const Size rows = std::min(BLOCK, b - start);
            for (Size i = 0; i < rows; ++i) block.put(i, x + (start + i) * d, scratch.data());
            for (Size panel = 0; panel < n; panel += PANEL)
                for (Size row = 0; row < rows; row += TILE)
                    tile(block, row, w, panel, biases.data(), rough + row * stride + panel, stride);
            for (Size i = 0; i < rows; ++i) {
                const float error = block.error[i] * longest + (block.norm[i] + block.error[i]) * worst +
                                    ROUNDING * block.norm[i] * longest + sound;
                const Size count = picker.candidates(rough + i * stride, error, 0), token = start + i;
                settle(picker, count, x + token * d, weight, bias, d, k, values + token * k, indices + token * k);
            }
        }
    }
}
#endif
}

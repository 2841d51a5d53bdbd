// Products of rows in int16, on processors with AVX2 or AVX512-VNNI: twice as fast as in float32, and precise to about
// 1e-4 of the product of the norms. Shape letters: B rows of x, N rows of weight, D width.
#pragma once

#include <immintrin.h>

#include "rows.h"

namespace int16 {

// Vectors of sums, one row of x by as many rows of weight as it has lanes; and how many of them fill the registers.
#ifdef __AVX512VNNI__
using Sums = __m512i;
constexpr Size TILE = 12;  // rows of x at a time
#else
using Sums = __m256i;
constexpr Size TILE = 6;
#endif
constexpr Size LANES = sizeof(Sums) / 4, PANEL = 2 * LANES;  // rows of weight at a time
constexpr float NORM = 46000, MOST = 32767;  // a sum is at most the norms' product, and that below 2^31

// Rows that are scaled and rounded, in groups of `group`: pairs of entries of each row of a group beside each other.
class Quantised {
public:
    // Bytes of `memory` for so many rows; a multiple of 64.
    static Size bytes(Size rows, Size width, Size group) {
        return (padded(rows, group) * ((width + 1) / 2) * 4 + 63) / 64 * 64;
    }
    static Size padded(Size rows, Size group) { return (rows + group - 1) / group * group; }

    Quantised(Size rows, Size width, Size group, char* memory)
        : unit(padded(rows, group)), norm(unit.size()), error(unit.size()), width_(width), group_(group),
          pairs_((width + 1) / 2), entries_(reinterpret_cast<std::int16_t*>(memory)) {}

    // The group that begins with `row`.
    const std::int16_t* at(Size row) const { return entries_ + row * pairs_ * 2; }
    Size pairs() const { return pairs_; }

    // Row [D] into place `number`; `scratch` [D + 1].
    void put(Size number, const float* row, float* scratch) {
        float top = 0;
        for (Size i = 0; i < width_; ++i) top = std::fabs(row[i]) > top ? std::fabs(row[i]) : top;
        norm[number] = std::sqrt(dot(row, row, width_));
        const float scale = norm[number] > 0 ? std::min(NORM / norm[number], MOST / top) : 0;
        unit[number] = scale > 0 ? 1 / scale : 0;
        for (Size i = 0; i < width_; ++i) scratch[i] = std::nearbyintf(row[i] * scale);
        scratch[width_] = 0;
        std::int16_t* out = entries_ + (number / group_ * group_ * pairs_ + number % group_) * 2;
        for (Size p = 0; p < pairs_; ++p) {
            const std::int16_t both[2] = {static_cast<std::int16_t>(static_cast<std::int32_t>(scratch[2 * p])),
                                          static_cast<std::int16_t>(static_cast<std::int32_t>(scratch[2 * p + 1]))};
            std::memcpy(out + p * group_ * 2, both, 4);
        }
        for (Size i = 0; i < width_; ++i) scratch[i] = row[i] - scratch[i] * unit[number];
        error[number] = std::sqrt(dot(scratch, scratch, width_));
    }

    std::vector<float> unit, norm, error;  // of each row: what 1 stands for, its norm, the norm of the rounding

private:
    Size width_, group_, pairs_;
    std::int16_t* entries_;
};

// `add_products` is in assembly since compilers keep some of the sums in memory otherwise.
#ifdef __AVX512VNNI__
inline Sums load(const std::int16_t* entries) { return _mm512_load_si512(entries); }
inline Sums repeat(std::int32_t pair) { return _mm512_set1_epi32(pair); }

inline void add_products(Sums& first, Sums& second, Sums left, Sums right, Sums both) {
    asm("vpdpwssd %[left], %[both], %[first]\n\t"
        "vpdpwssd %[right], %[both], %[second]"
        : [first] "+v"(first), [second] "+v"(second)
        : [left] "v"(left), [right] "v"(right), [both] "v"(both));
}

inline void store(float* out, Sums sums, const float* units, float unit, const float* biases) {
    const __m512 sum = _mm512_mul_ps(_mm512_cvtepi32_ps(sums), _mm512_loadu_ps(units));
    _mm512_storeu_ps(out, _mm512_fmadd_ps(sum, _mm512_set1_ps(unit), _mm512_loadu_ps(biases)));
}
#else
inline Sums load(const std::int16_t* entries) { return _mm256_load_si256(reinterpret_cast<const __m256i*>(entries)); }
inline Sums repeat(std::int32_t pair) { return _mm256_set1_epi32(pair); }

inline void add_products(Sums& first, Sums& second, Sums left, Sums right, Sums both) {
    Sums product;
    asm("vpmaddwd %[left], %[both], %[product]\n\t"
        "vpmaddwd %[right], %[both], %[both]\n\t"
        "vpaddd %[product], %[first], %[first]\n\t"
        "vpaddd %[both], %[second], %[second]"
        : [first] "+x"(first), [second] "+x"(second), [both] "+x"(both), [product] "=&x"(product)
        : [left] "x"(left), [right] "x"(right));
}

inline void store(float* out, Sums sums, const float* units, float unit, const float* biases) {
    const __m256 sum = _mm256_mul_ps(_mm256_cvtepi32_ps(sums), _mm256_loadu_ps(units));
    _mm256_storeu_ps(out, _mm256_fmadd_ps(sum, _mm256_set1_ps(unit), _mm256_loadu_ps(biases)));
}
#endif

// TILE rows of x times PANEL rows of weight, plus these rows' biases, into `out` with rows `stride` apart. Not inlined,
// where compilers run out of registers for the sums.
[[gnu::noinline]] inline void tile(const Quantised& x, Size row, const Quantised& weight, Size panel,
                                   const float* bias, float* out, Size stride) {
    const std::int16_t *a = x.at(row), *b = weight.at(panel);
    Sums first[TILE], second[TILE];
#pragma GCC unroll 12
    for (int i = 0; i < TILE; ++i) first[i] = second[i] = repeat(0);
    for (Size p = 0; p < x.pairs(); ++p) {
        const Sums left = load(b + p * 2 * PANEL), right = load(b + p * 2 * PANEL + PANEL);
#pragma GCC unroll 12
        for (int i = 0; i < TILE; ++i) {
            std::int32_t pair;
            std::memcpy(&pair, a + (p * TILE + i) * 2, 4);
            add_products(first[i], second[i], left, right, repeat(pair));
        }
    }
    const float* units = weight.unit.data() + panel;
#pragma GCC unroll 12
    for (int i = 0; i < TILE; ++i) {
        store(out + i * stride, first[i], units, x.unit[row + i], bias + panel);
        store(out + i * stride + LANES, second[i], units + LANES, x.unit[row + i], bias + panel + LANES);
    }
}

}  // namespace int16

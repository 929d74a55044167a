#include "core/merge/merge_tile.hpp"

#if defined(__x86_64__)
#include <immintrin.h>

#include <array>
#include <cstdint>

#define BV_AVX512 __attribute__((target("avx512f,avx512bw,avx512vl")))
#define BV_AVX512_INLINE __attribute__((target("avx512f,avx512bw,avx512vl"), always_inline)) inline

namespace bv::lora {
namespace {

constexpr int kWays = 4;  // panels of sixteen columns

template <DType kDType>
BV_AVX512_INLINE __m512 widen_lanes(const std::byte* at) {
  if constexpr (kDType == DType::F32) {
    return _mm512_loadu_ps(at);
  } else {
    const __m256i halves = _mm256_loadu_si256(reinterpret_cast<const __m256i*>(at));
    if constexpr (kDType == DType::F16) {
      return _mm512_cvtph_ps(halves);
    } else {
      return _mm512_castsi512_ps(_mm512_slli_epi32(_mm512_cvtepu16_epi32(halves), 16));
    }
  }
}

/// Lanes in `kept` take the bits of the base.
template <DType kDType>
BV_AVX512_INLINE void narrow_lanes(__m512 value, __mmask16 kept, const std::byte* base,
                                   std::byte* out) {
  if constexpr (kDType == DType::F32) {
    _mm512_storeu_ps(out, _mm512_mask_mov_ps(value, kept, _mm512_loadu_ps(base)));
  } else {
    __m256i fresh;
    if constexpr (kDType == DType::F16) {
      fresh = _mm512_maskz_cvtps_ph(__mmask16{0xffff}, value, _MM_FROUND_TO_NEAREST_INT);
    } else {
      const __m512i bits = _mm512_castps_si512(value);
      const __m512i odd = _mm512_and_si512(_mm512_srli_epi32(bits, 16), _mm512_set1_epi32(1));
      const __m512i half = _mm512_add_epi32(odd, _mm512_set1_epi32(0x7fff));
      fresh = _mm512_cvtepi32_epi16(_mm512_srli_epi32(_mm512_add_epi32(bits, half), 16));
    }
    const __m256i old = _mm256_loadu_si256(reinterpret_cast<const __m256i*>(base));
    _mm256_storeu_si256(reinterpret_cast<__m256i*>(out), _mm256_mask_mov_epi16(fresh, kept, old));
  }
}

/// Keeps the largest magnitude, as bits, of the lanes of `sums` that are `fresh`: NaN is above all.
BV_AVX512_INLINE void note_magnitude(__m512 sums, __mmask16 fresh, __m512i& largest) {
  largest =
      _mm512_mask_max_epu32(largest, fresh, largest, _mm512_castps_si512(_mm512_abs_ps(sums)));
}

/// Adds the deltas of one row of a tile to its base.
template <DType kDType>
BV_AVX512_INLINE void add_row(const __m512 (&sums)[kWays], __m512 scale, const std::byte* base,
                              std::byte* out, __m512i& largest) {
  constexpr std::int64_t kLaneBytes = 16 * (kDType == DType::F32 ? 4 : 2);
#pragma GCC unroll 4
  for (int j = 0; j < kWays; ++j) {
    const __m512 delta = _mm512_mul_ps(scale, sums[j]);
    const __mmask16 kept = _mm512_cmp_ps_mask(delta, _mm512_setzero_ps(), _CMP_EQ_OQ);
    const __m512 value = _mm512_add_ps(widen_lanes<kDType>(base + j * kLaneBytes), delta);
    note_magnitude(value, _knot_mask16(kept), largest);
    narrow_lanes<kDType>(value, kept, base + j * kLaneBytes, out + j * kLaneBytes);
  }
}

/// Sums whose upper halves are their bfloat16, rounded to even.
BV_AVX512_INLINE __m512i rounded(__m512 value) {
  const __m512i bits = _mm512_castps_si512(value);
  const __m512i odd = _mm512_and_si512(_mm512_srli_epi32(bits, 16), _mm512_set1_epi32(1));
  return _mm512_add_epi32(bits, _mm512_add_epi32(odd, _mm512_set1_epi32(0x7fff)));
}

/// The same for bfloat16, 32 lanes at a time: words are widened and narrowed by one permutation
/// each.
BV_AVX512_INLINE void add_row_bf16(const __m512 (&sums)[kWays], __m512 scale, const std::byte* base,
                                   std::byte* out, __m512i& largest) {
  alignas(64) static constexpr auto kWords = [] {
    std::array<std::array<std::uint16_t, 32>, 3> words{};
    for (std::uint16_t i = 0; i < 32; ++i) {
      words[0][i] = i / 2;       // the lower sixteen words, each in an upper half
      words[1][i] = 16 + i / 2;  // the upper ones
      words[2][i] = static_cast<std::uint16_t>(2 * i + 1);  // the upper halves of two vectors
    }
    return words;
  }();
  constexpr __mmask32 kUpper = 0xaaaaaaaa;
  const __m512i lower_words = _mm512_load_si512(kWords[0].data());
  const __m512i upper_words = _mm512_load_si512(kWords[1].data());
  const __m512i upper_halves = _mm512_load_si512(kWords[2].data());
#pragma GCC unroll 2
  for (int j = 0; j < kWays; j += 2) {
    const __m512i old = _mm512_loadu_si512(base + j * 32);
    const __m512 low = _mm512_mul_ps(scale, sums[j]);
    const __m512 high = _mm512_mul_ps(scale, sums[j + 1]);
    const __mmask16 low_new = _mm512_cmp_ps_mask(low, _mm512_setzero_ps(), _CMP_NEQ_UQ);
    const __mmask16 high_new = _mm512_cmp_ps_mask(high, _mm512_setzero_ps(), _CMP_NEQ_UQ);
    const __m512 low_sum = _mm512_add_ps(
        _mm512_castsi512_ps(_mm512_maskz_permutexvar_epi16(kUpper, lower_words, old)), low);
    const __m512 high_sum = _mm512_add_ps(
        _mm512_castsi512_ps(_mm512_maskz_permutexvar_epi16(kUpper, upper_words, old)), high);
    note_magnitude(low_sum, low_new, largest);
    note_magnitude(high_sum, high_new, largest);
    const __m512i fresh =
        _mm512_permutex2var_epi16(rounded(low_sum), upper_halves, rounded(high_sum));
    _mm512_storeu_si512(out + j * 32,
                        _mm512_mask_mov_epi16(
                            old, _mm512_kunpackw(__mmask32{high_new}, __mmask32{low_new}), fresh));
  }
}

template <DType kDType>
BV_AVX512 bool merge512(const Tile& tile) {
  constexpr int kRows = static_cast<int>(kTileRows);
  __m512 sums[kRows][kWays];
#pragma GCC unroll 6
  for (int i = 0; i < kRows; ++i) {
#pragma GCC unroll 4
    for (int j = 0; j < kWays; ++j) {
      sums[i][j] = _mm512_setzero_ps();
    }
  }
  // The rows of a tile are streams that the processor's own prefetch does not follow.
  constexpr std::int64_t kAhead = 2 * kWays * 16 * (kDType == DType::F32 ? 4 : 2);
#pragma GCC unroll 6
  for (int i = 0; i < kRows; ++i) {
    if (i < tile.rows) {
      for (std::int64_t at = kAhead; at < kAhead + kAhead / 2; at += 64) {
        __builtin_prefetch(tile.base + i * tile.base_step + at, 0);
        __builtin_prefetch(tile.out + i * tile.out_step + at, 1);
      }
    }
  }
  const float* left = tile.left;
  const float* right = tile.right;
  const std::int64_t panel = tile.rank * kPanelColumns;
  for (std::int64_t k = 0; k < tile.rank; ++k, left += kRows, right += kPanelColumns) {
    __m512 columns[kWays];
#pragma GCC unroll 4
    for (int j = 0; j < kWays; ++j) {
      columns[j] = _mm512_loadu_ps(right + j * panel);
    }
#pragma GCC unroll 6
    for (int i = 0; i < kRows; ++i) {
      const __m512 factor = _mm512_set1_ps(left[i]);
#pragma GCC unroll 4
      for (int j = 0; j < kWays; ++j) {
        sums[i][j] = _mm512_fmadd_ps(factor, columns[j], sums[i][j]);
      }
    }
  }
  const __m512 scale = _mm512_set1_ps(tile.scale);
  __m512i largest = _mm512_setzero_si512();
#pragma GCC unroll 6
  for (int i = 0; i < kRows; ++i) {
    if (i < tile.rows) {
      const std::byte* base = tile.base + i * tile.base_step;
      std::byte* out = tile.out + i * tile.out_step;
      if constexpr (kDType == DType::BF16) {
        add_row_bf16(sums[i], scale, base, out, largest);
      } else {
        add_row<kDType>(sums[i], scale, base, out, largest);
      }
    }
  }
  const __m512i limit = _mm512_castps_si512(_mm512_set1_ps(overflow_from(kDType)));
  return _mm512_cmpge_epu32_mask(largest, limit) != 0;
}

}  // namespace

bool merge_tile_avx512(DType dtype, const Tile& tile) {
  if (dtype == DType::BF16) {
    return merge512<DType::BF16>(tile);
  }
  return dtype == DType::F16 ? merge512<DType::F16>(tile) : merge512<DType::F32>(tile);
}

}  // namespace bv::lora
#endif

#include "core/merge/merge_tile.hpp"

#if defined(__x86_64__)
#include <immintrin.h>

#define BV_AVX2 __attribute__((target("avx2,fma,f16c")))
#define BV_AVX2_INLINE __attribute__((target("avx2,fma,f16c"), always_inline)) inline

namespace bv::lora {
namespace {

/// Sixteen elements as float32, and the bits that they had.
struct Wide {
  __m256 low, high;
};

template <DType kDType>
BV_AVX2_INLINE Wide widen16(const std::byte* at) {
  if constexpr (kDType == DType::F32) {
    const auto* floats = reinterpret_cast<const float*>(at);
    return {_mm256_loadu_ps(floats), _mm256_loadu_ps(floats + 8)};
  } else {
    const auto* half = reinterpret_cast<const __m128i*>(at);
    const __m128i low = _mm_loadu_si128(half);
    const __m128i high = _mm_loadu_si128(half + 1);
    if constexpr (kDType == DType::F16) {
      return {_mm256_cvtph_ps(low), _mm256_cvtph_ps(high)};
    } else {
      return {_mm256_castsi256_ps(_mm256_slli_epi32(_mm256_cvtepu16_epi32(low), 16)),
              _mm256_castsi256_ps(_mm256_slli_epi32(_mm256_cvtepu16_epi32(high), 16))};
    }
  }
}

/// To bfloat16, nearest even, in the low half of each lane. Finite values only.
BV_AVX2_INLINE __m256i to_bf16(__m256 value) {
  const __m256i bits = _mm256_castps_si256(value);
  const __m256i odd = _mm256_and_si256(_mm256_srli_epi32(bits, 16), _mm256_set1_epi32(1));
  const __m256i half = _mm256_add_epi32(odd, _mm256_set1_epi32(0x7fff));
  return _mm256_srli_epi32(_mm256_add_epi32(bits, half), 16);
}

/// Eight lanes of each into sixteen halves, in order.
BV_AVX2_INLINE __m256i pack16(__m256i low, __m256i high) {
  return _mm256_permute4x64_epi64(_mm256_packus_epi32(low, high), 0xd8);
}

template <DType kDType>
BV_AVX2_INLINE void narrow16(const Wide& value, const Wide& kept, const std::byte* base,
                             std::byte* out) {
  if constexpr (kDType == DType::F32) {
    const Wide old = widen16<kDType>(base);
    auto* floats = reinterpret_cast<float*>(out);
    _mm256_storeu_ps(floats, _mm256_blendv_ps(value.low, old.low, kept.low));
    _mm256_storeu_ps(floats + 8, _mm256_blendv_ps(value.high, old.high, kept.high));
  } else {
    const __m256i old = _mm256_loadu_si256(reinterpret_cast<const __m256i*>(base));
    const __m256i same = _mm256_permute4x64_epi64(
        _mm256_packs_epi32(_mm256_castps_si256(kept.low), _mm256_castps_si256(kept.high)), 0xd8);
    __m256i fresh;
    if constexpr (kDType == DType::F16) {
      fresh = _mm256_set_m128i(_mm256_cvtps_ph(value.high, _MM_FROUND_TO_NEAREST_INT),
                               _mm256_cvtps_ph(value.low, _MM_FROUND_TO_NEAREST_INT));
    } else {
      fresh = pack16(to_bf16(value.low), to_bf16(value.high));
    }
    _mm256_storeu_si256(reinterpret_cast<__m256i*>(out), _mm256_blendv_epi8(fresh, old, same));
  }
}

/// Lanes that changed and are not below the limit in magnitude; NaN is not.
BV_AVX2_INLINE __m256 unfit(__m256 value, __m256 kept, __m256 limit) {
  const __m256 magnitude = _mm256_andnot_ps(_mm256_set1_ps(-0.0F), value);
  return _mm256_andnot_ps(kept, _mm256_cmp_ps(magnitude, limit, _CMP_NLT_UQ));
}

template <DType kDType>
BV_AVX2 bool merge(const Tile& tile) {
  constexpr int kRows = static_cast<int>(kTileRows);
  __m256 low[kRows];
  __m256 high[kRows];
#pragma GCC unroll 6
  for (int i = 0; i < kRows; ++i) {
    low[i] = high[i] = _mm256_setzero_ps();
  }
  // The rows of a tile are streams that the processor's own prefetch does not follow. A line is
  // fetched by the first of the tiles that lie in it.
  constexpr std::int64_t kWidth = 16 * (kDType == DType::F32 ? 4 : 2);
  constexpr std::int64_t kAhead = 4 * 64;
  if (reinterpret_cast<std::uintptr_t>(tile.base) % 64 < kWidth) {
#pragma GCC unroll 6
    for (int i = 0; i < kRows; ++i) {
      if (i < tile.rows) {
        __builtin_prefetch(tile.base + i * tile.base_step + kAhead, 0);
        __builtin_prefetch(tile.out + i * tile.out_step + kAhead, 1);
      }
    }
  }
  const float* left = tile.left;
  const float* right = tile.right;
  for (std::int64_t k = 0; k < tile.rank; ++k, left += kRows, right += kPanelColumns) {
    const __m256 a = _mm256_loadu_ps(right);
    const __m256 b = _mm256_loadu_ps(right + 8);
#pragma GCC unroll 6
    for (int i = 0; i < kRows; ++i) {
      const __m256 factor = _mm256_broadcast_ss(left + i);
      low[i] = _mm256_fmadd_ps(factor, a, low[i]);
      high[i] = _mm256_fmadd_ps(factor, b, high[i]);
    }
  }
  const __m256 scale = _mm256_set1_ps(tile.scale);
  const __m256 limit = _mm256_set1_ps(overflow_from(kDType));
  __m256 bad = _mm256_setzero_ps();
#pragma GCC unroll 6
  for (int i = 0; i < kRows; ++i) {
    if (i < tile.rows) {
      const std::byte* base = tile.base + i * tile.base_step;
      const Wide delta{_mm256_mul_ps(scale, low[i]), _mm256_mul_ps(scale, high[i])};
      const Wide kept{_mm256_cmp_ps(delta.low, _mm256_setzero_ps(), _CMP_EQ_OQ),
                      _mm256_cmp_ps(delta.high, _mm256_setzero_ps(), _CMP_EQ_OQ)};
      const Wide old = widen16<kDType>(base);
      const Wide value{_mm256_add_ps(old.low, delta.low), _mm256_add_ps(old.high, delta.high)};
      bad = _mm256_or_ps(bad, _mm256_or_ps(unfit(value.low, kept.low, limit),
                                           unfit(value.high, kept.high, limit)));
      narrow16<kDType>(value, kept, base, tile.out + i * tile.out_step);
    }
  }
  return _mm256_movemask_ps(bad) != 0;
}

}  // namespace

bool merge_tile_avx2(DType dtype, const Tile& tile) {
  if (dtype == DType::BF16) {
    return merge<DType::BF16>(tile);
  }
  return dtype == DType::F16 ? merge<DType::F16>(tile) : merge<DType::F32>(tile);
}

}  // namespace bv::lora
#endif

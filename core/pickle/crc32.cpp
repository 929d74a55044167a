#include "core/pickle/crc32.hpp"

#include <zlib.h>

#include "core/base/assert.hpp"

#if defined(__x86_64__)
#include <immintrin.h>
#endif

// A sum is the remainder of a polynomial over GF(2). Folding replaces 16 bytes by their product
// with x^n mod P, n the bits between them and the bytes they are added to: the remainder stays the
// same, and many folds run at once. (Gopal et al., Fast CRC Computation for Generic Polynomials
// Using PCLMULQDQ, 2009.) What is left are 16 bytes, whose remainder zlib makes.

namespace bv::pickle {
namespace {

std::uint32_t by_tables(std::span<const std::byte> bytes, std::uint32_t before) {
  return static_cast<std::uint32_t>(
      ::crc32_z(before, reinterpret_cast<const unsigned char*>(bytes.data()), bytes.size()));
}

#if defined(__x86_64__)

constexpr std::size_t kLane = 16;
constexpr std::size_t kLanes = 8;  // that are folded at once
constexpr std::size_t kBlock = kLane * kLanes;

/// x^power mod P, reflected, as a factor: one bit up, since the product of two reflected numbers
/// comes out one bit too low.
constexpr std::int64_t factor(int power) {
  std::uint32_t out = 0x80000000;  // x^0
  for (int i = 0; i < power; ++i) {
    out = out >> 1 ^ ((out & 1) != 0 ? 0xEDB88320U : 0U);
  }
  return std::int64_t{out} << 1;
}

/// Factors of the low and the high half of 16 bytes that move `bytes` ahead.
struct Fold {
  std::int64_t low = 0;
  std::int64_t high = 0;
};
constexpr Fold fold_over(int bytes) {
  return {factor(bytes * 8 + 32), factor(bytes * 8 - 32)};
}
constexpr Fold kOverBlock = fold_over(kBlock);
constexpr Fold kOverLane = fold_over(kLane);

using Lanes = __m128i[kLanes];

#define BV_CLMUL __attribute__((target("pclmul,sse4.1")))
#define BV_CLMUL_INLINE __attribute__((target("pclmul,sse4.1"), always_inline)) inline
#define BV_VCLMUL __attribute__((target("vpclmulqdq,avx2,pclmul")))
#define BV_VCLMUL_INLINE __attribute__((target("vpclmulqdq,avx2,pclmul"), always_inline)) inline

BV_CLMUL_INLINE __m128i lane_at(const std::byte* at) {
  return _mm_loadu_si128(reinterpret_cast<const __m128i*>(at));
}
BV_CLMUL_INLINE __m128i folded(__m128i lane, __m128i factors, __m128i onto) {
  return _mm_xor_si128(_mm_xor_si128(_mm_clmulepi64_si128(lane, factors, 0x00),
                                     _mm_clmulepi64_si128(lane, factors, 0x11)),
                       onto);
}

/// Folds the lanes and what follows them into one; the sum of all.
BV_CLMUL std::uint32_t finished(const Lanes& lanes, const std::byte* at, std::size_t left) {
  const __m128i factors = _mm_set_epi64x(kOverLane.high, kOverLane.low);
  __m128i sum = lanes[0];
  for (std::size_t i = 1; i < kLanes; ++i) {
    sum = folded(sum, factors, lanes[i]);
  }
  for (; left >= kLane; left -= kLane, at += kLane) {
    sum = folded(sum, factors, lane_at(at));
  }
  std::byte last[kLane];
  _mm_storeu_si128(reinterpret_cast<__m128i*>(last), sum);
  const std::uint32_t none = 0xFFFFFFFF;  // the sum before is in the lanes: zlib inverts it to 0
  return by_tables({at, left}, by_tables(last, none));
}

/// At least one block.
BV_CLMUL std::uint32_t by_multiply16(std::span<const std::byte> bytes, std::uint32_t before) {
  const std::byte* at = bytes.data();
  std::size_t left = bytes.size();
  Lanes lanes;
  for (std::size_t i = 0; i < kLanes; ++i) {
    lanes[i] = lane_at(at + i * kLane);
  }
  lanes[0] = _mm_xor_si128(lanes[0], _mm_cvtsi32_si128(static_cast<int>(~before)));
  const __m128i factors = _mm_set_epi64x(kOverBlock.high, kOverBlock.low);
  for (at += kBlock, left -= kBlock; left >= kBlock; at += kBlock, left -= kBlock) {
    for (std::size_t i = 0; i < kLanes; ++i) {
      lanes[i] = folded(lanes[i], factors, lane_at(at + i * kLane));
    }
  }
  return finished(lanes, at, left);
}

BV_VCLMUL_INLINE __m256i lanes_at(const std::byte* at) {
  return _mm256_loadu_si256(reinterpret_cast<const __m256i*>(at));
}
BV_VCLMUL_INLINE __m256i folded_pair(__m256i pair, __m256i factors, __m256i onto) {
  return _mm256_xor_si256(_mm256_xor_si256(_mm256_clmulepi64_epi128(pair, factors, 0x00),
                                           _mm256_clmulepi64_epi128(pair, factors, 0x11)),
                          onto);
}

/// At least one block.
BV_VCLMUL std::uint32_t by_multiply32(std::span<const std::byte> bytes, std::uint32_t before) {
  constexpr std::size_t kPair = 2 * kLane;
  constexpr std::size_t kPairs = kLanes / 2;
  const std::byte* at = bytes.data();
  std::size_t left = bytes.size();
  __m256i pairs[kPairs];
  for (std::size_t i = 0; i < kPairs; ++i) {
    pairs[i] = lanes_at(at + i * kPair);
  }
  pairs[0] = _mm256_xor_si256(pairs[0],
                              _mm256_zextsi128_si256(_mm_cvtsi32_si128(static_cast<int>(~before))));
  const __m256i factors =
      _mm256_set_epi64x(kOverBlock.high, kOverBlock.low, kOverBlock.high, kOverBlock.low);
  for (at += kBlock, left -= kBlock; left >= kBlock; at += kBlock, left -= kBlock) {
    for (std::size_t i = 0; i < kPairs; ++i) {
      pairs[i] = folded_pair(pairs[i], factors, lanes_at(at + i * kPair));
    }
  }
  Lanes lanes;
  for (std::size_t i = 0; i < kPairs; ++i) {
    lanes[2 * i] = _mm256_castsi256_si128(pairs[i]);
    lanes[2 * i + 1] = _mm256_extracti128_si256(pairs[i], 1);
  }
  return finished(lanes, at, left);
}

#endif

CrcWay best_crc_way() {
  return has_crc_way(CrcWay::Multiply32)   ? CrcWay::Multiply32
         : has_crc_way(CrcWay::Multiply16) ? CrcWay::Multiply16
                                           : CrcWay::Tables;
}

}  // namespace

bool has_crc_way(CrcWay way) {
#if defined(__x86_64__)
  const bool multiply16 = __builtin_cpu_supports("pclmul") && __builtin_cpu_supports("sse4.1");
  const bool multiply32 =
      multiply16 && __builtin_cpu_supports("vpclmulqdq") && __builtin_cpu_supports("avx2");
  return way == CrcWay::Tables || (way == CrcWay::Multiply16 ? multiply16 : multiply32);
#else
  return way == CrcWay::Tables;
#endif
}

std::uint32_t crc32_by(CrcWay way, std::span<const std::byte> bytes, std::uint32_t before) {
  BV_ASSERT(has_crc_way(way));
#if defined(__x86_64__)
  if (way != CrcWay::Tables && bytes.size() >= kBlock) {
    return way == CrcWay::Multiply16 ? by_multiply16(bytes, before) : by_multiply32(bytes, before);
  }
#endif
  return by_tables(bytes, before);
}

std::uint32_t crc32(std::span<const std::byte> bytes, std::uint32_t before) {
  static const CrcWay best = best_crc_way();
  return crc32_by(best, bytes, before);
}

}  // namespace bv::pickle

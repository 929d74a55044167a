// Elements that nobody wrote: poison, and zeros.

#include <algorithm>
#include <cstring>

#include "core/move/rows.hpp"

#if defined(__x86_64__)
#include <immintrin.h>
#endif

namespace bv::move {
namespace {

constexpr std::int64_t kShortRow = 64;

/// Is a row of at least one byte zero?
bool is_zero_row(const std::byte* row, std::int64_t bytes) {
  if (bytes < 8 || bytes > kShortRow) {
    // A row is zero when its first byte is, and each byte equals the one before it.
    return row[0] == std::byte{0} &&
           std::memcmp(row, row + 1, static_cast<std::size_t>(bytes - 1)) == 0;
  }
  std::uint64_t any = 0;
  for (std::int64_t k = 0; k < bytes; k += 8) {
    std::uint64_t word = 0;
    std::memcpy(&word, row + std::min(k, bytes - 8), sizeof word);
    any |= word;
  }
  return any == 0;
}

template <class Word>
bool holds_word(const std::byte* bytes, std::int64_t count, std::byte filler) {
  Word wanted;
  std::memset(&wanted, std::to_integer<int>(filler), sizeof wanted);
  for (std::int64_t i = 0; i < count; ++i) {
    Word word;
    std::memcpy(&word, bytes + i * static_cast<std::int64_t>(sizeof word), sizeof word);
    if (word == wanted) {
      return true;
    }
  }
  return false;
}

bool holds_filler_scalar(const std::byte* bytes, std::int64_t count, std::size_t size,
                         std::byte filler) {
  switch (size) {
    case 1:
      return holds_word<std::uint8_t>(bytes, count, filler);
    case 2:
      return holds_word<std::uint16_t>(bytes, count, filler);
    case 4:
      return holds_word<std::uint32_t>(bytes, count, filler);
    default:
      return holds_word<std::uint64_t>(bytes, count, filler);
  }
}

#if defined(__x86_64__)

template <std::size_t kBytes>
__attribute__((target("avx2"), always_inline)) inline __m256i same_elements(__m256i a, __m256i b) {
  if constexpr (kBytes == 1) {
    return _mm256_cmpeq_epi8(a, b);
  } else if constexpr (kBytes == 2) {
    return _mm256_cmpeq_epi16(a, b);
  } else if constexpr (kBytes == 4) {
    return _mm256_cmpeq_epi32(a, b);
  } else {
    return _mm256_cmpeq_epi64(a, b);
  }
}

constexpr std::int64_t kVector = 64;

template <std::size_t kBytes>
__attribute__((target("avx2"))) bool holds_filler_avx2(const std::byte* bytes, std::int64_t count,
                                                       std::byte filler) {
  const __m256i wanted = _mm256_set1_epi8(std::to_integer<char>(filler));
  const std::int64_t size = count * static_cast<std::int64_t>(kBytes);
  const std::int64_t whole = size / kVector * kVector;
  __m256i found = _mm256_setzero_si256();
  for (std::int64_t k = 0; k < whole; k += kVector) {
    const __m256i low = _mm256_loadu_si256(reinterpret_cast<const __m256i*>(bytes + k));
    const __m256i high = _mm256_loadu_si256(reinterpret_cast<const __m256i*>(bytes + k + 32));
    found = _mm256_or_si256(found, _mm256_or_si256(same_elements<kBytes>(low, wanted),
                                                   same_elements<kBytes>(high, wanted)));
  }
  return _mm256_testz_si256(found, found) == 0 ||
         holds_filler_scalar(bytes + whole, (size - whole) / static_cast<std::int64_t>(kBytes),
                             kBytes, filler);
}

#endif

}  // namespace

bool holds_filler(Isa isa, const std::byte* elements, std::int64_t count, std::size_t size,
                  std::byte filler) {
#if defined(__x86_64__)
  if (isa != Isa::Scalar) {
    switch (size) {
      case 1:
        return holds_filler_avx2<1>(elements, count, filler);
      case 2:
        return holds_filler_avx2<2>(elements, count, filler);
      case 4:
        return holds_filler_avx2<4>(elements, count, filler);
      default:
        return holds_filler_avx2<8>(elements, count, filler);
    }
  }
#endif
  static_cast<void>(isa);
  return holds_filler_scalar(elements, count, size, filler);
}

bool zero_rows(const RowRuns& rows, const std::byte* target) {
  for (std::int64_t i = 0; i < rows.count; ++i) {
    if (rows.bytes > 0 && !is_zero_row(target + i * rows.target_step, rows.bytes)) {
      return false;
    }
  }
  return true;
}

}  // namespace bv::move

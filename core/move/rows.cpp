#include "core/move/rows.hpp"

#include <algorithm>
#include <cstring>

#if defined(__x86_64__)
#include <immintrin.h>
#endif

namespace bv::move {
namespace {

/// How far a source is fetched ahead: long enough to hide memory, short enough to stay in L1.
constexpr std::int64_t kAhead = 4096;
constexpr std::int64_t kVector = 64;

/// An address for a prefetch only, which may lie outside the buffer.
[[maybe_unused]] const char* beyond(const std::byte* at, std::int64_t bytes) {
  return reinterpret_cast<const char*>(reinterpret_cast<std::uintptr_t>(at) +
                                       static_cast<std::uintptr_t>(bytes));
}

/// Distance from a byte to the one that is fetched while it is copied: rows ahead when rows are
/// short, bytes ahead when they are long.
[[maybe_unused]] std::int64_t ahead_of(const RowRuns& rows) {
  if (rows.source_step == 0) {
    return rows.bytes >= kAhead ? kAhead : 0;
  }
  return rows.bytes >= kAhead ? kAhead
                              : std::max<std::int64_t>(1, kAhead / rows.bytes) * rows.source_step;
}

/// While rows are compared, every second line of the rows behind them is fetched from the side that
/// lies in memory: half of the next window is then there when it is copied. 0: they are too many.
constexpr std::int64_t kNextMax = std::int64_t{64} << 10;
[[maybe_unused]] std::int64_t next_of(const RowRuns& rows) {
  const std::int64_t next = rows.count > 1 ? rows.count * rows.target_step : rows.bytes;
  return rows.count * rows.bytes <= kNextMax ? next : 0;
}

void copy_rows_scalar(const RowRuns& rows, const std::byte* source, std::byte* target) {
  for (std::int64_t i = 0; i < rows.count; ++i) {
    std::memcpy(target + i * rows.target_step, source + i * rows.source_step,
                static_cast<std::size_t>(rows.bytes));
  }
}

template <std::size_t kBytes>
void copy_each(const RowRuns& run, const std::byte* source, std::byte* target) {
  for (std::int64_t i = 0; i < run.count; ++i) {
    std::memcpy(target + i * run.target_step, source + i * run.source_step, kBytes);
  }
}

/// Rows of kBytes to 2 * kBytes bytes: their first and their last kBytes, which may overlap.
template <std::size_t kBytes>
void copy_ends(const RowRuns& rows, const std::byte* source, std::byte* target) {
  const std::int64_t last = rows.bytes - static_cast<std::int64_t>(kBytes);
  for (std::int64_t i = 0; i < rows.count; ++i) {
    const std::byte* from = source + i * rows.source_step;
    std::byte* to = target + i * rows.target_step;
    std::memcpy(to, from, kBytes);
    std::memcpy(to + last, from + last, kBytes);
  }
}

template <class Word>
bool differ(const std::byte* a, const std::byte* b) {
  Word x;
  Word y;
  std::memcpy(&x, a, sizeof x);
  std::memcpy(&y, b, sizeof y);
  return x != y;
}

template <class Word>
bool equal_ends(const RowRuns& rows, const std::byte* source, const std::byte* target) {
  constexpr auto kBytes = static_cast<std::int64_t>(sizeof(Word));
  bool differs = false;
  for (std::int64_t i = 0; i < rows.count; ++i) {
    const std::byte* from = source + i * rows.source_step;
    const std::byte* to = target + i * rows.target_step;
    for (std::int64_t k = 0; k + kBytes < rows.bytes; k += kBytes) {
      differs |= differ<Word>(from + k, to + k);
    }
    differs |= differ<Word>(from + rows.bytes - kBytes, to + rows.bytes - kBytes);
  }
  return !differs;
}

/// Few bytes in all need no fetch ahead, and short rows no vectors whose parts are masked.
constexpr std::int64_t kFewBytes = 4096;
constexpr std::int64_t kShortRow = 64;
bool are_few(const RowRuns& rows) {
  return rows.bytes <= kShortRow && rows.count * rows.bytes <= kFewBytes;
}

void copy_few(const RowRuns& rows, const std::byte* source, std::byte* target) {
  if (rows.bytes >= 32) {
    return copy_ends<32>(rows, source, target);
  }
  if (rows.bytes >= 16) {
    return copy_ends<16>(rows, source, target);
  }
  if (rows.bytes >= 8) {
    return copy_ends<8>(rows, source, target);
  }
  if (rows.bytes >= 4) {
    return copy_ends<4>(rows, source, target);
  }
  return rows.bytes >= 2 ? copy_ends<2>(rows, source, target) : copy_ends<1>(rows, source, target);
}

bool equal_few(const RowRuns& rows, const std::byte* source, const std::byte* target) {
  if (rows.bytes >= 8) {
    return equal_ends<std::uint64_t>(rows, source, target);
  }
  if (rows.bytes >= 4) {
    return equal_ends<std::uint32_t>(rows, source, target);
  }
  return rows.bytes >= 2 ? equal_ends<std::uint16_t>(rows, source, target)
                         : equal_ends<std::uint8_t>(rows, source, target);
}

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

bool equal_rows_scalar(const RowRuns& rows, const std::byte* source, const std::byte* target) {
  for (std::int64_t i = 0; i < rows.count; ++i) {
    if (std::memcmp(target + i * rows.target_step, source + i * rows.source_step,
                    static_cast<std::size_t>(rows.bytes)) != 0) {
      return false;
    }
  }
  return true;
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

__attribute__((target("avx512f,avx512bw"))) void copy_rows_avx512(const RowRuns& rows,
                                                                  const std::byte* source,
                                                                  std::byte* target) {
  const std::int64_t whole = rows.bytes / kVector * kVector;
  const __mmask64 tail = (std::uint64_t{1} << (rows.bytes - whole)) - 1;
  const std::int64_t ahead = ahead_of(rows);
  for (std::int64_t i = 0; i < rows.count; ++i) {
    const std::byte* from = source + i * rows.source_step;
    std::byte* to = target + i * rows.target_step;
    for (std::int64_t k = 0; k < whole; k += kVector) {
      _mm_prefetch(beyond(from, k + ahead), _MM_HINT_T0);
      _mm512_storeu_si512(to + k, _mm512_loadu_si512(from + k));
    }
    if (tail != 0) {
      _mm_prefetch(beyond(from, whole + ahead), _MM_HINT_T0);
      _mm512_mask_storeu_epi8(to + whole, tail, _mm512_maskz_loadu_epi8(tail, from + whole));
    }
  }
}

__attribute__((target("avx512f,avx512bw"))) bool equal_rows_avx512(const RowRuns& rows,
                                                                   const std::byte* source,
                                                                   const std::byte* target) {
  const std::int64_t whole = rows.bytes / kVector * kVector;
  const __mmask64 tail = (std::uint64_t{1} << (rows.bytes - whole)) - 1;
  const std::int64_t next = next_of(rows);
  for (std::int64_t i = 0; i < rows.count; ++i) {
    const std::byte* from = source + i * rows.source_step;
    const std::byte* to = target + i * rows.target_step;
    __m512i differs = _mm512_setzero_si512();
    for (std::int64_t k = 0; k < whole; k += kVector) {
      if (next != 0 && k % (2 * kVector) == 0) {
        _mm_prefetch(beyond(to, k + next), _MM_HINT_T1);
      }
      differs = _mm512_or_si512(
          differs, _mm512_xor_si512(_mm512_loadu_si512(from + k), _mm512_loadu_si512(to + k)));
    }
    if (tail != 0) {
      differs =
          _mm512_or_si512(differs, _mm512_xor_si512(_mm512_maskz_loadu_epi8(tail, from + whole),
                                                    _mm512_maskz_loadu_epi8(tail, to + whole)));
    }
    if (_mm512_test_epi64_mask(differs, differs) != 0) {
      return false;
    }
  }
  return true;
}

__attribute__((target("avx2"))) void copy_rows_avx2(const RowRuns& rows, const std::byte* source,
                                                    std::byte* target) {
  const std::int64_t whole = rows.bytes / 32 * 32;
  const auto tail = static_cast<std::size_t>(rows.bytes - whole);
  const std::int64_t ahead = ahead_of(rows);
  for (std::int64_t i = 0; i < rows.count; ++i) {
    const std::byte* from = source + i * rows.source_step;
    std::byte* to = target + i * rows.target_step;
    for (std::int64_t k = 0; k < whole; k += 32) {
      _mm_prefetch(beyond(from, k + ahead), _MM_HINT_T0);
      _mm256_storeu_si256(reinterpret_cast<__m256i*>(to + k),
                          _mm256_loadu_si256(reinterpret_cast<const __m256i*>(from + k)));
    }
    if (tail != 0) {
      std::memcpy(to + whole, from + whole, tail);
    }
  }
}

__attribute__((target("avx2"))) bool equal_rows_avx2(const RowRuns& rows, const std::byte* source,
                                                     const std::byte* target) {
  const std::int64_t whole = rows.bytes / 32 * 32;
  const auto tail = static_cast<std::size_t>(rows.bytes - whole);
  for (std::int64_t i = 0; i < rows.count; ++i) {
    const std::byte* from = source + i * rows.source_step;
    const std::byte* to = target + i * rows.target_step;
    __m256i differs = _mm256_setzero_si256();
    for (std::int64_t k = 0; k < whole; k += 32) {
      differs = _mm256_or_si256(
          differs, _mm256_xor_si256(_mm256_loadu_si256(reinterpret_cast<const __m256i*>(from + k)),
                                    _mm256_loadu_si256(reinterpret_cast<const __m256i*>(to + k))));
    }
    if (_mm256_testz_si256(differs, differs) == 0 ||
        (tail != 0 && std::memcmp(to + whole, from + whole, tail) != 0)) {
      return false;
    }
  }
  return true;
}

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

Isa best_isa() {
#if defined(__x86_64__)
  if (__builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw")) {
    return Isa::Avx512;
  }
  if (__builtin_cpu_supports("avx2")) {
    return Isa::Avx2;
  }
#endif
  return Isa::Scalar;
}

void copy_rows(Isa isa, const RowRuns& rows, const std::byte* source, std::byte* target) {
  if (rows.bytes == 0) {
    return;
  }
  if (are_few(rows)) {
    return copy_few(rows, source, target);
  }
#if defined(__x86_64__)
  if (isa == Isa::Avx512) {
    return copy_rows_avx512(rows, source, target);
  }
  if (isa == Isa::Avx2) {
    return copy_rows_avx2(rows, source, target);
  }
#endif
  static_cast<void>(isa);
  copy_rows_scalar(rows, source, target);
}

void copy_elements(const RowRuns& rows, const std::byte* source, std::byte* target) {
  switch (rows.bytes) {
    case 1:
      return copy_each<1>(rows, source, target);
    case 2:
      return copy_each<2>(rows, source, target);
    case 4:
      return copy_each<4>(rows, source, target);
    default:
      return copy_each<8>(rows, source, target);
  }
}

bool equal_rows(Isa isa, const RowRuns& rows, const std::byte* source, const std::byte* target) {
  if (rows.bytes > 0 && are_few(rows)) {
    return equal_few(rows, source, target);
  }
#if defined(__x86_64__)
  if (isa == Isa::Avx512) {
    return equal_rows_avx512(rows, source, target);
  }
  if (isa == Isa::Avx2) {
    return equal_rows_avx2(rows, source, target);
  }
#endif
  static_cast<void>(isa);
  return equal_rows_scalar(rows, source, target);
}

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

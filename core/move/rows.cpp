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

bool equal_rows_scalar(const RowRuns& rows, const std::byte* source, const std::byte* target) {
  for (std::int64_t i = 0; i < rows.count; ++i) {
    if (std::memcmp(target + i * rows.target_step, source + i * rows.source_step,
                    static_cast<std::size_t>(rows.bytes)) != 0) {
      return false;
    }
  }
  return true;
}

#if defined(__x86_64__)

/// Rows of one vector with gaps between them, four at a time: their loads come before their stores,
/// because a load waits for any store before it that lies at the same place of a page.
__attribute__((target("avx512f,avx512bw"))) void copy_lines_avx512(const RowRuns& rows,
                                                                   const std::byte* source,
                                                                   std::byte* target) {
  const std::int64_t ahead = ahead_of(rows);
  std::int64_t i = 0;
  for (; i + 4 <= rows.count; i += 4) {
    __m512i a[4];
#pragma GCC unroll 4
    for (std::int64_t q = 0; q < 4; ++q) {
      const std::byte* const from = source + (i + q) * rows.source_step;
      _mm_prefetch(beyond(from, ahead), _MM_HINT_T0);
      a[q] = _mm512_loadu_si512(from);
    }
#pragma GCC unroll 4
    for (std::int64_t q = 0; q < 4; ++q) {
      _mm512_storeu_si512(target + (i + q) * rows.target_step, a[q]);
    }
  }
  for (; i < rows.count; ++i) {
    _mm512_storeu_si512(target + i * rows.target_step,
                        _mm512_loadu_si512(source + i * rows.source_step));
  }
}

/// Whole vectors, four at a time as above. Fetches as much from `fetched` on.
__attribute__((target("avx512f,avx512bw"), always_inline)) inline void copy_vectors_avx512(
    const std::byte* from, std::byte* to, std::int64_t bytes, const char* fetched) {
  std::int64_t k = 0;
  for (; k + 4 * kVector <= bytes; k += 4 * kVector) {
    __m512i a[4];
#pragma GCC unroll 4
    for (std::int64_t q = 0; q < 4; ++q) {
      _mm_prefetch(fetched + k + q * kVector, _MM_HINT_T0);
      a[q] = _mm512_loadu_si512(from + k + q * kVector);
    }
#pragma GCC unroll 4
    for (std::int64_t q = 0; q < 4; ++q) {
      _mm512_storeu_si512(to + k + q * kVector, a[q]);
    }
  }
  for (; k < bytes; k += kVector) {
    _mm_prefetch(fetched + k, _MM_HINT_T0);
    _mm512_storeu_si512(to + k, _mm512_loadu_si512(from + k));
  }
}

/// Long rows with gaps between them at the source: at the end of a row the next one is fetched, and
/// not what lies in the gap.
__attribute__((target("avx512f,avx512bw"))) void copy_long_rows_avx512(const RowRuns& rows,
                                                                       const std::byte* source,
                                                                       std::byte* target) {
  const std::int64_t whole = rows.bytes / kVector * kVector;
  const __mmask64 tail = (std::uint64_t{1} << (rows.bytes - whole)) - 1;
  const std::int64_t ahead = ahead_of(rows);
  const std::int64_t inside = rows.bytes >= kAhead ? whole - kAhead : whole;
  for (std::int64_t i = 0; i < rows.count; ++i) {
    const std::byte* from = source + i * rows.source_step;
    std::byte* to = target + i * rows.target_step;
    copy_vectors_avx512(from, to, inside, beyond(from, ahead));
    copy_vectors_avx512(from + inside, to + inside, whole - inside, beyond(from, rows.source_step));
    if (tail != 0) {
      _mm512_mask_storeu_epi8(to + whole, tail, _mm512_maskz_loadu_epi8(tail, from + whole));
    }
  }
}

__attribute__((target("avx512f,avx512bw"))) void copy_rows_avx512(const RowRuns& rows,
                                                                  const std::byte* source,
                                                                  std::byte* target) {
  constexpr std::int64_t kLongRow = 1024;
  const bool has_gaps = rows.source_step > rows.bytes;
  if (has_gaps && rows.bytes == kVector) {
    return copy_lines_avx512(rows, source, target);
  }
  if (has_gaps && rows.bytes >= kLongRow) {
    return copy_long_rows_avx512(rows, source, target);
  }
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

}  // namespace bv::move

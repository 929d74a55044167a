// Copies whose stores pass the caches.

#include <algorithm>
#include <cstring>

#include "core/move/rows.hpp"

#if defined(__x86_64__)
#include <immintrin.h>
#endif

namespace bv::move {
namespace {

constexpr std::int64_t kVector = 64;

#if defined(__x86_64__)

/// An address for a prefetch only, which may lie outside the buffer.
const char* beyond(const std::byte* at, std::int64_t bytes) {
  return reinterpret_cast<const char*>(reinterpret_cast<std::uintptr_t>(at) +
                                       static_cast<std::uintptr_t>(bytes));
}

/// Four pages in turns keep more of the memory's banks busy than one after the other.
constexpr std::int64_t kPage = 4096;
constexpr std::int64_t kPages = 4;

__attribute__((target("avx512f"))) void stream_avx512(const std::byte* source, std::byte* target,
                                                      std::int64_t bytes) {
  std::int64_t done = 0;
  for (; done + kPages * kPage <= bytes; done += kPages * kPage) {
    for (std::int64_t line = done; line < done + kPage; line += kVector) {
      for (std::int64_t k = line; k < line + kPages * kPage; k += kPage) {
        _mm_prefetch(beyond(source, k + kPages * kPage), _MM_HINT_T1);
        _mm512_stream_si512(reinterpret_cast<__m512i*>(target + k), _mm512_loadu_si512(source + k));
      }
    }
  }
  for (std::int64_t k = done; k + kVector <= bytes; k += kVector) {
    _mm_prefetch(beyond(source, k + 2048), _MM_HINT_T0);
    _mm512_stream_si512(reinterpret_cast<__m512i*>(target + k), _mm512_loadu_si512(source + k));
  }
}

__attribute__((target("avx2"))) void stream_avx2(const std::byte* source, std::byte* target,
                                                 std::int64_t bytes) {
  for (std::int64_t k = 0; k + kVector <= bytes; k += kVector) {
    _mm_prefetch(beyond(source, k + 2048), _MM_HINT_T0);
    for (std::int64_t half = 0; half < kVector; half += 32) {
      _mm256_stream_si256(reinterpret_cast<__m256i*>(target + k + half),
                          _mm256_loadu_si256(reinterpret_cast<const __m256i*>(source + k + half)));
    }
  }
}

/// How far behind the loads of a stream its source is fetched.
constexpr std::int64_t kStreamAhead = 2048;

__attribute__((target("avx2"))) void stream_row_avx2(const std::byte* source, std::byte* target,
                                                     std::int64_t bytes, std::int64_t ahead) {
  for (std::int64_t k = 0; k < bytes; k += kVector) {
    _mm_prefetch(beyond(source, k + ahead), _MM_HINT_T0);
    const __m256i low = _mm256_loadu_si256(reinterpret_cast<const __m256i*>(source + k));
    const __m256i high = _mm256_loadu_si256(reinterpret_cast<const __m256i*>(source + k + 32));
    _mm256_stream_si256(reinterpret_cast<__m256i*>(target + k), low);
    _mm256_stream_si256(reinterpret_cast<__m256i*>(target + k + 32), high);
  }
}

#endif

}  // namespace

void stream_bytes(Isa isa, const std::byte* source, std::byte* target, std::int64_t bytes) {
  if (isa == Isa::Scalar) {
    std::memcpy(target, source, static_cast<std::size_t>(bytes));
    return;
  }
#if defined(__x86_64__)
  const auto off = static_cast<std::int64_t>(reinterpret_cast<std::uintptr_t>(target) % kVector);
  const std::int64_t head = std::min(bytes, off == 0 ? 0 : kVector - off);
  const std::int64_t body = (bytes - head) / kVector * kVector;
  std::memcpy(target, source, static_cast<std::size_t>(head));
  if (isa == Isa::Avx512) {
    stream_avx512(source + head, target + head, body);
  } else {
    stream_avx2(source + head, target + head, body);
  }
  std::memcpy(target + head + body, source + head + body,
              static_cast<std::size_t>(bytes - head - body));
#endif
}

bool fills_lines(Isa isa, const RowRuns& rows, const std::byte* target) {
  return isa != Isa::Scalar && rows.bytes > 0 && rows.bytes % kVector == 0 &&
         rows.target_step % kVector == 0 && reinterpret_cast<std::uintptr_t>(target) % kVector == 0;
}

void stream_rows(Isa isa, const RowRuns& rows, const std::byte* source, std::byte* target) {
  if (fills_lines(isa, rows, target)) {
    const RowStream one{source, target};
    return stream_in_turns(isa, rows, {&one, 1}, rows.count);
  }
  for (std::int64_t i = 0; i < rows.count; ++i) {
    stream_bytes(isa, source + i * rows.source_step, target + i * rows.target_step, rows.bytes);
  }
}

void stream_in_turns(Isa isa, const RowRuns& rows, std::span<const RowStream> streams,
                     std::int64_t block) {
#if defined(__x86_64__)
  // Of several streams the rows of the next block are fetched, of one those a little further on.
  const std::int64_t step = std::max(rows.bytes, rows.source_step);
  const std::int64_t near =
      rows.bytes >= kStreamAhead ? kStreamAhead : (kStreamAhead + step - 1) / step * step;
  const std::int64_t ahead = block > 1 && streams.size() > 1 ? block * rows.source_step : near;
  for (std::int64_t begin = 0; begin < rows.count; begin += block) {
    const std::int64_t end = std::min(rows.count, begin + block);
    for (const RowStream& stream : streams) {
      for (std::int64_t i = begin; i < end; ++i) {
        const std::byte* from = stream.source + i * rows.source_step;
        std::byte* to = stream.target + i * rows.target_step;
        stream_row_avx2(from, to, rows.bytes, ahead);
      }
    }
  }
#else
  for (const RowStream& stream : streams) {
    stream_rows(isa, rows, stream.source, stream.target);
  }
#endif
  static_cast<void>(isa);
  static_cast<void>(block);
}

void end_stream() {
#if defined(__x86_64__)
  _mm_sfence();
#endif
}

}  // namespace bv::move

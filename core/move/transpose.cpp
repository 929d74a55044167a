// Boxes whose innermost axis on one side is not the innermost on the other: a tile is turned into a
// buffer of the first-level cache and leaves it row by row.

#include <algorithm>
#include <cstring>
#include <type_traits>

#include "core/move/rows.hpp"

#if defined(__x86_64__)
#include <immintrin.h>
#endif

namespace bv::move {
namespace {

[[maybe_unused]] constexpr std::int64_t kLine = 64;
/// Bytes between the rows of a tile beyond their length: rows of a power of two would share a cache
/// set.
constexpr std::int64_t kPad = 64;
constexpr std::int64_t kTileBytes = std::int64_t{64} << 10;

/// One tile: rows of 192 bytes of the source, whose three lines are taken in one visit, and runs of
/// 512 bytes on the target; rows as long as a power of two share a few cache sets, where shorter
/// runs push each other out. The source is fetched so many columns ahead that memory answers in
/// time, and no further: what is fetched must still be there. The figures were found by trial.
constexpr std::int64_t kTileRowBytes = 192;
constexpr std::int64_t kTileColumns = 256;
constexpr std::int64_t kColumnsAhead = 32;

/// Where a tile lies, and how it is cut off at the ends.
struct Tile {
  std::int64_t i = 0;
  std::int64_t j = 0;
  std::int64_t rows = 0;
  std::int64_t columns = 0;
};

template <std::size_t kBytes>
void turn_scalar(const Transpose& shape, const Tile& tile, std::int64_t row, std::int64_t column,
                 std::int64_t columns_end, const std::byte* source, std::byte* out,
                 std::int64_t out_bytes) {
  constexpr auto kSize = static_cast<std::int64_t>(kBytes);
  for (std::int64_t j = column; j < columns_end; ++j) {
    const std::byte* from =
        source + (shape.column(tile.j + j) + tile.i * shape.source_unit) * kSize;
    for (std::int64_t i = row; i < tile.rows; ++i) {
      std::memcpy(out + i * out_bytes + j * kSize, from + i * shape.source_unit * kSize, kBytes);
    }
  }
}

#if defined(__x86_64__)

__m128i load16(const std::byte* at) {
  return _mm_loadu_si128(reinterpret_cast<const __m128i*>(at));
}
void store16(std::byte* at, __m128i value) {
  _mm_storeu_si128(reinterpret_cast<__m128i*>(at), value);
}
__attribute__((target("avx2"), always_inline)) inline __m256i load32(const std::byte* at) {
  return _mm256_loadu_si256(reinterpret_cast<const __m256i*>(at));
}

/// Eight columns of sixteen elements of 2 bytes become sixteen rows of eight, in three rounds of
/// interleaving.
__attribute__((target("avx2"), always_inline)) inline void turn_8x16(__m256i (&a)[8],
                                                                     std::byte* out,
                                                                     std::int64_t out_bytes) {
  __m256i b[8];
#pragma GCC unroll 8
  for (int i = 0; i < 4; ++i) {
    b[2 * i] = _mm256_unpacklo_epi16(a[2 * i], a[2 * i + 1]);
    b[2 * i + 1] = _mm256_unpackhi_epi16(a[2 * i], a[2 * i + 1]);
  }
#pragma GCC unroll 8
  for (int half = 0; half < 2; ++half) {
#pragma GCC unroll 8
    for (int i = 0; i < 2; ++i) {
      a[4 * half + 2 * i] = _mm256_unpacklo_epi32(b[4 * half + i], b[4 * half + i + 2]);
      a[4 * half + 2 * i + 1] = _mm256_unpackhi_epi32(b[4 * half + i], b[4 * half + i + 2]);
    }
  }
#pragma GCC unroll 8
  for (int i = 0; i < 4; ++i) {
    const __m256i even = _mm256_unpacklo_epi64(a[i], a[i + 4]);
    const __m256i odd = _mm256_unpackhi_epi64(a[i], a[i + 4]);
    store16(out + (2 * i) * out_bytes, _mm256_castsi256_si128(even));
    store16(out + (2 * i + 1) * out_bytes, _mm256_castsi256_si128(odd));
    store16(out + (2 * i + 8) * out_bytes, _mm256_extracti128_si256(even, 1));
    store16(out + (2 * i + 9) * out_bytes, _mm256_extracti128_si256(odd, 1));
  }
}

/// Four vectors of eight pairs, each of two columns, become eight rows of eight elements.
__attribute__((target("avx2"), always_inline)) inline void turn_pairs(const __m256i (&pairs)[4],
                                                                      std::byte* out,
                                                                      std::int64_t out_bytes) {
  const __m256i low[2] = {_mm256_unpacklo_epi32(pairs[0], pairs[1]),
                          _mm256_unpacklo_epi32(pairs[2], pairs[3])};
  const __m256i high[2] = {_mm256_unpackhi_epi32(pairs[0], pairs[1]),
                           _mm256_unpackhi_epi32(pairs[2], pairs[3])};
  const __m256i rows[4] = {
      _mm256_unpacklo_epi64(low[0], low[1]), _mm256_unpackhi_epi64(low[0], low[1]),
      _mm256_unpacklo_epi64(high[0], high[1]), _mm256_unpackhi_epi64(high[0], high[1])};
#pragma GCC unroll 4
  for (int i = 0; i < 4; ++i) {
    store16(out + i * out_bytes, _mm256_castsi256_si128(rows[i]));
    store16(out + (i + 4) * out_bytes, _mm256_extracti128_si256(rows[i], 1));
  }
}

constexpr std::int64_t kBlockColumns = 8;
using Columns = const std::byte* [kBlockColumns];

/// Every second of 32 elements of 2 bytes of eight columns: each vector has two columns beside each
/// other. The second loads begin one element earlier, so that nothing behind the last one is read.
__attribute__((target("avx2"), always_inline)) inline void turn_every_second(
    const Columns& from, std::int64_t at, std::byte* out, std::int64_t out_bytes) {
  __m256i first[4];
  __m256i second[4];
#pragma GCC unroll 4
  for (int q = 0; q < 4; ++q) {
    const std::byte* const a = from[2 * q] + at;
    const std::byte* const b = from[2 * q + 1] + at;
    first[q] = _mm256_blend_epi16(load32(a), _mm256_slli_epi32(load32(b), 16), 0xAA);
    second[q] = _mm256_blend_epi16(_mm256_srli_epi32(load32(a + 30), 16), load32(b + 30), 0xAA);
  }
  turn_pairs(first, out, out_bytes);
  turn_pairs(second, out + 8 * out_bytes, out_bytes);
}

/// Eight columns of a tile, elements of 2 bytes; returns how many rows are turned.
__attribute__((target("avx2"))) std::int64_t turn_columns(const Columns& from,
                                                          const Transpose& shape, std::int64_t rows,
                                                          std::byte* out, std::int64_t out_bytes,
                                                          std::integral_constant<std::size_t, 2>) {
  __m256i a[kBlockColumns];
  std::int64_t i = 0;
  if (shape.source_unit == 1) {
    for (; i + 16 <= rows; i += 16) {
#pragma GCC unroll 8
      for (int q = 0; q < kBlockColumns; ++q) {
        a[q] = load32(from[q] + i * 2);
      }
      turn_8x16(a, out + i * out_bytes, out_bytes);
    }
  } else if (shape.source_unit == 2) {
    for (; i + 16 <= rows; i += 16) {
      turn_every_second(from, i * 4, out + i * out_bytes, out_bytes);
    }
  }
  return i;
}

/// The same with elements of 4 bytes, four by four.
std::int64_t turn_columns(const Columns& from, const Transpose& shape, std::int64_t rows,
                          std::byte* out, std::int64_t out_bytes,
                          std::integral_constant<std::size_t, 4>) {
  std::int64_t i = 0;
  for (; shape.source_unit == 1 && i + 4 <= rows; i += 4) {
    for (int q = 0; q < kBlockColumns; q += 4) {
      const __m128i a = load16(from[q] + i * 4);
      const __m128i b = load16(from[q + 1] + i * 4);
      const __m128i c = load16(from[q + 2] + i * 4);
      const __m128i d = load16(from[q + 3] + i * 4);
      const __m128i ab_low = _mm_unpacklo_epi32(a, b);
      const __m128i ab_high = _mm_unpackhi_epi32(a, b);
      const __m128i cd_low = _mm_unpacklo_epi32(c, d);
      const __m128i cd_high = _mm_unpackhi_epi32(c, d);
      std::byte* to = out + i * out_bytes + q * 4;
      store16(to, _mm_unpacklo_epi64(ab_low, cd_low));
      store16(to + out_bytes, _mm_unpackhi_epi64(ab_low, cd_low));
      store16(to + 2 * out_bytes, _mm_unpacklo_epi64(ab_high, cd_high));
      store16(to + 3 * out_bytes, _mm_unpackhi_epi64(ab_high, cd_high));
    }
  }
  return i;
}

/// Fetches what eight columns are made of: those from `column` of the tile, or behind its end those
/// of the next one. Always inline: GCC takes a function that does nothing but fetch for one without
/// an effect, and drops its calls.
__attribute__((always_inline)) inline void fetch_columns(const Transpose& shape, const Tile& tile,
                                                         const Tile& next, std::int64_t column,
                                                         std::int64_t size,
                                                         const std::byte* source) {
  const Tile& current = column < tile.columns ? tile : next;
  const std::int64_t begin = column < tile.columns ? column : column - tile.columns;
  const std::int64_t end = std::min(begin + kBlockColumns, current.columns);
  for (std::int64_t j = begin; j < end; ++j) {
    const std::byte* at =
        source + (shape.column(current.j + j) + current.i * shape.source_unit) * size;
    for (std::int64_t k = 0; k < current.rows * shape.source_unit * size; k += kLine) {
      _mm_prefetch(reinterpret_cast<const char*>(at) + k, _MM_HINT_T1);
    }
  }
}

/// Whole blocks of columns of one tile, while those further on are fetched; returns the first
/// column that is left.
template <std::size_t kBytes>
std::int64_t turn_blocks(const Transpose& shape, const Tile& tile, const Tile& next,
                         std::int64_t ahead, const std::byte* source, std::byte* out,
                         std::int64_t out_bytes) {
  constexpr auto kSize = static_cast<std::int64_t>(kBytes);
  std::int64_t j = 0;
  for (; j + kBlockColumns <= tile.columns; j += kBlockColumns) {
    fetch_columns(shape, tile, next, j + ahead, kSize, source);
    Columns from;
    for (std::int64_t q = 0; q < kBlockColumns; ++q) {
      from[q] = source + (shape.column(tile.j + j + q) + tile.i * shape.source_unit) * kSize;
    }
    const std::int64_t done = turn_columns(from, shape, tile.rows, out + j * kSize, out_bytes,
                                           std::integral_constant<std::size_t, kBytes>{});
    turn_scalar<kBytes>(shape, tile, done, j, j + kBlockColumns, source, out, out_bytes);
  }
  return j;
}

#endif

template <std::size_t kBytes>
void turn(bool vectors, const Transpose& shape, const Tile& tile, const Tile& next,
          const std::byte* source, std::byte* out, std::int64_t out_bytes) {
  std::int64_t done = 0;
#if defined(__x86_64__)
  if constexpr (kBytes == 2 || kBytes == 4) {
    if (vectors) {
      done = turn_blocks<kBytes>(shape, tile, next, kColumnsAhead, source, out, out_bytes);
    }
  }
#endif
  static_cast<void>(vectors);
  static_cast<void>(next);
  turn_scalar<kBytes>(shape, tile, 0, done, tile.columns, source, out, out_bytes);
}

void turn(Isa isa, const Transpose& shape, const Tile& tile, const Tile& next, std::size_t size,
          const std::byte* source, std::byte* out, std::int64_t out_bytes) {
  const bool vectors = isa != Isa::Scalar;
  switch (size) {
    case 1:
      return turn<1>(vectors, shape, tile, next, source, out, out_bytes);
    case 2:
      return turn<2>(vectors, shape, tile, next, source, out, out_bytes);
    case 4:
      return turn<4>(vectors, shape, tile, next, source, out, out_bytes);
    default:
      return turn<8>(vectors, shape, tile, next, source, out, out_bytes);
  }
}

/// Turns tile by tile along the rows of the source and calls `visit(rows, from, at)` for the rows
/// of each: where they stand, and the byte offset of the first in the target. Stops when it returns
/// false.
template <class Visit>
bool for_each_tile(Isa isa, const Transpose& shape, std::size_t element_bytes,
                   const std::byte* source, const Visit& visit) {
  const auto size = static_cast<std::int64_t>(element_bytes);
  const std::int64_t tile_rows = kTileRowBytes / size;
  const auto tile_at = [&](std::int64_t i, std::int64_t j) {
    return Tile{i, j, std::min(tile_rows, shape.rows - i),
                std::min(kTileColumns, shape.columns - j)};
  };
  alignas(64) std::byte turned[kTileBytes];
  const std::int64_t turned_bytes = kTileColumns * size + kPad;
  for (std::int64_t j = 0; j < shape.columns; j += kTileColumns) {
    for (std::int64_t i = 0; i < shape.rows; i += tile_rows) {
      const Tile tile = tile_at(i, j);
      const bool last_of_row = i + tile_rows >= shape.rows;
      const bool last = last_of_row && j + kTileColumns >= shape.columns;
      const Tile next = last          ? Tile{}
                        : last_of_row ? tile_at(0, j + kTileColumns)
                                      : tile_at(i + tile_rows, j);
      turn(isa, shape, tile, next, element_bytes, source, turned, turned_bytes);
      for (std::int64_t way = 0; way < std::min(shape.row_ways, tile.rows); ++way) {
        const RowRuns rows{(tile.rows - way + shape.row_ways - 1) / shape.row_ways,
                           tile.columns * size, turned_bytes * shape.row_ways,
                           shape.target_step * size};
        const std::int64_t at = (shape.row(i + way) + j * shape.target_unit) * size;
        if (!visit(rows, turned + way * turned_bytes, at)) {
          return false;
        }
      }
    }
  }
  return true;
}

template <std::size_t kBytes>
bool equal_each(const RowRuns& rows, const std::byte* source, const std::byte* target) {
  bool equal = true;
  for (std::int64_t i = 0; i < rows.count; ++i) {
    equal &= std::memcmp(target + i * rows.target_step, source + i * rows.source_step, kBytes) == 0;
  }
  return equal;
}

bool equal_elements(const RowRuns& rows, const std::byte* source, const std::byte* target) {
  switch (rows.bytes) {
    case 1:
      return equal_each<1>(rows, source, target);
    case 2:
      return equal_each<2>(rows, source, target);
    case 4:
      return equal_each<4>(rows, source, target);
    default:
      return equal_each<8>(rows, source, target);
  }
}

/// One row whose elements lie apart on the target.
RowRuns elements_of(const RowRuns& rows, std::int64_t size, std::int64_t target_unit) {
  return {rows.bytes / size, size, size, target_unit * size};
}

}  // namespace

void copy_transpose(Isa isa, const Transpose& shape, std::size_t element_bytes,
                    const std::byte* source, std::byte* target) {
  const auto size = static_cast<std::int64_t>(element_bytes);
  for_each_tile(isa, shape, element_bytes, source,
                [&](const RowRuns& rows, const std::byte* from, std::int64_t at) {
                  if (shape.target_unit == 1) {
                    copy_rows(isa, rows, from, target + at);
                    return true;
                  }
                  for (std::int64_t i = 0; i < rows.count; ++i) {
                    copy_elements(elements_of(rows, size, shape.target_unit),
                                  from + i * rows.source_step, target + at + i * rows.target_step);
                  }
                  return true;
                });
}

bool equal_transpose(Isa isa, const Transpose& shape, std::size_t element_bytes,
                     const std::byte* source, const std::byte* target) {
  const auto size = static_cast<std::int64_t>(element_bytes);
  return for_each_tile(isa, shape, element_bytes, source,
                       [&](const RowRuns& rows, const std::byte* from, std::int64_t at) {
                         if (shape.target_unit == 1) {
                           return equal_rows(isa, rows, from, target + at);
                         }
                         bool equal = true;
                         for (std::int64_t i = 0; i < rows.count && equal; ++i) {
                           equal = equal_elements(elements_of(rows, size, shape.target_unit),
                                                  from + i * rows.source_step,
                                                  target + at + i * rows.target_step);
                         }
                         return equal;
                       });
}

}  // namespace bv::move

// Boxes whose innermost axis on one side is not the innermost on the other, in square tiles.

#include <algorithm>
#include <cstring>
#include <type_traits>
#include <utility>

#include "core/exec/rows.hpp"

#if defined(__x86_64__)
#include <immintrin.h>
#endif

namespace bv::exec {
namespace {

template <std::size_t kBytes>
void transpose_scalar(const Transpose& shape, std::int64_t row, std::int64_t rows_end,
                      std::int64_t column, std::int64_t columns_end, const std::byte* source,
                      std::byte* target) {
  constexpr auto kSize = static_cast<std::int64_t>(kBytes);
  for (std::int64_t i = row; i < rows_end; ++i) {
    for (std::int64_t j = column; j < columns_end; ++j) {
      std::memcpy(target + (i * shape.target_step + j) * kSize,
                  source + (j * shape.source_step + i * shape.source_unit) * kSize, kBytes);
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

/// Eight elements of 2 bytes that lie two apart, as eight neighbours. Reads one element beyond.
__m128i every_second(const std::byte* at) {
  const __m128i low = _mm_srai_epi32(_mm_slli_epi32(load16(at), 16), 16);
  const __m128i high = _mm_srai_epi32(_mm_slli_epi32(load16(at + 16), 16), 16);
  return _mm_packs_epi32(low, high);
}

/// Eight rows of eight elements of 2 bytes become columns, in three rounds of interleaving.
void transpose_8x8(__m128i (&a)[8], std::byte* target, std::int64_t target_bytes) {
  __m128i b[8];
  for (int i = 0; i < 4; ++i) {
    b[2 * i] = _mm_unpacklo_epi16(a[2 * i], a[2 * i + 1]);
    b[2 * i + 1] = _mm_unpackhi_epi16(a[2 * i], a[2 * i + 1]);
  }
  for (int half = 0; half < 2; ++half) {
    for (int i = 0; i < 2; ++i) {
      a[4 * half + 2 * i] = _mm_unpacklo_epi32(b[4 * half + i], b[4 * half + i + 2]);
      a[4 * half + 2 * i + 1] = _mm_unpackhi_epi32(b[4 * half + i], b[4 * half + i + 2]);
    }
  }
  for (int i = 0; i < 4; ++i) {
    store16(target + (2 * i) * target_bytes, _mm_unpacklo_epi64(a[i], a[i + 4]));
    store16(target + (2 * i + 1) * target_bytes, _mm_unpackhi_epi64(a[i], a[i + 4]));
  }
}

/// 8 x 8 elements of 2 bytes.
void transpose_block(const std::byte* source, std::int64_t source_bytes, std::byte* target,
                     std::int64_t target_bytes, std::integral_constant<std::size_t, 2>) {
  __m128i rows[8];
  for (int i = 0; i < 8; ++i) {
    rows[i] = load16(source + i * source_bytes);
  }
  transpose_8x8(rows, target, target_bytes);
}

/// The same from a source whose elements lie two apart.
void transpose_pairs(const std::byte* source, std::int64_t source_bytes, std::byte* target,
                     std::int64_t target_bytes) {
  __m128i rows[8];
  for (int i = 0; i < 8; ++i) {
    rows[i] = every_second(source + i * source_bytes);
  }
  transpose_8x8(rows, target, target_bytes);
}
/// 4 x 4 elements of 4 bytes.
void transpose_block(const std::byte* source, std::int64_t source_bytes, std::byte* target,
                     std::int64_t target_bytes, std::integral_constant<std::size_t, 4>) {
  const __m128i a = load16(source);
  const __m128i b = load16(source + source_bytes);
  const __m128i c = load16(source + 2 * source_bytes);
  const __m128i d = load16(source + 3 * source_bytes);
  const __m128i ab_low = _mm_unpacklo_epi32(a, b);
  const __m128i ab_high = _mm_unpackhi_epi32(a, b);
  const __m128i cd_low = _mm_unpacklo_epi32(c, d);
  const __m128i cd_high = _mm_unpackhi_epi32(c, d);
  store16(target, _mm_unpacklo_epi64(ab_low, cd_low));
  store16(target + target_bytes, _mm_unpackhi_epi64(ab_low, cd_low));
  store16(target + 2 * target_bytes, _mm_unpacklo_epi64(ab_high, cd_high));
  store16(target + 3 * target_bytes, _mm_unpackhi_epi64(ab_high, cd_high));
}

#endif

/// Square tiles keep both sides in cache.
constexpr std::int64_t kTile = 64;
[[maybe_unused]] constexpr std::int64_t kLine = 64;

#if defined(__x86_64__)
/// Whole blocks of one tile; returns how far they reach along both of its sides.
template <std::size_t kBytes>
std::pair<std::int64_t, std::int64_t> transpose_blocks(const Transpose& shape,
                                                       const std::byte* source, std::byte* target) {
  constexpr auto kSize = static_cast<std::int64_t>(kBytes);
  constexpr std::int64_t kBlock = kBytes == 2 ? 8 : 4;
  const bool pairs = kBytes == 2 && shape.source_unit == 2;
  if (shape.source_unit != 1 && !pairs) {
    return {0, 0};
  }
  // Pairs read one element beyond a block, which the last one of a tensor does not have.
  const std::int64_t rows = (shape.rows - (pairs ? 1 : 0)) / kBlock * kBlock;
  const std::int64_t columns = shape.columns / kBlock * kBlock;
  for (std::int64_t j = 0; j < columns; j += kBlock) {
    for (std::int64_t i = 0; i < rows; i += kBlock) {
      const std::byte* from = source + (j * shape.source_step + i * shape.source_unit) * kSize;
      std::byte* to = target + (i * shape.target_step + j) * kSize;
      if constexpr (kBytes == 2) {
        if (pairs) {
          transpose_pairs(from, shape.source_step * kSize, to, shape.target_step * kSize);
          continue;
        }
      }
      transpose_block(from, shape.source_step * kSize, to, shape.target_step * kSize,
                      std::integral_constant<std::size_t, kBytes>{});
    }
  }
  return {rows, columns};
}
#endif

template <std::size_t kBytes>
void transpose_tile(bool vectors, const Transpose& shape, const std::byte* source,
                    std::byte* target) {
  std::pair<std::int64_t, std::int64_t> done{0, 0};
#if defined(__x86_64__)
  if constexpr (kBytes == 2 || kBytes == 4) {
    if (vectors) {
      done = transpose_blocks<kBytes>(shape, source, target);
    }
  }
#endif
  static_cast<void>(vectors);
  transpose_scalar<kBytes>(shape, 0, done.first, done.second, shape.columns, source, target);
  transpose_scalar<kBytes>(shape, done.first, shape.rows, 0, shape.columns, source, target);
}

void transpose_tile(Isa isa, const Transpose& shape, std::size_t element_bytes,
                    const std::byte* source, std::byte* target) {
  const bool vectors = isa != Isa::Scalar;
  switch (element_bytes) {
    case 1:
      return transpose_tile<1>(vectors, shape, source, target);
    case 2:
      return transpose_tile<2>(vectors, shape, source, target);
    case 4:
      return transpose_tile<4>(vectors, shape, source, target);
    default:
      return transpose_tile<8>(vectors, shape, source, target);
  }
}

/// Fetches the tile behind this one along the rows of the source while this one is turned.
void fetch_next_tile([[maybe_unused]] const Transpose& part, [[maybe_unused]] std::int64_t size,
                     [[maybe_unused]] const std::byte* source) {
#if defined(__x86_64__)
  const std::int64_t width = kTile * part.source_unit * size;
  for (std::int64_t j = 0; j < part.columns; ++j) {
    for (std::int64_t k = 0; k < width; k += kLine) {
      const std::byte* at = source + j * part.source_step * size;
      _mm_prefetch(reinterpret_cast<const char*>(reinterpret_cast<std::uintptr_t>(at) +
                                                 static_cast<std::uintptr_t>(width + k)),
                   _MM_HINT_T1);
    }
  }
#endif
}

/// Calls `visit(part, source offset, target offset)` for every tile, offsets in elements; stops
/// when it returns false.
template <class Visit>
bool for_each_tile(const Transpose& shape, const Visit& visit) {
  for (std::int64_t j = 0; j < shape.columns; j += kTile) {
    for (std::int64_t i = 0; i < shape.rows; i += kTile) {
      const Transpose part{std::min(kTile, shape.rows - i), std::min(kTile, shape.columns - j),
                           shape.source_unit, shape.source_step, shape.target_step};
      if (!visit(part, j * shape.source_step + i * shape.source_unit, i * shape.target_step + j)) {
        return false;
      }
    }
  }
  return true;
}

}  // namespace

void copy_transpose(Isa isa, const Transpose& shape, std::size_t element_bytes,
                    const std::byte* source, std::byte* target) {
  const auto size = static_cast<std::int64_t>(element_bytes);
  for_each_tile(shape, [&](const Transpose& part, std::int64_t from, std::int64_t to) {
    transpose_tile(isa, part, element_bytes, source + from * size, target + to * size);
    return true;
  });
}

void stream_transpose(Isa isa, const Transpose& shape, std::size_t element_bytes,
                      const std::byte* source, std::byte* target) {
  const auto size = static_cast<std::int64_t>(element_bytes);
  alignas(64) std::byte tile[kTile * kTile * 8];
  for_each_tile(shape, [&](Transpose part, std::int64_t from, std::int64_t to) {
    part.target_step = kTile;
    fetch_next_tile(part, size, source + from * size);
    transpose_tile(isa, part, element_bytes, source + from * size, tile);
    for (std::int64_t i = 0; i < part.rows; ++i) {
      stream_bytes(isa, tile + i * kTile * size, target + (to + i * shape.target_step) * size,
                   part.columns * size);
    }
    return true;
  });
}

bool equal_transpose(Isa isa, const Transpose& shape, std::size_t element_bytes,
                     const std::byte* source, const std::byte* target) {
  const auto size = static_cast<std::int64_t>(element_bytes);
  alignas(64) std::byte tile[kTile * kTile * 8];
  return for_each_tile(shape, [&](Transpose part, std::int64_t from, std::int64_t to) {
    part.target_step = kTile;
    transpose_tile(isa, part, element_bytes, source + from * size, tile);
    return equal_rows(isa, {part.rows, part.columns * size, kTile * size, shape.target_step * size},
                      tile, target + to * size);
  });
}

}  // namespace bv::exec

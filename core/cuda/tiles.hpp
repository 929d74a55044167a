#pragma once
// Transposes: moves whose innermost axis on one side is not the innermost on the other. A tile of
// 32 x 32 elements, of 64 x 64 where they are small, is read along the source and written along the
// target, so that neighbours of a warp touch neighbouring bytes on both sides. The same code runs
// on the host, with one thread.

#include <cstddef>
#include <cstdint>

#include "core/cuda/element.hpp"

namespace bv::cuda {

inline constexpr std::int64_t kTile = 32;
inline constexpr std::int64_t kSmallTile = 64;  // of elements of 1 or 2 bytes: as many bytes

/// A move of elements in tiles. `across` is the axis along which the source is dense, `down` that
/// of the target; the others are `outer`, in elements.
struct TileMove {
  layout::Box outer;
  std::int64_t across = 0;       // extent of the axis that is dense in the source
  std::int64_t down = 0;         // of the one that is dense in the target
  std::int64_t across_step = 0;  // its stride in the target
  std::int64_t down_step = 0;    // its stride in the source
  std::int64_t first = 0;        // of all tiles of a launch, the first of this piece
  const std::byte* source = nullptr;
  std::byte* target = nullptr;
  double add = 0;
  DType from = DType::F32;  // where bits are moved, both have the same width
  DType to = DType::F32;
  std::int32_t size_from = 4;  // bytes of an element: 1, 2, 4 or 8
  std::int32_t size_to = 4;
  bool computes = false;
};
static_assert(std::is_trivially_copyable_v<TileMove>);

[[nodiscard]] BV_HOST_DEVICE constexpr bool is_small(const TileMove& move) {
  return move.size_from <= 2 && move.size_to <= 2;
}
[[nodiscard]] BV_HOST_DEVICE constexpr std::int64_t tile_of(const TileMove& move) {
  return is_small(move) ? kSmallTile : kTile;
}
[[nodiscard]] BV_HOST_DEVICE constexpr std::int64_t tiles_along(std::int64_t extent,
                                                                std::int64_t tile) {
  return (extent + tile - 1) / tile;
}
[[nodiscard]] BV_HOST_DEVICE constexpr std::int64_t tile_count(const TileMove& move) {
  return move.outer.elements() * tiles_along(move.across, tile_of(move)) *
         tiles_along(move.down, tile_of(move));
}

/// Where one tile begins, and how much of it is there. Without defaults: a block shares one.
struct TilePlace {
  const std::byte* source;
  std::byte* target;
  std::int64_t across;
  std::int64_t down;
};
[[nodiscard]] BV_HOST_DEVICE constexpr std::int64_t least(std::int64_t a, std::int64_t b) {
  return a < b ? a : b;
}
[[nodiscard]] BV_HOST_DEVICE inline TilePlace tile_place(const TileMove& move,
                                                         std::int64_t number) {
  const std::int64_t tile = tile_of(move);
  const std::int64_t across = tiles_along(move.across, tile);
  const std::int64_t all = across * tiles_along(move.down, tile);
  const std::int64_t here = number % all;
  const std::int64_t i = here % across * tile;
  const std::int64_t j = here / across * tile;
  const layout::BoxPlace outer = layout::place_of(move.outer, number / all);
  TilePlace out;
  out.source = move.source + (outer.source + i + j * move.down_step) * move.size_from;
  out.target = move.target + (outer.target + i * move.across_step + j) * move.size_to;
  out.across = least(tile, move.across - i);
  out.down = least(tile, move.down - j);
  return out;
}

namespace element {

[[nodiscard]] BV_HOST_DEVICE inline std::uint64_t read_any(const std::byte* at, int bytes) {
  return bytes == 1 ? static_cast<std::uint64_t>(*at) : read(at, bytes);
}
BV_HOST_DEVICE inline void write_any(std::byte* at, std::uint64_t bits, int bytes) {
  if (bytes == 1) {
    *at = static_cast<std::byte>(bits);
  } else {
    write(at, bits, bytes);
  }
}

}  // namespace element

/// A tile whose elements are held as Word each.
template <class Word, std::int64_t kSide>
struct Tile {
  static BV_HOST_DEVICE void read(const TileMove& move, const TilePlace& at, Word* buffer,
                                  std::int64_t thread, std::int64_t threads) {
    for (std::int64_t n = thread; n < kSide * kSide; n += threads) {
      const std::int64_t i = n % kSide;
      const std::int64_t j = n / kSide;
      if (i < at.across && j < at.down) {
        buffer[j * (kSide + 1) + i] = static_cast<Word>(element::read_any(
            at.source + (i + j * move.down_step) * move.size_from, move.size_from));
      }
    }
  }
  static BV_HOST_DEVICE void write(const TileMove& move, const TilePlace& at, const Word* buffer,
                                   std::int64_t thread, std::int64_t threads) {
    for (std::int64_t n = thread; n < kSide * kSide; n += threads) {
      const std::int64_t j = n % kSide;
      const std::int64_t i = n / kSide;
      if (i < at.across && j < at.down) {
        std::uint64_t bits = buffer[j * (kSide + 1) + i];
        if (move.add != 0) {
          bits = element::add(bits, move.from, move.add);
        }
        if (move.computes) {
          bits = element::cast(bits, move.from, move.to);
        }
        element::write_any(at.target + (i * move.across_step + j) * move.size_to, bits,
                           move.size_to);
      }
    }
  }
};
using SmallTile = Tile<std::uint32_t, kSmallTile>;
using WideTile = Tile<std::uint64_t, kTile>;

/// What the threads of a block share; a column more than a tile has: no bank twice.
union TileBuffer {
  std::uint32_t small[kSmallTile * (kSmallTile + 1)];
  std::uint64_t wide[kTile * (kTile + 1)];
};

/// The part of thread `thread` of `threads`: elements of the tile into `buffer`, along the source.
/// Then, when all have, `write_tile` brings them to the target.
BV_HOST_DEVICE inline void read_tile(const TileMove& move, const TilePlace& at, TileBuffer& buffer,
                                     std::int64_t thread, std::int64_t threads) {
  if (is_small(move)) {
    SmallTile::read(move, at, buffer.small, thread, threads);
  } else {
    WideTile::read(move, at, buffer.wide, thread, threads);
  }
}
BV_HOST_DEVICE inline void write_tile(const TileMove& move, const TilePlace& at,
                                      const TileBuffer& buffer, std::int64_t thread,
                                      std::int64_t threads) {
  if (is_small(move)) {
    SmallTile::write(move, at, buffer.small, thread, threads);
  } else {
    WideTile::write(move, at, buffer.wide, thread, threads);
  }
}

}  // namespace bv::cuda

#include "core/cuda/moves.hpp"

#include <algorithm>
#include <optional>

namespace bv::cuda {
namespace {

using layout::BoxAxis;
using layout::BoxPiece;

std::int64_t extent_of(const BoxPiece& piece, std::size_t axis) {
  return axis == 0 ? piece.extent : piece.axes[axis].extent;
}

/// The piece as a box over elements that begins at offset 0 on both ends.
layout::Box box_of(const BoxPiece& piece) {
  layout::Box out;
  out.source = piece.source;
  for (std::size_t i = 0; i < piece.axes.size(); ++i) {
    const BoxAxis& axis = piece.axes[i];
    out.axes.push_back({extent_of(piece, i), axis.source_stride, axis.target_stride});
  }
  return out;
}

/// The widest unit that divides the inner run, every other step and both addresses.
int unit_of(const layout::Box& box, bool has_source, std::int64_t size, const std::byte* source,
            const std::byte* target) {
  std::uint64_t all = reinterpret_cast<std::uintptr_t>(target);
  all |= has_source ? reinterpret_cast<std::uintptr_t>(source) : 0;
  const bool runs = !box.axes.empty() && box.axes.back().target_stride == 1 &&
                    (!has_source || box.axes.back().source_stride == 1);
  const std::int64_t run = runs ? box.axes.back().extent : 1;
  all |= static_cast<std::uint64_t>(run * size);
  for (std::size_t i = 0; i + (runs ? 1 : 0) < box.axes.size(); ++i) {
    all |= static_cast<std::uint64_t>(box.axes[i].target_stride * size);
    all |= has_source ? static_cast<std::uint64_t>(box.axes[i].source_stride * size) : 0;
  }
  int unit = 16;
  while (unit > 1 && all % static_cast<std::uint64_t>(unit) != 0) {
    unit /= 2;
  }
  return unit;
}

/// Elements that a thread computes at once: those of a run, where each begins at 16 bytes.
int values_at_once(const layout::Box& box, const std::byte* source, const std::byte* target) {
  const std::uint64_t both =
      reinterpret_cast<std::uintptr_t>(source) | reinterpret_cast<std::uintptr_t>(target);
  if (both % 16 != 0 || box.axes.empty() || box.axes.back().source_stride != 1 ||
      box.axes.back().target_stride != 1 || box.axes.back().extent % kValues != 0) {
    return 1;
  }
  const bool steps = std::all_of(box.axes.begin(), box.axes.end() - 1, [](const BoxAxis& axis) {
    return axis.source_stride % kValues == 0 && axis.target_stride % kValues == 0;
  });
  return steps ? kValues : 1;
}

/// The same box over units.
layout::Box in_units(const layout::Box& box, std::int64_t size, int unit) {
  layout::Box out;
  out.source = box.source;
  std::int64_t run = size;  // bytes that lie side by side at the end of the axes
  std::size_t axes = box.axes.size();
  const bool runs = axes > 0 && box.axes.back().target_stride == 1 &&
                    (box.source < 0 || box.axes.back().source_stride == 1);
  if (runs) {
    run = box.axes.back().extent * size;
    --axes;
  }
  for (std::size_t i = 0; i < axes; ++i) {
    const BoxAxis& axis = box.axes[i];
    out.axes.push_back(
        {axis.extent, axis.source_stride * size / unit, axis.target_stride * size / unit});
  }
  if (run > unit) {
    out.axes.push_back({run / unit, 1, 1});
  }
  return out;
}

Move move_of(const move::MoveTask& task, const BoxPiece& piece, std::span<const Staged> staged,
             std::byte* target) {
  Move out;
  out.to = task.dtype;
  const std::int64_t to = bytes(task.dtype);
  out.target = target + (piece.target_offset - task.begin) * to;
  const layout::Box box = box_of(piece);
  if (piece.source < 0) {
    out.kind = Move::Kind::Zero;
    out.unit = unit_of(box, false, to, nullptr, out.target);
    out.box = in_units(box, to, out.unit);
    return out;
  }
  const auto at = static_cast<std::size_t>(piece.source);
  out.from = task.sources[at].dtype;
  const std::int64_t from = bytes(out.from);
  out.source = staged[at].first + (piece.source_offset - staged[at].begin) * from;
  if (out.from == out.to && task.add == 0) {
    out.unit = unit_of(box, true, to, out.source, out.target);
    out.box = in_units(box, to, out.unit);
    return out;
  }
  out.kind = Move::Kind::Value;
  out.add = task.add;
  out.unit = values_at_once(box, out.source, out.target);
  out.box = in_units(box, 1, out.unit);
  return out;
}

/// Short axes are not worth a tile: most of it would be empty.
constexpr std::int64_t kTiledFrom = 16;

/// The move in tiles, when the source is dense along an axis that is not the target's innermost.
std::optional<TileMove> in_tiles(const Move& move, const layout::Box& box) {
  const std::size_t last = box.axes.empty() ? 0 : box.axes.size() - 1;
  if (move.kind == Move::Kind::Zero || box.axes.size() < 2 || box.axes[last].target_stride != 1 ||
      box.axes[last].source_stride == 1) {
    return std::nullopt;
  }
  const auto* dense = std::find_if(box.axes.begin(), box.axes.end(),
                                   [](const BoxAxis& axis) { return axis.source_stride == 1; });
  if (dense == box.axes.end() || dense->extent < kTiledFrom || box.axes[last].extent < kTiledFrom) {
    return std::nullopt;
  }
  TileMove out;
  out.outer.source = box.source;
  for (const BoxAxis* axis = box.axes.begin(); axis != box.axes.end(); ++axis) {
    if (axis != dense && axis != &box.axes[last]) {
      out.outer.axes.push_back(*axis);
    }
  }
  out.across = dense->extent;
  out.across_step = dense->target_stride;
  out.down = box.axes[last].extent;
  out.down_step = box.axes[last].source_stride;
  out.source = move.source;
  out.target = move.target;
  out.add = move.add;
  out.from = move.from;
  out.to = move.to;
  out.size_from = static_cast<std::int32_t>(bytes(move.from));
  out.size_to = static_cast<std::int32_t>(bytes(move.to));
  out.computes = move.kind == Move::Kind::Value;
  return out;
}

}  // namespace

void MoveList::clear() {
  moves.clear();
  transposes.clear();
  units = tiles = 0;
}

std::vector<Staged> reads_of(std::span<const BoxPiece> pieces, std::size_t sources) {
  std::vector<Staged> out(sources);
  for (const BoxPiece& piece : pieces) {
    if (piece.source < 0 || piece.elements() == 0) {
      continue;
    }
    std::int64_t first = piece.source_offset;
    std::int64_t last = first;
    for (std::size_t i = 0; i < piece.axes.size(); ++i) {
      const std::int64_t reach = (extent_of(piece, i) - 1) * piece.axes[i].source_stride;
      first += std::min<std::int64_t>(reach, 0);
      last += std::max<std::int64_t>(reach, 0);
    }
    Staged& one = out[static_cast<std::size_t>(piece.source)];
    const bool fresh = one.begin == one.end;
    one.begin = fresh ? first : std::min(one.begin, first);
    one.end = fresh ? last + 1 : std::max(one.end, last + 1);
  }
  return out;
}

void moves_of(const move::MoveTask& task, std::span<const Staged> staged, std::byte* target,
              MoveList& out) {
  for (const BoxPiece& piece : task.pieces) {
    if (piece.elements() == 0) {
      continue;
    }
    Move one = move_of(task, piece, staged, target);
    if (auto tiled = in_tiles(one, box_of(piece))) {
      tiled->first = out.tiles;
      out.tiles += tile_count(*tiled);
      out.transposes.push_back(*tiled);
      continue;
    }
    one.first = out.units;
    out.units += one.box.elements();
    out.moves.push_back(one);
  }
}

}  // namespace bv::cuda

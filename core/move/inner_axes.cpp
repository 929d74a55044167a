#include "core/move/inner_axes.hpp"

#include <algorithm>

namespace bv::move {

std::int64_t extent_of(const layout::BoxPiece& piece, std::size_t axis) {
  return axis == 0 ? piece.extent : piece.axes[axis].extent;
}

namespace {

Inner rows_of(const layout::BoxPiece& piece, std::size_t size) {
  const auto bytes = static_cast<std::int64_t>(size);
  Inner out;
  out.first = piece.axes.size() - 1;
  out.rows = {1, extent_of(piece, out.first) * bytes, 0, 0};
  if (piece.axes.size() > 1) {
    out.second = piece.axes.size() - 2;
    const layout::BoxAxis& outer = piece.axes[out.second];
    out.rows.count = extent_of(piece, out.second);
    out.rows.source_step = outer.source_stride * bytes;
    out.rows.target_step = outer.target_stride * bytes;
  }
  return out;
}

}  // namespace

Inner inner_of(const layout::BoxPiece& piece, std::size_t size) {
  const auto bytes = static_cast<std::int64_t>(size);
  if (piece.axes.empty()) {
    return {Inner::Kind::Rows, kNone, kNone, {1, bytes, 0, 0}, {}};
  }
  const std::size_t last = piece.axes.size() - 1;
  const layout::BoxAxis& inner = piece.axes[last];
  if (inner.target_stride == 1 && (inner.source_stride == 1 || piece.source < 0)) {
    return rows_of(piece, size);
  }
  Inner out;
  out.kind = Inner::Kind::Elements;
  out.first = last;
  out.rows = {extent_of(piece, last), bytes, inner.source_stride * bytes,
              inner.target_stride * bytes};
  if (inner.target_stride > kUnitMax || inner.source_stride <= kUnitMax || piece.source < 0) {
    return out;
  }
  for (std::size_t i = 0; i < last; ++i) {
    const layout::BoxAxis& axis = piece.axes[i];
    if (axis.source_stride >= 1 && axis.source_stride <= kUnitMax &&
        (out.second == kNone || axis.source_stride < piece.axes[out.second].source_stride)) {
      out.second = i;
    }
  }
  if (out.second != kNone) {
    const layout::BoxAxis& axis = piece.axes[out.second];
    out.kind = Inner::Kind::Tiles;
    out.tiles.rows = extent_of(piece, out.second);
    out.tiles.columns = extent_of(piece, last);
    out.tiles.source_unit = axis.source_stride;
    out.tiles.source_step = inner.source_stride;
    out.tiles.target_step = axis.target_stride;
    out.tiles.target_unit = inner.target_stride;
  }
  return out;
}

namespace {

/// Do the first `ways` pieces differ in nothing but their offsets, one side's by 1 and the other's
/// by `way` from each to the next?
bool alternate(std::span<const layout::BoxPiece> pieces, std::int64_t ways, bool at_source,
               std::int64_t& way) {
  if (static_cast<std::int64_t>(pieces.size()) < ways) {
    return false;
  }
  const layout::BoxPiece& first = pieces.front();
  for (std::int64_t k = 1; k < ways; ++k) {
    const layout::BoxPiece& one = pieces[static_cast<std::size_t>(k)];
    const std::int64_t source = one.source_offset - first.source_offset;
    const std::int64_t target = one.target_offset - first.target_offset;
    way = k == 1 ? (at_source ? target : source) : way;
    if (one.source != first.source || one.extent != first.extent ||
        !std::equal(one.axes.begin(), one.axes.end(), first.axes.begin(), first.axes.end()) ||
        (at_source ? source : target) != k || (at_source ? target : source) != k * way) {
      return false;
    }
  }
  return true;
}

}  // namespace

Joined join_pieces(std::span<const layout::BoxPiece> pieces, std::size_t size) {
  Joined out{inner_of(pieces.front(), size), 1};
  Transpose& tiles = out.inner.tiles;
  if (out.inner.kind != Inner::Kind::Tiles) {
    return out;
  }
  const std::int64_t from = tiles.source_unit;
  const std::int64_t to = tiles.target_unit;
  if (from > 1 && to == 1 && alternate(pieces, from, true, tiles.row_way)) {
    tiles.row_ways = from;
    tiles.rows *= from;
    tiles.source_unit = 1;
    out.count = static_cast<std::size_t>(from);
  } else if (to > 1 && from == 1 && alternate(pieces, to, false, tiles.column_way)) {
    tiles.column_ways = to;
    tiles.columns *= to;
    tiles.target_unit = 1;
    out.count = static_cast<std::size_t>(to);
  }
  return out;
}

}  // namespace bv::move

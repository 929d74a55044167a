#include "core/exec/inner_axes.hpp"

namespace bv::exec {

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
  if (inner.target_stride != 1 || inner.source_stride <= kUnitMax || piece.source < 0) {
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
    out.tiles = {extent_of(piece, out.second), extent_of(piece, last), axis.source_stride,
                 inner.source_stride, axis.target_stride};
  }
  return out;
}

}  // namespace bv::exec

#include "core/layout/box.hpp"

#include <algorithm>

namespace bv::layout {

std::int64_t span_of(const Box& box, std::size_t first) {
  std::int64_t span = 1;
  for (std::size_t i = first; i < box.axes.size(); ++i) {
    span += (box.axes[i].extent - 1) * box.axes[i].target_stride;
  }
  return span;
}

namespace {

struct Place {
  std::int64_t source = 0;
  std::int64_t target = 0;
};

void emit(const Box& box, std::size_t first, Place at, std::int64_t extent,
          std::vector<BoxPiece>& out) {
  out.push_back({box.source, at.source, at.target, extent,
                 std::span(box.axes.begin() + first, box.axes.end())});
}

void clip(const Box& box, std::size_t axis, Place at, std::int64_t begin, std::int64_t end,
          std::vector<BoxPiece>& out) {
  const std::int64_t span = span_of(box, axis);
  if (at.target >= end || at.target + span <= begin) {
    return;
  }
  if (at.target >= begin && at.target + span <= end) {
    emit(box, axis, at, axis < box.axes.size() ? box.axes[axis].extent : 1, out);
    return;
  }
  const BoxAxis& outer = box.axes[axis];
  const std::int64_t inner = span_of(box, axis + 1);
  const std::int64_t step = outer.target_stride;
  // First position not wholly before the window, first one not wholly inside it, first one wholly
  // after it.
  const std::int64_t low =
      begin - at.target - inner < 0 ? 0 : (begin - at.target - inner) / step + 1;
  const std::int64_t full_low =
      std::max<std::int64_t>(0, begin <= at.target ? 0 : (begin - at.target + step - 1) / step);
  const std::int64_t full_high = std::min(
      outer.extent, end - at.target - inner < 0 ? 0 : (end - at.target - inner) / step + 1);
  const std::int64_t high = std::min(outer.extent, (end - at.target + step - 1) / step);
  const auto place = [&](std::int64_t i) {
    return Place{at.source + i * outer.source_stride, at.target + i * step};
  };
  const std::int64_t head_end = std::min(std::max(full_low, low), high);
  for (std::int64_t i = low; i < head_end; ++i) {
    clip(box, axis + 1, place(i), begin, end, out);
  }
  if (full_high > full_low) {
    emit(box, axis, place(full_low), full_high - full_low, out);
  }
  for (std::int64_t i = std::max({full_high, head_end, low}); i < high; ++i) {
    clip(box, axis + 1, place(i), begin, end, out);
  }
}

}  // namespace

void normalise(Box& box) {
  box.axes.shrink(collapse({box.axes.begin(), box.axes.end()}));
}

std::size_t collapse(std::span<BoxAxis> axes) {
  // Insertion keeps equal strides in order and needs no memory; boxes have few axes.
  std::size_t sorted = 0;
  for (std::size_t i = 0; i < axes.size(); ++i) {
    const BoxAxis axis = axes[i];
    if (axis.extent == 1) {
      continue;
    }
    std::size_t k = sorted++;
    for (; k > 0 && axes[k - 1].target_stride < axis.target_stride; --k) {
      axes[k] = axes[k - 1];
    }
    axes[k] = axis;
  }
  std::size_t kept = 0;
  for (const BoxAxis& axis : axes.first(sorted)) {
    if (kept > 0) {
      BoxAxis& outer = axes[kept - 1];
      if (outer.target_stride == axis.target_stride * axis.extent &&
          outer.source_stride == axis.source_stride * axis.extent) {
        outer = BoxAxis{outer.extent * axis.extent, axis.source_stride, axis.target_stride};
        continue;
      }
    }
    axes[kept++] = axis;
  }
  return kept;
}

void clip_to_target(const Box& box, std::int64_t begin, std::int64_t end, std::vector<Box>& out) {
  if (box.elements() == 0 || begin >= end) {
    return;
  }
  std::vector<BoxPiece> pieces;
  pieces_in(box, begin, end, pieces);
  for (const BoxPiece& piece : pieces) {
    Box part;
    part.source = piece.source;
    part.part = box.part;
    part.source_offset = piece.source_offset;
    part.target_offset = piece.target_offset;
    for (const BoxAxis& axis : piece.axes) {
      part.axes.push_back(axis);
    }
    if (!part.axes.empty() && part.axes.front().extent != piece.extent) {
      part.axes.front().extent = piece.extent;
      normalise(part);
    }
    out.push_back(part);
  }
}

std::int64_t BoxPiece::elements() const {
  std::int64_t count = axes.empty() ? 1 : extent;
  for (std::size_t i = 1; i < axes.size(); ++i) {
    count *= axes[i].extent;
  }
  return count;
}

BoxPiece whole(const Box& box) {
  return {box.source,
          box.source_offset,
          box.target_offset,
          box.axes.empty() ? 1 : box.axes.front().extent,
          {box.axes.begin(), box.axes.end()}};
}

void pieces_in(const Box& box, std::int64_t begin, std::int64_t end, std::vector<BoxPiece>& out) {
  if (begin >= end || box.elements() == 0) {
    return;
  }
  clip(box, 0, Place{box.source_offset, box.target_offset}, begin, end, out);
}

Box inverse(const Box& box, int new_source) {
  Box out;
  out.part = box.part;
  inverse(whole(box), new_source, out);
  return out;
}

void inverse(const BoxPiece& piece, int new_source, Box& out) {
  out.source = new_source;
  out.source_offset = piece.target_offset;
  out.target_offset = piece.source_offset;
  out.axes.clear();
  for (std::size_t i = 0; i < piece.axes.size(); ++i) {
    const BoxAxis& axis = piece.axes[i];
    if (axis.source_stride != 0) {
      out.axes.push_back(
          BoxAxis{i == 0 ? piece.extent : axis.extent, axis.target_stride, axis.source_stride});
    }
  }
  normalise(out);
}

}  // namespace bv::layout

#include "core/layout/regions.hpp"

#include <algorithm>
#include <optional>
#include <utility>

namespace bv::layout {
namespace {

/// Distance of neighbours along each dimension.
Shape strides_of(const Shape& shape) {
  Shape out(shape.size(), 1);
  for (std::size_t i = shape.size(); i-- > 1;) {
    out[i - 1] = out[i] * shape[i];
  }
  return out;
}

/// One axis of a box that moves along one dimension of the source.
struct DimAxis {
  std::int64_t extent = 1;
  std::int64_t step = 1;  // in that dimension
  std::int64_t target_stride = 0;
};

/// A box whose axes each move along one dimension of its source, so that a region cuts every
/// dimension by itself.
struct ByDimension {
  Shape first;                             // index of the first element
  std::vector<std::vector<DimAxis>> axes;  // by dimension
  std::vector<BoxAxis> repeats;            // axes that stay where they are at the source
};

/// Parts an axis into one for each dimension that it passes through. False when it carries from one
/// into the next in the middle of it.
bool add_axis(BoxAxis axis, const Shape& shape, const Shape& strides, ByDimension& out) {
  if (axis.source_stride == 0) {
    out.repeats.push_back(axis);
    return true;
  }
  for (std::size_t dim = shape.size(); dim-- > 0 && axis.extent > 1;) {
    if (dim > 0 && axis.source_stride >= strides[dim - 1]) {
      continue;
    }
    if (axis.source_stride % strides[dim] != 0) {
      return false;
    }
    const std::int64_t step = axis.source_stride / strides[dim];
    const std::int64_t here = (shape[dim] - 1) / step + 1;  // as many as the dimension holds
    if (axis.extent <= here || dim == 0) {
      out.axes[dim].push_back({axis.extent, step, axis.target_stride});
      return true;
    }
    if (shape[dim] % step != 0 || axis.extent % here != 0) {
      return false;
    }
    if (here > 1) {
      out.axes[dim].push_back({here, step, axis.target_stride});
    }
    axis = {axis.extent / here, axis.source_stride * here, axis.target_stride * here};
  }
  return true;
}

std::optional<ByDimension> by_dimension(const Box& box, const Shape& shape) {
  const Shape strides = strides_of(shape);
  ByDimension out;
  out.axes.resize(shape.size());
  std::int64_t left = box.source_offset;
  for (const std::int64_t stride : strides) {
    out.first.push_back(left / stride);
    left %= stride;
  }
  std::size_t count = 0;
  for (const BoxAxis& axis : box.axes) {
    if (!add_axis(axis, shape, strides, out)) {
      return std::nullopt;
    }
  }
  for (std::size_t dim = 0; dim < shape.size(); ++dim) {
    std::int64_t last = out.first[dim];
    for (const DimAxis& axis : out.axes[dim]) {
      last += (axis.extent - 1) * axis.step;
    }
    if (last >= shape[dim]) {
      return std::nullopt;  // the axes together carry into the next dimension
    }
    count += out.axes[dim].size();
  }
  return count + out.repeats.size() <= kBoxAxesMax ? std::optional(std::move(out)) : std::nullopt;
}

/// What a region leaves of the axes of one dimension.
struct DimPiece {
  std::int64_t first = 0;  // in the region
  std::int64_t target = 0;
  std::vector<DimAxis> axes;
};

std::vector<DimPiece> clip_dimension(std::int64_t first, const std::vector<DimAxis>& axes,
                                     std::int64_t begin, std::int64_t extent) {
  Box line;  // the dimension stands for the target
  line.target_offset = first;
  for (const DimAxis& axis : axes) {
    line.axes.push_back({axis.extent, axis.target_stride, axis.step});
  }
  normalise(line);
  std::vector<BoxPiece> pieces;
  pieces_in(line, begin, begin + extent, pieces);
  std::vector<DimPiece> out;
  for (const BoxPiece& piece : pieces) {
    DimPiece one{piece.target_offset - begin, piece.source_offset, {}};
    for (std::size_t i = 0; i < piece.axes.size(); ++i) {
      one.axes.push_back({i == 0 ? piece.extent : piece.axes[i].extent, piece.axes[i].target_stride,
                          piece.axes[i].source_stride});
    }
    out.push_back(std::move(one));
  }
  return out;
}

/// Every choice of one piece a dimension is one box.
void join_dimensions(const std::vector<std::vector<DimPiece>>& pieces, const Shape& strides,
                     std::size_t dim, const Box& so_far, std::vector<Box>& out) {
  if (dim == pieces.size()) {
    out.push_back(so_far);
    normalise(out.back());
    return;
  }
  for (const DimPiece& piece : pieces[dim]) {
    Box next = so_far;
    next.source_offset += piece.first * strides[dim];
    next.target_offset += piece.target;
    for (const DimAxis& axis : piece.axes) {
      next.axes.push_back({axis.extent, axis.step * strides[dim], axis.target_stride});
    }
    join_dimensions(pieces, strides, dim + 1, next, out);
  }
}

/// Calls `use(begin, end, at)` for every run of the region: elements [begin, end) of the source are
/// those of the region from `at` on.
template <class Use>
void for_each_run(const Shape& shape, const Region& region, const Use& use) {
  const Shape strides = strides_of(shape);
  std::size_t inner = shape.size();  // dimensions from here on are whole
  while (inner > 0 && region.extent[inner - 1] == shape[inner - 1]) {
    --inner;
  }
  const std::size_t outer = inner == 0 ? 0 : inner - 1;
  std::int64_t run = 1;
  for (std::size_t i = outer; i < shape.size(); ++i) {
    run *= region.extent[i];
  }
  std::int64_t count = 1;
  for (std::size_t i = 0; i < outer; ++i) {
    count *= region.extent[i];
  }
  for (std::int64_t number = 0; number < count; ++number) {
    std::int64_t left = number;
    std::int64_t begin = 0;
    for (std::size_t i = shape.size(); i-- > 0;) {
      std::int64_t index = region.origin[i];
      if (i < outer) {
        index += left % region.extent[i];
        left /= region.extent[i];
      }
      begin += index * strides[i];
    }
    use(begin, begin + run, number * run);
  }
}

/// The box seen from the other end, with what it repeats: clipping its target clips the source.
Box swapped(const Box& box) {
  Box out = box;
  std::swap(out.source_offset, out.target_offset);
  for (BoxAxis& axis : out.axes) {
    std::swap(axis.source_stride, axis.target_stride);
  }
  normalise(out);
  return out;
}

void by_runs(const Box& box, const Shape& shape, const Region& region, int new_source,
             std::vector<Box>& out) {
  const Box back = swapped(box);
  std::vector<Box> clipped;
  for_each_run(shape, region, [&](std::int64_t begin, std::int64_t end, std::int64_t at) {
    clipped.clear();
    clip_to_target(back, begin, end, clipped);
    for (Box& one : clipped) {
      one.target_offset += at - begin;
      out.push_back(swapped(one));
      out.back().source = new_source;
    }
  });
}

bool is_empty(const Shape& extent) {
  return std::any_of(extent.begin(), extent.end(), [](std::int64_t one) { return one == 0; });
}

}  // namespace

void over_region(const Box& box, const Shape& shape, const Region& region, int new_source,
                 std::vector<Box>& out) {
  BV_ASSERT(region.origin.size() == shape.size() && region.extent.size() == shape.size());
  if (box.elements() == 0 || is_empty(region.extent) || is_empty(shape)) {
    return;
  }
  const auto apart = by_dimension(box, shape);
  if (!apart) {
    by_runs(box, shape, region, new_source, out);
    return;
  }
  std::vector<std::vector<DimPiece>> pieces;
  for (std::size_t dim = 0; dim < shape.size(); ++dim) {
    pieces.push_back(clip_dimension(apart->first[dim], apart->axes[dim], region.origin[dim],
                                    region.extent[dim]));
  }
  Box start;
  start.source = new_source;
  start.part = box.part;
  start.target_offset = box.target_offset;
  for (const BoxAxis& axis : apart->repeats) {
    start.axes.push_back(axis);
  }
  join_dimensions(pieces, strides_of(region.extent), 0, start, out);
}

}  // namespace bv::layout

#pragma once
// Boxes over a whole tensor, as boxes over one region of it: clipped by where they read.

#include <vector>

#include "core/base/tensor_spec.hpp"
#include "core/layout/box.hpp"

namespace bv::layout {

/// Elements [origin, origin + extent) of a tensor in each dimension, held densely, row-major.
struct Region {
  Shape origin;
  Shape extent;
};

/// The parts of `box` that read elements of `region` of a source of shape `shape`, over the
/// region's own elements; `source` becomes `new_source`. Appended to `out`. Over regions that tile
/// the source the results write what `box` writes, each element once. Boxes whose axes keep within
/// dimensions, or join whole ones, cost a few boxes a region; others one or more for each run of
/// the region.
///
/// Example: rows 0 and 1 of [2, 6] as one run of 12 elements, region columns 4 and 5: two rows of
/// two elements, from elements 0 and 2 of the region, to elements 4 and 10 of the target.
void over_region(const Box& box, const Shape& shape, const Region& region, int new_source,
                 std::vector<Box>& out);

}  // namespace bv::layout

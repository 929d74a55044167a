#include "core/layout/regions.hpp"

#include <gtest/gtest.h>

#include <algorithm>
#include <map>
#include <random>
#include <utility>

#include "core/layout/notation.hpp"

namespace bv::layout {
namespace {

/// Where an element lies: region, and offset in it.
using Held = std::pair<int, std::int64_t>;
using Reads = std::map<std::int64_t, Held>;  // target -> what is read there

void walk(const Box& box, std::size_t axis, BoxPlace at, Reads& out) {
  if (axis == box.axes.size()) {
    EXPECT_TRUE(out.emplace(at.target, Held{box.source, at.source}).second)
        << "two elements on " << at.target;
    return;
  }
  for (std::int64_t i = 0; i < box.axes[axis].extent; ++i) {
    walk(box, axis + 1,
         {at.source + i * box.axes[axis].source_stride,
          at.target + i * box.axes[axis].target_stride},
         out);
  }
}

/// Cuts every dimension at one place: 2^n regions that tile the shape, some of them empty.
std::vector<Region> cut(const Shape& shape, const Shape& at) {
  std::vector<Region> out = {{shape, shape}};
  out.front().origin.assign(shape.size(), 0);
  for (std::size_t dim = 0; dim < shape.size(); ++dim) {
    std::vector<Region> next;
    for (const Region& region : out) {
      Region low = region;
      Region high = region;
      low.extent[dim] = at[dim];
      high.origin[dim] = at[dim];
      high.extent[dim] = shape[dim] - at[dim];
      next.push_back(low);
      next.push_back(high);
    }
    out = std::move(next);
  }
  return out;
}

/// Element `flat` of the shape, by the region that holds it.
Held held_by(const std::vector<Region>& regions, const Shape& shape, std::int64_t flat) {
  Shape index(shape.size());
  for (std::size_t dim = shape.size(); dim-- > 0;) {
    index[dim] = flat % shape[dim];
    flat /= shape[dim];
  }
  for (std::size_t i = 0; i < regions.size(); ++i) {
    std::int64_t offset = 0;
    bool inside = true;
    for (std::size_t dim = 0; dim < shape.size(); ++dim) {
      const std::int64_t here = index[dim] - regions[i].origin[dim];
      inside = inside && here >= 0 && here < regions[i].extent[dim];
      offset = offset * regions[i].extent[dim] + here;
    }
    if (inside) {
      return {static_cast<int>(i), offset};
    }
  }
  return {-1, -1};
}

/// The boxes over the regions read, together, what the box reads, each element where it is held.
std::size_t expect_same_reads(const Box& box, const Shape& shape,
                              const std::vector<Region>& regions) {
  Reads wanted;
  walk(box, 0, {box.source_offset, box.target_offset}, wanted);
  for (auto& [target, held] : wanted) {
    held = held_by(regions, shape, held.second);
  }
  std::vector<Box> boxes;
  for (std::size_t i = 0; i < regions.size(); ++i) {
    over_region(box, shape, regions[i], static_cast<int>(i), boxes);
  }
  Reads found;
  for (const Box& one : boxes) {
    walk(one, 0, {one.source_offset, one.target_offset}, found);
    for (std::size_t i = 1; i < one.axes.size(); ++i) {
      EXPECT_GE(one.axes[i - 1].target_stride, one.axes[i].target_stride);
    }
  }
  EXPECT_EQ(found, wanted);
  return boxes.size();
}

TEST(OverRegion, ReadsWhatTheBoxReadsForEveryCutOfSmallLines) {
  const std::vector<std::string> lines = {
      "column x[(t o) i] -> x{t}[o i]",
      "row x[o (t i)] -> x{t}[o i]",
      "transpose x[i o] -> x[o i]",
      "qkv q[(t g n d) h], k[(t g d) h], v[(t g d) h] -> y{t}[(g (q: n d | k: d | v: d)) h]",
      "inner x[o h (f (gate: 1 | up: 1))] -> y[o (gate: f | up: f) h]",
      "conv x[(q: t a o | k: t a o) 1 h] -> x{t}[(q: a o | k: a o) 1 h]",
      "repeated x[o h] -> x[o *d h]",
  };
  std::size_t boxes = 0;
  for (const std::string& text : lines) {
    const auto rule = parse_rule(text);
    ASSERT_TRUE(rule.has_value()) << rule.error().message;
    Binding sizes;
    for (const char* axis : {"t", "o", "i", "g", "n", "d", "h", "f", "a"}) {
      sizes.axes[axis] = axis[0] == 'h' ? 3 : 2;
    }
    const auto bound = BoundRule::bind(*rule, sizes);
    ASSERT_TRUE(bound.has_value()) << bound.error().message;
    for (const std::int64_t t : {0, 1}) {
      for (const Box& box : bound->shard(0, {{"t", t}}).boxes) {
        const Shape& shape = bound->source_shapes()[static_cast<std::size_t>(box.source)];
        for (std::int64_t first = 0; first <= shape[0]; ++first) {
          for (std::int64_t last = 0; last <= shape.back(); ++last) {
            Shape at(shape.size(), 1);
            at.front() = first;
            at.back() = last;
            boxes += expect_same_reads(box, shape, cut(shape, at));
          }
        }
      }
    }
  }
  EXPECT_GT(boxes, 1000U);
}

/// Runs that begin and end in the middle of rows, strides that no dimension divides, repeats.
TEST(OverRegion, ReadsWhatTheBoxReadsForBoxesThatKeepToNoDimension) {
  std::mt19937_64 random(20261128);
  const auto upto = [&](std::int64_t most) {
    return static_cast<std::int64_t>(random() % static_cast<std::uint64_t>(most + 1));
  };
  std::size_t boxes = 0;
  for (int round = 0; round < 4000; ++round) {
    const Shape shape = {1 + upto(4), 1 + upto(3), 1 + upto(4)};
    const std::int64_t all = shape[0] * shape[1] * shape[2];
    Box box;
    box.source_offset = upto(all - 1);
    std::int64_t reach = box.source_offset;
    std::int64_t inner = 1;
    for (std::int64_t count = upto(3); count > 0; --count) {  // innermost first
      const std::int64_t stride = upto(5);
      const std::int64_t most = stride == 0 ? 2 : (all - 1 - reach) / stride;
      const std::int64_t extent = 1 + upto(std::min<std::int64_t>(most, 4));
      reach += (extent - 1) * stride;
      box.axes.push_back({extent, stride, inner});
      inner *= extent + upto(1);
    }
    normalise(box);
    boxes +=
        expect_same_reads(box, shape, cut(shape, {upto(shape[0]), upto(shape[1]), upto(shape[2])}));
  }
  EXPECT_GT(boxes, 4000U);
}

/// A plan of a large model must not become a list of rows.
TEST(OverRegion, AGridOfARowCutTensorCostsOneBoxARegion) {
  Box all;
  all.axes = {{8192 * 4096, 1, 1}};
  std::vector<Box> boxes;
  for (std::int64_t rank = 0; rank < 8; ++rank) {
    over_region(all, {8192, 4096}, {{0, rank * 512}, {8192, 512}}, static_cast<int>(rank), boxes);
  }
  ASSERT_EQ(boxes.size(), 8U);
  EXPECT_EQ(boxes[3], (Box{3, 0, 3 * 512, {{8192, 512, 4096}, {512, 1, 1}}}));
}

TEST(OverRegion, AScalarAndAnEmptyRegion) {
  std::vector<Box> boxes;
  over_region(Box{}, {}, {{}, {}}, 4, boxes);
  EXPECT_EQ(boxes, (std::vector<Box>{Box{4, 0, 0, {}}}));
  boxes.clear();
  over_region(Box{0, 0, 0, {{4, 1, 1}}}, {4}, {{2}, {0}}, 0, boxes);
  EXPECT_TRUE(boxes.empty());
}

}  // namespace
}  // namespace bv::layout

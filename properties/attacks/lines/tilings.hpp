#pragma once
// What the boxes of a line do at one binding, counted element by element: the slow, plain reading
// of "every element exactly once". For small sizes.

#include <algorithm>
#include <cstdint>
#include <map>
#include <string>
#include <vector>

#include "core/layout/box.hpp"

namespace bv::lines {

using Grid = std::map<std::string, std::int64_t, std::less<>>;

/// One target tensor at one place of the process grid.
struct GridPlace {
  std::size_t target = 0;
  Grid grid;
};
/// Calls `visit(place)` for the places with distinct contents, until one fails: grid axes and the
/// axis of the cut run through their sizes, replicas stand at 0.
template <class Visit>
[[nodiscard]] Status for_each_place(const layout::BoundRule& bound, const Visit& visit) {
  const layout::Rule& rule = bound.rule();
  GridPlace place;
  for (; place.target < rule.targets.size(); ++place.target) {
    place.grid.clear();
    for (const layout::GridAxis& axis : rule.targets[place.target].grid) {
      if (!axis.replica) {
        place.grid[axis.axis] = 0;
      }
    }
    if (rule.cut) {
      place.grid[rule.cut->axis] = 0;
    }
    bool more = std::all_of(place.grid.begin(), place.grid.end(),
                            [&](const auto& axis) { return bound.size(axis.first) > 0; });
    while (more) {
      BV_CHECK(visit(place));
      more = false;
      for (auto& [axis, at] : place.grid) {
        more = ++at < bound.size(axis);
        if (more) {
          break;
        }
        at = 0;
      }
    }
  }
  return Done{};
}
[[nodiscard]] std::vector<GridPlace> grid_places(const layout::BoundRule& bound);

/// Calls `visit(source, target)` for every element of the box, in any order.
template <class Visit>
void for_each_element(const layout::Box& box, const Visit& visit) {
  std::vector<std::int64_t> at(box.axes.size(), 0);
  for (std::int64_t left = box.elements(); left > 0; --left) {
    std::int64_t source = box.source_offset;
    std::int64_t target = box.target_offset;
    for (std::size_t i = 0; i < at.size(); ++i) {
      source += at[i] * box.axes[i].source_stride;
      target += at[i] * box.axes[i].target_stride;
    }
    visit(source, target);
    for (std::size_t i = at.size(); i-- > 0 && ++at[i] == box.axes[i].extent;) {
      at[i] = 0;
    }
  }
}

/// Every element of every distinct shard is written exactly once, every source element is read
/// exactly once (at least once where the line declares copies), and layout::check_tiling says the
/// same. Errors: Gap, Overlap naming the tensor and the element.
[[nodiscard]] Status check_line(const layout::BoundRule& bound);

/// Elements of all shards at all distinct places.
[[nodiscard]] std::int64_t elements_of(const layout::BoundRule& bound);

}  // namespace bv::lines

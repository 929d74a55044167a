#pragma once
// What the boxes of a line do at one binding, counted element by element: the slow, plain reading
// of "every element exactly once". For small sizes.

#include <algorithm>
#include <cstdint>
#include <map>
#include <string>
#include <utility>
#include <vector>

#include "core/layout/box.hpp"

namespace bv::lines {

using Grid = std::map<std::string, std::int64_t, std::less<>>;

/// One target tensor at one place of the process grid.
struct GridPlace {
  std::size_t target = 0;
  Grid grid;
};
/// The places of one rule after another, in the same memory.
struct PlaceWalk {
  GridPlace place;
  std::vector<std::pair<std::int64_t*, std::int64_t>> steps;  // a coordinate and its size

  /// All coordinates of a target at 0. Those of the last target stay where they are the same.
  void begin(const layout::Rule& rule, std::size_t target) {
    place.target = target;
    std::size_t axes = 0;
    bool same = true;
    const auto reset = [&](const std::string& axis) {
      const auto found = place.grid.find(axis);
      same = same && found != place.grid.end();
      if (same) {
        found->second = 0;
      }
      ++axes;
    };
    for_each_axis(rule, target, reset);
    if (!same || axes != place.grid.size()) {
      place.grid.clear();
      for_each_axis(rule, target, [&](const std::string& axis) { place.grid[axis] = 0; });
    }
  }

 private:
  template <class Visit>
  static void for_each_axis(const layout::Rule& rule, std::size_t target, const Visit& visit) {
    for (const layout::GridAxis& axis : rule.targets[target].grid) {
      if (!axis.replica) {
        visit(axis.axis);
      }
    }
    if (rule.cut) {
      visit(rule.cut->axis);
    }
  }
};

/// Calls `visit(place)` for the places with distinct contents, until one fails: grid axes and the
/// axis of the cut run through their sizes, replicas stand at 0.
template <class Visit>
[[nodiscard]] Status for_each_place(const layout::BoundRule& bound, const Visit& visit,
                                    PlaceWalk& walk) {
  auto& [place, steps] = walk;
  for (std::size_t target = 0; target < bound.rule().targets.size(); ++target) {
    walk.begin(bound.rule(), target);
    steps.clear();
    for (auto& [axis, at] : place.grid) {
      steps.emplace_back(&at, bound.size(axis));
    }
    bool more =
        std::all_of(steps.begin(), steps.end(), [](const auto& step) { return step.second > 0; });
    while (more) {
      BV_CHECK(visit(place));
      more = false;
      for (const auto& [at, size] : steps) {
        more = ++*at < size;
        if (more) {
          break;
        }
        *at = 0;
      }
    }
  }
  return Done{};
}
template <class Visit>
[[nodiscard]] Status for_each_place(const layout::BoundRule& bound, const Visit& visit) {
  PlaceWalk walk;
  return for_each_place(bound, visit, walk);
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

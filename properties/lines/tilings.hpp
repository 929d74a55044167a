#pragma once
// What the boxes of a line do at one binding, counted element by element: the slow, plain reading
// of "every element exactly once". For small sizes.

#include <cstdint>
#include <functional>
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
/// The places with distinct contents: grid axes and the axis of the cut run through their sizes,
/// replicas stand at 0.
[[nodiscard]] std::vector<GridPlace> grid_places(const layout::BoundRule& bound);

/// Calls `visit(source, target)` for every element of the box, in any order.
void for_each_element(const layout::Box& box,
                      const std::function<void(std::int64_t, std::int64_t)>& visit);

/// Every element of every distinct shard is written exactly once, every source element is read
/// exactly once (at least once where the line declares copies), and layout::check_tiling says the
/// same. Errors: Gap, Overlap naming the tensor and the element.
[[nodiscard]] Status check_line(const layout::BoundRule& bound);

/// Elements of all shards at all distinct places.
[[nodiscard]] std::int64_t elements_of(const layout::BoundRule& bound);

}  // namespace bv::lines

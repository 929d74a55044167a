#pragma once
// The notation read literally, element by element: the slow reference that the boxes are held
// against. Shares the typed tree with the engine and nothing else: no strides, no offsets.

#include <cstdint>
#include <vector>

#include "core/layout/box.hpp"
#include "properties/attacks/lines/tilings.hpp"

namespace bv::lines {

/// Where an element of a shard comes from.
struct From {
  int source = -1;  // -1: zero-filled
  std::int64_t element = 0;
  bool operator==(const From&) const = default;
};

/// The elements of one target at one place of the grid, in row-major order. Sizes come from the
/// binding; the cut takes equal runs of rows. Errors: BadValue when two elements of the sources
/// have one name, or an element of the target has none.
[[nodiscard]] Result<std::vector<From>> plain_shard(const layout::Rule& rule,
                                                    const layout::Binding& binding,
                                                    const GridPlace& place);

/// The same, out of the boxes of the engine.
[[nodiscard]] std::vector<From> shard_of_boxes(const layout::Shard& shard);

}  // namespace bv::lines

#pragma once
// Random lines of the layout notation with their sizes: sums, products, cuts, grids, pads,
// replicas, experts, carried dimensions. Proved bijections by construction: the description says
// how the axes of each part are arranged on both sides, never which axes it has.

#include "core/layout/box.hpp"
#include "properties/attacks/generators/fields.hpp"

namespace bv::generators {

/// How the target is laid over the ranks.
enum class Spread : std::int64_t { None, Grid, Cut, Replica };

struct Line {
  std::int64_t parts = 1;           // 1 to 5
  std::int64_t fused = 0;           // 0: a source tensor each; 1: all in one; 2: the first alone
  std::int64_t grouped = 0;         // an axis g that all parts share
  std::int64_t source_outside = 0;  // g stands before the sum of the source, not inside the parts
  std::int64_t target_outside = 0;  // the same on the target
  std::int64_t alternating = 0;     // the sum of one source tensor is innermost: (f (a: 1 | b: 1))
  std::int64_t own = 1;             // axes of a part of its own
  std::int64_t reversed = 0;        // the target has them in reverse order
  std::int64_t rotated = 0;         // the target begins with this part
  std::int64_t spread = 0;          // Spread
  std::int64_t rank_outside = 0;    // t stands before the sum of the source
  std::int64_t experts = 0;         // an axis E, a dimension of the source and a grid axis
  std::int64_t pad = 0;             // rows without a source
  std::int64_t repeat = 0;          // the last part stands so many times
  std::int64_t carried = 0;  // 1: h behind the rows on both sides; 2: before them in the source
  std::int64_t rest = 0;     // dimensions of "..."
  std::int64_t targets = 1;  // 2: the last part has a target tensor of its own
  std::int64_t t = 1;
  std::int64_t size_a = 1;  // sizes of axes; the i-th part has size + i
  std::int64_t size_b = 1;
  std::int64_t size_g = 1;
  bool operator==(const Line&) const = default;
};

[[nodiscard]] std::span<const Field<Line>> line_fields();

/// A line with the sizes of its axes.
struct BoundLine {
  layout::Rule rule;
  layout::Binding binding;
};
[[nodiscard]] BoundLine make_line(const Line& description);

/// The line alone: descriptions that differ in sizes only make the same one.
[[nodiscard]] layout::Rule rule_of(const Line& description);
/// The sizes alone.
[[nodiscard]] layout::Binding binding_of(const Line& description);
/// The same into a binding of the same line, whose memory is used again.
void bind_sizes(const Line& description, layout::Binding& out);

}  // namespace bv::generators

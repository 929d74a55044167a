#pragma once
// A rule on concrete sizes: every part is one strided box, and a relayout is a list of boxes. All
// offsets, strides and extents are elements.
//
// Example: "column x[(t o) i] -> x{t}[o i]" bound with t = 2, o = 2, i = 3: source_shapes() is
// {[4, 3]}, target_shapes() is {[2, 3]}, and shard(0, {{"t", 1}}) has one box: source 0, source
// offset 6, target offset 0, axes {(6, 1, 1)} (extent, source and target stride).

#include <cstddef>
#include <cstdint>
#include <map>
#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "core/base/result.hpp"
#include "core/base/tensor_spec.hpp"
#include "core/layout/ast.hpp"
#include "core/layout/index_box.hpp"

namespace bv::layout {

/// Sizes of axes: name -> extent, 0 or more; `rest` are the extents that "..." stands for.
struct Binding {
  std::map<std::string, std::int64_t, std::less<>> axes;
  std::vector<std::int64_t> rest;
};

/// What one target tensor at one place of the grid receives.
struct Shard {
  std::size_t target = 0;  // index into rule.targets
  Shape shape;
  std::vector<Box> boxes;  // ascending target_offset
};

/// A rule with every axis bound: full shapes of both sides, and the boxes of any grid coordinate.
class BoundRule {
 public:
  /// Errors: RulesInvalid for an axis without a size; IndivisibleDim when `cut` leaves a remainder;
  /// BadValue on overflow and for a part of more than kBoxAxesMax axes.
  static Result<BoundRule> bind(const Rule& rule, Binding binding);
  /// Binds the same rule to other sizes; "..." stands for as many dimensions as before. After an
  /// error the rule must be bound again before it is asked. Errors: those of bind.
  [[nodiscard]] Status bind_again(const Binding& binding);

  [[nodiscard]] const Rule& rule() const { return *rule_; }
  /// Whole shapes, in the order of rule().sources.
  [[nodiscard]] const std::vector<Shape>& source_shapes() const { return source_shapes_; }
  /// Shapes of one shard of each target, in the order of rule().targets.
  [[nodiscard]] const std::vector<Shape>& target_shapes() const { return target_shapes_; }
  /// The extent of an axis; 1 for one that the rule does not have.
  [[nodiscard]] std::int64_t size(std::string_view axis) const;
  /// "q", "gate", "pad": what Box::part numbers.
  [[nodiscard]] const std::vector<std::string>& part_names() const;
  /// Boxes of target tensor `target` at grid coordinates (`t` -> tp_rank, `E` -> expert, ...).
  /// Missing coordinates are 0.
  [[nodiscard]] Shard shard(std::size_t target,
                            const std::map<std::string, std::int64_t, std::less<>>& grid) const;
  /// The same into a shard whose memory is used again.
  void shard(std::size_t target, const std::map<std::string, std::int64_t, std::less<>>& grid,
             Shard& out) const;

 private:
  struct Placed;
  Status place();

  const Rule* rule_ = nullptr;
  Binding binding_;
  std::shared_ptr<Placed> placed_;
  std::vector<Shape> source_shapes_;
  std::vector<Shape> target_shapes_;
};

/// Target elements from the first to the last that axes [first, end) of a box without an empty axis
/// reach, plus one.
[[nodiscard]] std::int64_t span_of(const Box& box, std::size_t first);

/// Sorts the axes by descending target stride, drops extents of 1 and joins axes that are
/// contiguous on both ends.
void normalise(Box& box);
/// The same for axes that stand alone; the first ones, as many as are returned, are left.
[[nodiscard]] std::size_t collapse(std::span<BoxAxis> axes);

/// The pieces of `box` whose target elements lie in [begin, end), offsets kept; appended to `out`.
void clip_to_target(const Box& box, std::int64_t begin, std::int64_t end, std::vector<Box>& out);

/// A piece of a box without a copy of it: `axes` views the box, the outermost extent is `extent`.
/// Valid while the box lives.
struct BoxPiece {
  int source = 0;
  std::int64_t source_offset = 0;
  std::int64_t target_offset = 0;
  std::int64_t extent = 1;        // replaces axes.front().extent
  std::span<const BoxAxis> axes;  // empty: one element
  [[nodiscard]] std::int64_t elements() const;
};
/// All of a box that is not empty, as a piece.
[[nodiscard]] BoxPiece whole(const Box& box);

/// The pieces that clip_to_target makes, in the same order, without an allocation for each.
void pieces_in(const Box& box, std::int64_t begin, std::int64_t end, std::vector<BoxPiece>& out);

/// The same box seen from the other end: axes re-sorted, offsets swapped; `source` becomes
/// `new_source`.
[[nodiscard]] Box inverse(const Box& box, int new_source);
/// The same for a piece, into a box whose memory is used again; its `part` stays.
void inverse(const BoxPiece& piece, int new_source, Box& out);

/// Neighbouring elements [begin, end) of a target.
struct Run {
  std::int64_t begin = 0;
  std::int64_t end = 0;
  bool operator==(const Run&) const = default;
};
/// The runs that a box without an empty axis writes, appended to `out`.
void target_runs(const Box& box, std::vector<Run>& out);

/// The same without the elements that an earlier box writes: copies are parted from their first
/// ones. Boxes that share no element stay as they are. The cost is that of their runs.
[[nodiscard]] std::vector<Box> first_copies(std::vector<Box> boxes);

/// AtLeastOnce: the boxes bring copies of one element.
enum class Cover { Once, AtLeastOnce };

/// Checks by coordinate sweep (no enumeration of elements) that the boxes cover [0, elements)
/// exactly once. The cost is that of the boxes for regular maps, else that of their runs, of which
/// at most kTilingRunsMax are listed. Errors: Gap or Overlap with the first element;
/// TooLargeToCheck.
[[nodiscard]] Status check_tiling(std::span<const Box> boxes, std::int64_t elements,
                                  Cover cover = Cover::Once);
inline constexpr std::int64_t kTilingRunsMax = std::int64_t{1} << 22;

}  // namespace bv::layout

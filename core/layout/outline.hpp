#pragma once
// A rule with its sizes left open: every offset, stride and extent that binding computes, as
// formulas of the sizes of axes. Bound to many sizes, a rule is walked once.

#include <cstdint>
#include <span>
#include <string>
#include <vector>

#include "core/base/result.hpp"
#include "core/layout/box.hpp"

namespace bv::layout {

class Outline {
 public:
  /// A number that the sizes decide: an index into what evaluate() makes.
  using Value = std::int32_t;
  static constexpr Value kZero = 0;
  static constexpr Value kOne = 1;

  struct Axis {
    Value extent = kOne;
    Value source_stride = kZero;
    Value target_stride = kZero;
  };
  /// A coordinate of the process grid, and source elements from one to the next.
  struct Coordinate {
    std::string axis;
    Value stride = kZero;
  };
  /// A part of a target with the part of its name at the sources.
  struct Part {
    std::size_t target = 0;
    int source = -1;  // -1: zero-filled
    Value source_offset = kZero;
    Value target_offset = kZero;
    std::vector<Axis> axes;  // outermost of the target first
    std::vector<Coordinate> grid;
  };

  /// `rest`: how many dimensions "..." stands for.
  Outline(const Rule& rule, std::size_t rest);

  /// Of each axis, in the order of their names, the number of its size among those of the binding.
  /// Errors: RulesInvalid for an axis without a size.
  [[nodiscard]] Result<std::vector<std::size_t>> sizes_in(const Binding& binding) const;
  /// `sizes`: of each axis, in the order of their names; `rest`: what "..." stands for. Errors:
  /// BadValue for a size below 0, a part that stands 0 times, and on overflow.
  [[nodiscard]] Status evaluate(std::span<const std::int64_t> sizes,
                                std::span<const std::int64_t> rest,
                                std::vector<std::int64_t>& values) const;

  [[nodiscard]] const std::vector<Part>& parts() const { return parts_; }
  [[nodiscard]] const std::vector<std::string>& names() const { return names_; }  // of the parts
  [[nodiscard]] const std::vector<std::vector<Value>>& source_shapes() const {
    return source_shapes_;
  }
  /// Before the cut.
  [[nodiscard]] const std::vector<std::vector<Value>>& target_shapes() const {
    return target_shapes_;
  }
  /// The size of the axis that cuts; kOne without a cut.
  [[nodiscard]] Value ways() const { return ways_; }

 private:
  friend class Outliner;
  struct Formula {
    enum class Kind : std::uint8_t { Constant, Axis, Rest, Times, Plus };
    Kind kind = Kind::Constant;
    std::int32_t a = 0;  // a constant, an index into the rest, or two values
    std::int32_t b = 0;
  };
  struct NamedAxis {
    std::string name;
    Value value = kZero;
    bool repeats = false;
  };

  static Status check_size(const NamedAxis& axis, std::int64_t size);

  std::vector<Formula> formulas_;
  std::vector<NamedAxis> axes_;  // by name
  std::vector<Part> parts_;
  std::vector<std::string> names_;
  std::vector<std::vector<Value>> source_shapes_;
  std::vector<std::vector<Value>> target_shapes_;
  Value ways_ = kOne;
};

}  // namespace bv::layout

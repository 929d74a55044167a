#pragma once
// The line of notation that a foreign rule stands for at one parameter, with its sizes.

#include <optional>
#include <string>
#include <vector>

#include "core/foreign/foreign_kinds.hpp"
#include "core/model/model.hpp"

namespace bv::foreign {

/// What the line depends on besides the rule.
struct LinePlace {
  /// The rule of the family, or of the table of modules, for this parameter; null without one. Its
  /// sizes, which come from the config, are taken where it is of the same kind.
  const family::Rule* row = nullptr;
  bool row_sizes = true;    // false: those sizes are in doubt
  std::string parameter;    // Megatron name
  bool text = true;         // in the text model: its heads, not those of a vision tower
  bool vocabulary = false;  // rows may be padded
  std::string parallelism;  // as model.parameters lists it, "" when it does not
  /// --expert-orientation, for square stacks.
  family::Orientation orientation = family::Orientation::ByShape;
};

/// Writes kind, axes, trailing dimensions and orientation into `rule`, whose HF names are those of
/// the foreign rule. `shapes` are those of the HF tensors, in the order of rule.hf.
/// Errors: RuleModuleUnknown, RuleMalformed (a permutation that no line has), ShapeMismatch (too
/// few dimensions), AmbiguousTranspose (a square stack), SizeInDoubt (numbers that the config does
/// not give).
[[nodiscard]] Status choose_line(const model::Geometry& geometry, const ForeignKinds& kinds,
                                 const LinePlace& place, const ForeignRule& foreign,
                                 const std::vector<Shape>& shapes, family::Rule& rule);

/// Does the line take tensors of these shapes, uncut?
[[nodiscard]] bool line_fits(const model::Geometry& geometry, const ForeignKinds& kinds,
                             const family::Rule& rule, const std::vector<Shape>& shapes);

/// The parameter's shape on one rank; of packed kinds that of one expert. nullopt when the sizes do
/// not divide.
[[nodiscard]] std::optional<Shape> uncut_shape(const model::Geometry& geometry,
                                               const ForeignKinds& kinds, const family::Rule& rule);

/// What the line's sizes ask of a layout: each part that is cut by `t` is a multiple of it.
[[nodiscard]] std::vector<family::Constraint> layout_conditions(const model::Geometry& geometry,
                                                                const ForeignKinds& kinds,
                                                                const family::Rule& rule,
                                                                const std::string& parameter);

}  // namespace bv::foreign

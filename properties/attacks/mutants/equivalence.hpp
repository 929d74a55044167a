#pragma once
// When no claim refutes a mutant it is a survivor, unless it is proved to be no fault.

#include <optional>
#include <string>
#include <string_view>

#include "properties/attacks/mutants/judge.hpp"

namespace bv::mutants {

/// Why a mutant changes nothing, weakest last.
enum class Reason {
  FixedAxis,   // the rule itself gives an axis that the change turns on the size 1
  OneRank,     // the group that cuts the parameter has one rank here
  NoPadding,   // the vocabulary needs no padding here
  UnitAxis,    // an axis that the change turns on has size 1 in this config
  TheseSizes,  // the moves are the same on these sizes
};
inline constexpr int kReasons = 5;
[[nodiscard]] std::string_view name(Reason reason);
/// True when the reason is one of the rule, hence holds on every layout of every config.
[[nodiscard]] bool holds_everywhere(Reason reason);

struct Equivalence {
  Reason reason = Reason::TheseSizes;
  std::string proof;  // one sentence: what was checked
  bool operator==(const Equivalence&) const = default;
};

/// Proves that the attack does what the right bridge does on this layout, for every checkpoint:
/// - places: each element of the checkpoint carries its own tag; every shard and every exported
///   tensor of the attack holds the tags that those of the right bridge hold, and nothing raises;
/// - values: each move has the arithmetic of the right one, or computes the same bits for each of
///   the 65,536 patterns of its 16-bit type, there and back.
/// nullopt: not proved. The reason is looked for on the text: of a changed line, it is whether the
/// two lines are one line without the axes of size 1.
[[nodiscard]] std::optional<Equivalence> prove_equivalent(const Library& library,
                                                          const Reference& reference,
                                                          const Mutant& mutant,
                                                          const Attack& attack);

/// The line without these axes, which have size 1: factors, grid axes and cuts over them are left
/// out, and with `without_pad` the part named pad, which has no rows; a sum of one choice is its
/// choice.
[[nodiscard]] layout::Rule without_axes(const layout::Rule& line,
                                        const std::vector<std::string>& axes, bool without_pad);

}  // namespace bv::mutants

#pragma once
// A mutant is data: an operator of the bug catalogue, the rule that it hits, its parameters, and
// whether the inverse is wrong in the same way. Applying it to a right bridge gives the bridge with
// that fault.

#include <map>
#include <nlohmann/json_fwd.hpp>
#include <string>
#include <string_view>
#include <vector>

#include "properties/attacks/mutants/program.hpp"
#include "properties/attacks/mutants/sample.hpp"

namespace bv::mutants {

/// The mutation operators, named as in the bug catalogue.
enum class Operator {
  Drop,
  Rename,
  Dup,
  Swap,
  Perm,
  Transpose,
  Offset,
  Split,
  FlatChunk,
  Rank,
  ReplShard,
  Pad,
  Tie,
  Layer,
  Cast,
  Arith,
  Scale,
  Order,
  Alias,
  Squeeze,
  Overwrite,
  Cond,
  Poison,
};
inline constexpr int kOperators = 23;
/// "FLATCHUNK"
[[nodiscard]] std::string_view name(Operator op);
[[nodiscard]] std::optional<Operator> operator_from_name(std::string_view name);

/// Which way is wrong: the import alone, both in the same manner, the export alone.
enum class Side { There, Both, Back };
/// "", "(2)" as in the bug catalogue, "(back)"
[[nodiscard]] std::string_view mark(Side side);

struct Mutant {
  Operator op = Operator::Drop;
  std::string parameter;  // glob over global Megatron names; the rules that match are hit
  /// What the operator needs. A changed notation line is {"line": "qkv q[...] ... -> ..."} whatever
  /// the operator, with "axis NAME": "EXPRESSION" for axes that the line adds. "with" and "of" are
  /// globs over a second parameter. "rule": this rule alone, where several make such parameters.
  std::map<std::string, std::string, std::less<>> parameters;
  bool two_sided = false;
  bool export_only = false;  // never with two_sided
  bool operator==(const Mutant&) const = default;
};
[[nodiscard]] Side side(const Mutant& mutant);
/// "SWAP decoder.layers.*.mlp.linear_fc1.weight a=gate b=up (2)"
[[nodiscard]] std::string text(const Mutant& mutant);
[[nodiscard]] nlohmann::json to_json(const Mutant& mutant);
/// Errors: BadValue naming the field.
[[nodiscard]] Result<Mutant> mutant_from_json(const nlohmann::json& value);

/// The name with its first `from` replaced by `to`, or with `to` behind it when `from` is empty.
[[nodiscard]] std::string renamed(const std::string& name, const std::string& from,
                                  const std::string& to);

/// A bridge with a fault: the way there and the way back, one of them or both changed.
struct Attack {
  Program way_there;
  Program way_back;
  /// Set when the changed line is refuted as text: the fault needs no data to be seen.
  std::optional<Error> refused;
};
/// Errors: BadValue when the mutant hits nothing or lacks a parameter.
[[nodiscard]] Result<Attack> apply(const Library& library, const Case& one, const Program& right,
                                   const Mutant& mutant);

/// A changed notation line.
struct LineChange {
  Operator op = Operator::Swap;
  layout::Rule line;
  std::map<std::string, std::string, std::less<>> axes;  // axes that the line adds -> expression
  bool drops_rest = false;                               // the rest is now one of those axes
};
/// Every change of one line by SWAP, PERM, TRANSPOSE, SPLIT, FLATCHUNK, REPL<->SHARD and PAD that
/// keeps it a line. `rest` are the expressions that the rule binds to "...".
[[nodiscard]] std::vector<LineChange> line_changes(const layout::Rule& line,
                                                   const std::vector<std::string>& rest);

/// Every mutant of every rule of the case on this layout, one-sided and two-sided, in a fixed
/// order.
[[nodiscard]] std::vector<Mutant> enumerate(const Library& library, const Case& one,
                                            const Program& right);

}  // namespace bv::mutants

#pragma once
// Text <-> tree, and the proof on the text.

#include <string>
#include <string_view>
#include <vector>

#include "core/base/result.hpp"
#include "core/layout/ast.hpp"

namespace bv::layout {

/// Parses one rule. Errors: RulesInvalid with file:line:column in `where`.
[[nodiscard]] Result<Rule> parse_rule(std::string_view text, std::string_view file = "<text>");

/// Parses a file of rules; `#` lines directly above a rule are its doc string, a line that starts
/// with blanks continues the one before it. Errors: RulesInvalid; two rules of one name.
[[nodiscard]] Result<std::vector<Rule>> parse_rules(std::string_view text, std::string_view file);

/// Canonical text: print(parse(print(rule))) == print(rule).
[[nodiscard]] std::string print(const Rule& rule);

/// A part: one choice at every sum. Axes are listed outermost first over all dimensions, without
/// the 1s.
struct Part {
  std::string name;  // the innermost choice (of each sum, joined by '.'), or the tensor's own name
  std::size_t tensor = 0;         // index into sources or targets
  std::vector<std::string> axes;  // outermost first, grid axes before; "..." where the rest stands
  std::vector<std::string> replicas;  // axes marked "*"
  Position at;
};
[[nodiscard]] std::vector<Part> source_parts(const Rule& rule);
[[nodiscard]] std::vector<Part> target_parts(const Rule& rule);

/// By source: does a shard hold its elements more than once (a replica axis inside the brackets of
/// a target)? A cut, or a window of the shard, may part such copies.
[[nodiscard]] std::vector<bool> copied_sources(const Rule& rule);

/// Proves, for all sizes at once, that the rule is a bijection between the source elements and the
/// distinct target elements: every part appears once on each side with the same axes; `pad` parts
/// and replica axes are declared. Errors: RulesInvalid naming the part and the axis.
[[nodiscard]] Status prove_bijection(const Rule& rule);

}  // namespace bv::layout

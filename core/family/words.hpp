#pragma once
// Words of a family file that have few values. Each is parsed once, where the file is read; from
// there on code compares values, not texts.

#include <optional>
#include <string>
#include <string_view>
#include <vector>

namespace bv::family {

/// How a stack of experts is stored: [E, out, in] or [E, in, out]. ByShape: nobody says it.
enum class Orientation { ByShape, OutIn, InOut };
/// "out_in", "in_out"; "" for ByShape.
[[nodiscard]] std::string_view text(Orientation orientation);
/// The way back. nullopt for another word.
[[nodiscard]] std::optional<Orientation> orientation_from(std::string_view word);

enum class ValueStep { MinusOne, PlusOne };
/// What happens to values on the way to Megatron, step by step; each step is undone on the way
/// back. Without steps values move bit for bit.
///
/// Example: HF stores the weight of a norm as 1.25 and Megatron as its offset from one, 0.25: the
/// rule is "minus_one".
struct ValueRule {
  std::vector<ValueStep> steps;

  [[nodiscard]] bool empty() const { return steps.empty(); }
  /// The sum of the steps: -1 for "minus_one".
  [[nodiscard]] double added_on_import() const;
  [[nodiscard]] bool operator==(const ValueRule&) const = default;
};
inline constexpr std::string_view kValueWords = "minus_one, plus_one";
/// The words joined by blanks, "" for none.
[[nodiscard]] std::string text(const ValueRule& rule);
/// The way back. nullopt when a word is not a step.
[[nodiscard]] std::optional<ValueRule> value_rule_from(std::string_view words);

/// A group of ranks that cuts parameters.
enum class RankGroup { Tp, Etp, Ep, Cp };
/// The product of group sizes that must divide something.
struct Divisor {
  std::vector<RankGroup> groups;

  [[nodiscard]] bool operator==(const Divisor&) const = default;
};
inline constexpr std::string_view kDivisorWords = "tp, etp, ep, cp or a product such as cp*tp";
/// "tp", "cp*tp".
[[nodiscard]] std::string text(const Divisor& divisor);
/// The way back. nullopt when a factor is not a group.
[[nodiscard]] std::optional<Divisor> divisor_from(std::string_view product);

}  // namespace bv::family

#pragma once
// Integer expressions over named numbers, and templates of names that hold them in braces.

#include <cstdint>
#include <functional>
#include <map>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "core/base/result.hpp"

namespace bv::family {

/// Integer expressions over symbols: + - * / // ( ); `/` is exact division, `//` rounds down.
/// Errors: IndivisibleDim naming both operands with their expression text; SizeOutOfBounds above 63
/// bits; RulesInvalid for unknown symbols and syntax, and for numbers that are wrong whatever the
/// config says.
[[nodiscard]] Result<std::int64_t> evaluate(
    std::string_view expression, const std::map<std::string, std::int64_t, std::less<>>& symbols);

/// The same; an error says where the expression stands: "glm4_moe.json: symbol head_dim".
[[nodiscard]] Result<std::int64_t> evaluate_at(
    std::string_view place, std::string_view expression,
    const std::map<std::string, std::int64_t, std::less<>>& symbols);
/// An error of `evaluate` with that place: a fact, and where the fault is when it is the file's.
[[nodiscard]] Error at_place(Error error, std::string_view place, std::string_view expression);

using Lookup = std::function<std::optional<std::int64_t>(std::string_view)>;

/// Errors as evaluate.
[[nodiscard]] Result<std::int64_t> evaluate_with(std::string_view expression, const Lookup& lookup);

/// The names in an expression, in order, each once.
[[nodiscard]] std::vector<std::string> identifiers(std::string_view expression);

/// One part of a template: literal text, or the inside of a pair of braces.
struct TemplatePiece {
  std::string text;
  bool braces = false;
};
/// "{L}mlp.gate" -> {L} + "mlp.gate". nullopt for braces that do not pair up or hold nothing.
[[nodiscard]] std::optional<std::vector<TemplatePiece>> split_template(std::string_view text);

/// "text|vision": the words of a pair of braces, one for each value of the axis E; one word, which
/// is all of it, where they hold anything else.
[[nodiscard]] std::vector<std::string> words_in(std::string_view inner);
/// Does the inside of a pair of braces stand for the expert, or the part of a stack?
[[nodiscard]] bool names_expert(std::string_view inner);

/// Expands the braces of a template: a prefix by its text, `index` and `expert` for their
/// variables, `whole` for {#i}, expressions by their value. Errors: RulesInvalid.
struct NameValues {
  const std::map<std::string, std::string, std::less<>>* prefixes = nullptr;
  const std::map<std::string, std::int64_t, std::less<>>* symbols = nullptr;
  std::string_view variable;
  std::int64_t index = -1;
  std::int64_t expert = -1;
  std::int64_t whole = -1;  // the repetition's number in the whole model; `index` may count a stage
};
[[nodiscard]] Result<std::string> expand(std::string_view text, const NameValues& values);

}  // namespace bv::family

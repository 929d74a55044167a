#pragma once
// Integer expressions over named numbers, and templates of names that hold them in braces.

#include <cstdint>
#include <functional>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "core/base/result.hpp"

namespace bv::model {

using Lookup = std::function<std::optional<std::int64_t>(std::string_view)>;

/// Errors as model::evaluate.
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

}  // namespace bv::model

#pragma once
// JSON places -> the parts of a family. Errors of all: RulesInvalid naming file and place.

#include <string>
#include <utility>
#include <vector>

#include "core/family/family.hpp"
#include "core/family/json_place.hpp"

namespace bv::family {

[[nodiscard]] Result<SymbolRule> parse_symbol(const std::string& name, const JsonPlace& place);
[[nodiscard]] Result<LayerFlag> parse_layer_flag(const std::string& name, const JsonPlace& place);
[[nodiscard]] Result<MustRule> parse_must(const JsonPlace& place);
[[nodiscard]] Result<ConstraintRule> parse_constraint(const JsonPlace& place);
[[nodiscard]] Result<Copy> parse_copy(const JsonPlace& place);
[[nodiscard]] Result<Unsupported> parse_unsupported(const JsonPlace& place);
[[nodiscard]] Result<Ignored> parse_ignored(const JsonPlace& place);  // a glob, or {"glob", "ndim"}
[[nodiscard]] Result<StatedFacts> parse_stated_facts(const JsonPlace& place);
[[nodiscard]] Result<Rule> parse_rule(const JsonPlace& place);

/// {"i": "num_hidden_layers"} -> ("i", "num_hidden_layers").
[[nodiscard]] Result<std::pair<std::string, std::string>> parse_over(const JsonPlace& place);

}  // namespace bv::family

#pragma once
// Families: what they are asked, and where they come from. A family is one JSON file.

#include <memory>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "core/base/result.hpp"
#include "core/family/rule.hpp"

namespace bv::family {

class Family;
using FamilyPtr = std::shared_ptr<const Family>;

/// A file of rules as it was read.
struct RulesText {
  std::string name;  // as messages name it
  std::string text;
};

/// What a family file states of the modules of its model, for oracles that do not know its
/// model_type. Nobody takes it on trust: the claim forward refutes a wrong statement.
struct StatedFacts {
  std::string computes_like;                // a model_type; "" when nothing is stated
  std::optional<bool> zero_centered_gamma;  // of Megatron's norms; absent: as HF stores them
  /// Part of an HF tensor's name here, and what it is called there: {"mlp.router.", "mlp.gate."}.
  std::vector<std::pair<std::string, std::string>> renamed;

  [[nodiscard]] bool operator==(const StatedFacts&) const = default;
};

/// Every family built in: one JSON file each under core/families (compiled in from the folder's
/// listing). Errors: RulesInvalid naming file and place.
[[nodiscard]] Result<std::vector<FamilyPtr>> builtin_families();
/// Those and `families`, which may use the built-in tables and `tables` (by the file's name without
/// ".json"). Errors: RulesInvalid naming file and place; for a family, an architecture, a
/// model_type or a table that is there already, both files.
[[nodiscard]] Result<std::vector<FamilyPtr>> families_with(std::span<const RulesText> families,
                                                           std::span<const RulesText> tables);
/// One family file. It may use the built-in tables and tables of its own.
/// Errors: RulesInvalid naming file and place.
[[nodiscard]] Result<FamilyPtr> parse_family(std::string_view json_text, std::string_view file);

[[nodiscard]] const std::string& name(const Family& family);
[[nodiscard]] const std::string& doc(const Family& family);
[[nodiscard]] const std::vector<std::string>& architectures(const Family& family);
[[nodiscard]] const std::vector<std::string>& model_types(const Family& family);
[[nodiscard]] const StatedFacts& stated_facts(const Family& family);
/// The family takes no config in which these two symbols differ.
[[nodiscard]] bool must_be_equal(const Family& family, std::string_view a, std::string_view b);
[[nodiscard]] const std::vector<Rule>& rules(const Family& family);
/// The stage of a rule's section: "decoder", "mtp", ...
[[nodiscard]] std::string_view stage_name(const Family& family, const Rule& rule);

}  // namespace bv::family

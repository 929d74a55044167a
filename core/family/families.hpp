#pragma once
// Families: what they are asked, and where they come from. A family is one JSON file.

#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "core/base/result.hpp"
#include "core/family/rule.hpp"

namespace bv::family {

class Family;
using FamilyPtr = std::shared_ptr<const Family>;

/// Every family built in: one JSON file each under core/models (compiled in from the folder's
/// listing). Errors: RulesInvalid naming file and place.
[[nodiscard]] Result<std::vector<FamilyPtr>> builtin_families();
/// One family file. It may use the built-in tables and tables of its own.
/// Errors: RulesInvalid naming file and place.
[[nodiscard]] Result<FamilyPtr> parse_family(std::string_view json_text, std::string_view file);

[[nodiscard]] const std::string& name(const Family& family);
[[nodiscard]] const std::string& doc(const Family& family);
[[nodiscard]] const std::vector<std::string>& architectures(const Family& family);
[[nodiscard]] const std::vector<std::string>& model_types(const Family& family);
[[nodiscard]] const std::vector<Rule>& rules(const Family& family);
/// The stage of a rule's section: "decoder", "mtp", ...
[[nodiscard]] std::string_view stage_name(const Family& family, const Rule& rule);

}  // namespace bv::family

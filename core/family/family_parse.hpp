#pragma once
// Family files -> Family values. Tables are lists of rules that several sections and families use.

#include <map>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "core/family/family.hpp"
#include "core/family/json_place.hpp"

namespace bv::family {

/// A list of rules that sections name. Its JSON is shared by the families that use it.
struct Table {
  std::string file;  // for messages
  std::shared_ptr<const OrderedJson> json;
};
using Tables = std::map<std::string, Table, std::less<>>;

/// JSON text -> tree. Errors: RulesInvalid with file:line:column.
[[nodiscard]] Result<OrderedJson> parse_rules_json(std::string_view text, std::string_view file);

/// One family file; `tables` are those that it may name, by name. Errors: RulesInvalid naming file
/// and place; those of check_family.
[[nodiscard]] Result<FamilyPtr> parse_family_with(std::string_view text, std::string_view file,
                                                  Tables tables);

/// Every name that rules, sections and conditions use is defined; templates pair up. Errors:
/// RulesInvalid.
[[nodiscard]] Status check_family(const Family& family);

}  // namespace bv::family

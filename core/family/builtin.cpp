// The families and tables that are compiled in.

#include "core/family/builtin_files.hpp"
#include "core/family/family_parse.hpp"

namespace bv::family {
namespace {

Result<Tables> builtin_tables() {
  Tables tables;
  for (const BuiltinFile& file : builtin_tables_files()) {
    BV_TRY(json, parse_rules_json(file.text, file.name));
    tables[std::string(file.name.substr(0, file.name.rfind('.')))] =
        Table{std::string(file.name), std::make_shared<const OrderedJson>(std::move(json))};
  }
  return tables;
}

}  // namespace

Result<FamilyPtr> parse_family(std::string_view json_text, std::string_view file) {
  BV_TRY(tables, builtin_tables());
  return parse_family_with(json_text, file, std::move(tables));
}

Result<std::vector<FamilyPtr>> builtin_families() {
  BV_TRY(tables, builtin_tables());
  std::vector<FamilyPtr> families;
  for (const BuiltinFile& file : builtin_families_files()) {
    BV_TRY(family, parse_family_with(file.text, file.name, tables));
    families.push_back(std::move(family));
  }
  return families;
}

}  // namespace bv::family

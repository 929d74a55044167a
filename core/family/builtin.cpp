// The families and tables that are compiled in.

#include <fmt/format.h>

#include <algorithm>

#include "core/base/text.hpp"
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

Result<Tables> with_tables(Tables tables, std::span<const RulesText> more) {
  for (const RulesText& file : more) {
    const std::string_view last = std::string_view(file.name).substr(file.name.rfind('/') + 1);
    const std::string name(last.substr(0, last.rfind(".json")));
    const auto found = tables.find(name);
    if (found != tables.end()) {
      return fail(Code::RulesInvalid, fmt::format("the table \"{}\" is there twice", escaped(name)))
          .at(escaped(file.name))
          .pair(fmt::format("{} and {}", escaped(found->second.file), escaped(file.name)),
                "one table of that name")
          .advise("rename the file and its uses");
    }
    BV_TRY(json, parse_rules_json(file.text, file.name));
    tables[name] = Table{file.name, std::make_shared<const OrderedJson>(std::move(json))};
  }
  return tables;
}

/// A name by which a family is chosen must choose one.
Status check_names(const std::vector<FamilyPtr>& families, const Family& added) {
  using List = std::vector<std::string>;
  const auto clash = [&](const char* what, const List& ours, const List& theirs,
                         const Family& other) -> Status {
    for (const std::string& name : ours) {
      if (std::find(theirs.begin(), theirs.end(), name) != theirs.end()) {
        return fail(Code::RulesInvalid,
                    fmt::format("{} {} belongs to two families", what, escaped(name)))
            .at(escaped(added.file))
            .pair(fmt::format("{} and {}", escaped(other.file), escaped(added.file)),
                  fmt::format("one family for {}", escaped(name)))
            .advise("give the new family names of its own");
      }
    }
    return Done{};
  };
  for (const FamilyPtr& other : families) {
    BV_CHECK(clash("the family name", {added.name}, {other->name}, *other));
    BV_CHECK(clash("the architecture", added.architectures, other->architectures, *other));
    BV_CHECK(clash("the model_type", added.model_types, other->model_types, *other));
  }
  return Done{};
}

}  // namespace

Result<FamilyPtr> parse_family(std::string_view json_text, std::string_view file) {
  BV_TRY(tables, builtin_tables());
  return parse_family_with(json_text, file, std::move(tables));
}

Result<std::vector<FamilyPtr>> builtin_families() {
  return families_with({}, {});
}

Result<std::vector<FamilyPtr>> families_with(std::span<const RulesText> added,
                                             std::span<const RulesText> more_tables) {
  BV_TRY(builtin, builtin_tables());
  BV_TRY(tables, with_tables(std::move(builtin), more_tables));
  std::vector<FamilyPtr> families;
  for (const BuiltinFile& file : builtin_families_files()) {
    BV_TRY(family, parse_family_with(file.text, file.name, tables));
    families.push_back(std::move(family));
  }
  for (const RulesText& file : added) {
    BV_TRY(family, parse_family_with(file.text, file.name, tables));
    BV_CHECK(check_names(families, *family));
    families.push_back(std::move(family));
  }
  return families;
}

}  // namespace bv::family

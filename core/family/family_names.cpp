// Names of a family file: short names of a section, prefixes, the family's own name.

#include <fmt/format.h>

#include <algorithm>

#include "core/base/text.hpp"
#include "core/family/family_parts.hpp"

namespace bv::family {
namespace {

Error too_long(const JsonPlace& place, std::size_t length, std::string_view by) {
  return place.error(by.empty() ? std::string("a name is too long")
                                : fmt::format("{{{}}} makes a name too long", readable(by)),
                     counted(length, "character"), fmt::format("at most {}", kTemplateMax));
}

bool is_name_character(char c) {
  return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || c == '_' ||
         c == '-';
}

}  // namespace

Result<std::string> with_names(const JsonPlace& place, std::string text, const TextsByName& names) {
  if (text.size() > kTemplateMax) {
    return too_long(place, text.size(), "");
  }
  for (const auto& [name, value] : names) {
    if (text.find('{') == std::string::npos) {
      break;
    }
    const std::string brace = fmt::format("{{{}}}", name);
    for (std::size_t at = text.find(brace); at != std::string::npos;
         at = text.find(brace, at + value.size())) {
      text.replace(at, brace.size(), value);
      if (text.size() > kTemplateMax) {
        return too_long(place, text.size(), name);
      }
    }
  }
  return text;
}

Status settle(const JsonPlace& place, const TextsByName& names, const RulePlace& at, Rule& rule) {
  rule.when.insert(rule.when.begin(), at.when.begin(), at.when.end());
  rule.section = at.section;
  rule.source = at.title;
  for (std::string* name : {&rule.megatron, &rule.megatron_local, &rule.megatron_sequential}) {
    BV_TRY(whole, with_names(place, *name, names));
    *name = whole;
  }
  for (auto& [source, name] : rule.hf) {
    BV_TRY(whole, with_names(place, name, names));
    name = whole;
  }
  return Done{};
}

Result<TextsByName> parse_names(const JsonPlace& section) {
  TextsByName out;
  const auto names = section.find("names");
  if (!names) {
    return out;
  }
  BV_TRY(members, names->members());
  if (members.size() > kNamesMax) {
    return names->error("a section has too many names", counted(members.size(), "name"),
                        fmt::format("at most {}", kNamesMax));
  }
  for (const auto& [name, value_place] : members) {
    BV_TRY(text, value_place.text());
    BV_TRY(value, with_names(value_place, text, out));
    if (value.find(fmt::format("{{{}}}", name)) != std::string::npos) {
      return value_place.error("a name is made of itself", readable(text),
                               "text, and names that stand before it");
    }
    out.emplace_back(name, value);
  }
  for (const auto& [name, value_place] : members) {  // those that stand behind it are filled in too
    BV_CHECK(with_names(value_place, fmt::format("{{{}}}", name), out));
  }
  return out;
}

Status parse_prefixes(const JsonPlace& top, Family& out) {
  const auto prefixes = top.find("prefixes");
  if (!prefixes) {
    return Done{};
  }
  BV_TRY(members, prefixes->members());
  for (const auto& [name, place] : members) {
    BV_TRY(all, place.texts());
    if (all.empty()) {
      return place.error("no prefix is listed", "[]", "a prefix, or a list of them");
    }
    for (const std::string& prefix : all) {
      if (prefix.find_first_of("{}") != std::string::npos || prefix.size() > kPrefixMax) {
        return place.error("a prefix is plain text", readable(prefix),
                           fmt::format("at most {} characters without braces", kPrefixMax));
      }
    }
    out.prefixes[name] = all.front();
    out.also_prefixes.insert(out.also_prefixes.end(), all.begin() + 1, all.end());
  }
  return Done{};
}

Result<std::string> parse_family_name(const JsonPlace& place) {
  constexpr std::size_t kLengthMax = 64;
  BV_TRY(name, place.text());
  if (name.empty() || name.size() > kLengthMax ||
      !std::all_of(name.begin(), name.end(), is_name_character)) {
    return place.error("this cannot be the name of a family", readable(name),
                       fmt::format("1 to {} letters, digits, _ and -", kLengthMax));
  }
  return name;
}

}  // namespace bv::family

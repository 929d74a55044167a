#include <fmt/format.h>

#include <algorithm>
#include <nlohmann/json.hpp>

#include "core/base/text.hpp"
#include "core/family/family.hpp"
#include "core/model/config_field.hpp"
#include "core/model/label_head.hpp"

namespace bv::model {
namespace {

using nlohmann::json;

bool answers(const std::vector<std::string>& names, const std::string& name) {
  return std::find(names.begin(), names.end(), name) != names.end();
}

bool answers_any(const std::vector<std::string>& names, const std::vector<std::string>& named) {
  return std::any_of(named.begin(), named.end(),
                     [&](const std::string& name) { return answers(names, name); });
}

template <class Test>
family::FamilyPtr family_with(const std::vector<family::FamilyPtr>& families, const Test& test) {
  const auto found = std::find_if(families.begin(), families.end(),
                                  [&](const family::FamilyPtr& one) { return test(*one); });
  return found == families.end() ? nullptr : *found;
}

/// Class names of config.json; none when the field is absent or null.
Result<std::vector<std::string>> classes_of(const json& config) {
  const auto node = config.is_object() ? config.find("architectures") : config.end();
  if (node == config.end() || node->is_null()) {
    return std::vector<std::string>();
  }
  return words_of(*node, "architectures");
}

/// Families whose class names share the longest start with `name`: "Qwen3_5..." for a new Qwen3.5
/// head.
std::vector<std::string> nearest_families(const std::string& name,
                                          const std::vector<family::FamilyPtr>& families) {
  constexpr std::size_t kShown = 3;
  constexpr std::size_t kCommonMin = 4;
  std::vector<std::pair<std::size_t, std::string>> ranked;
  for (const family::FamilyPtr& family : families) {
    std::size_t common = 0;
    for (const std::string& known : family->architectures) {
      const auto differs = std::mismatch(known.begin(), known.end(), name.begin(), name.end());
      common = std::max(common, static_cast<std::size_t>(differs.first - known.begin()));
    }
    if (common >= kCommonMin) {
      ranked.emplace_back(common, family->name);
    }
  }
  std::stable_sort(ranked.begin(), ranked.end(),
                   [](const auto& a, const auto& b) { return a.first > b.first; });
  std::vector<std::string> names;
  for (std::size_t i = 0; i < std::min(kShown, ranked.size()); ++i) {
    names.push_back(ranked[i].second);
  }
  return names;
}

Error unknown(const std::vector<std::string>& named, const std::string& type,
              const std::vector<family::FamilyPtr>& families) {
  std::vector<std::string> known;
  for (const family::FamilyPtr& family : families) {
    known.push_back(family->name);
  }
  const std::string first = named.empty() ? type : named.front();
  const std::vector<std::string> near = nearest_families(first, families);
  std::string subject =
      named.empty() ? "" : fmt::format("architecture {}", escaped(join(named, ", ")));
  subject += type.empty() ? ""
                          : fmt::format("{}model_type {}{}", named.empty() ? "" : " (",
                                        escaped(type), named.empty() ? "" : ")");
  return fail(Code::ArchitectureUnknown, fmt::format("no rules for {}", subject))
      .at("config.json")
      .fact(near.empty() ? fmt::format("families: {}", join(known, " "))
                         : fmt::format("nearest families: {}", join(near, " ")))
      .pair(escaped(first), "an architecture of a built-in family or of --rules")
      .advise(
          "write the rules of your bridge to a file for --rules FILE or a family file for "
          "--families DIR, or name a family of equal structure with --family NAME");
}

}  // namespace

Result<FamilyChoice> choose(const json& config, const std::vector<family::FamilyPtr>& families) {
  if (!config.is_object()) {
    return fail(Code::ConfigField, "config.json is not a JSON object")
        .at("config.json")
        .pair(fmt::format("a {}", config.type_name()), "an object with \"architectures\"")
        .advise("point at the config.json of the checkpoint");
  }
  BV_TRY(named, classes_of(config));
  std::string type;
  if (const auto node = config.find("model_type"); node != config.end() && !node->is_null()) {
    if (!node->is_string()) {
      return wrong_field("model_type", *node, "a string");
    }
    type = node->get<std::string>();
  }
  const family::FamilyPtr by_type = family_with(
      families, [&](const family::Family& family) { return answers(family.model_types, type); });
  const family::FamilyPtr by_class = family_with(families, [&](const family::Family& family) {
    return answers_any(family.architectures, named) &&
           (by_type == nullptr || answers(family.model_types, type) ||
            answers(family.class_of, type));
  });
  const std::string classes = escaped(join(named, ", "));
  if (by_class != nullptr) {
    return FamilyChoice{
        by_class,
        {"family", by_class->name,
         by_type == nullptr
             ? fmt::format("architectures names {}", classes)
             : fmt::format("architectures names {}, model_type is {}", classes, escaped(type))}};
  }
  if (by_type != nullptr) {
    return FamilyChoice{
        by_type,
        {"family", by_type->name,
         fmt::format("model_type is {}{}", escaped(type),
                     named.empty()
                         ? "; architectures names no class"
                         : fmt::format("; it decides: architectures names {}", classes))}};
  }
  if (named.empty() && type.empty()) {
    return fail(Code::ConfigField, "config.json has neither architectures nor model_type")
        .at("config.json")
        .pair("no such fields", "architectures: [\"LlamaForCausalLM\"], for example")
        .advise("add the class name, or give it with --set architectures='[\"...\"]'");
  }
  return unknown(named, type, families);
}

Result<family::FamilyPtr> choose_family(const json& config,
                                        const std::vector<family::FamilyPtr>& families) {
  BV_TRY(choice, choose(config, families));
  return choice.family;
}

HeadClass head_class(const family::Family& family, const json& config) {
  const auto named = classes_of(config);
  if (!named || named->empty()) {
    return {};
  }
  HeadClass out{named->front(), answers_any(family.architectures, *named)};
  for (const std::string& name : *named) {
    out.language = out.language || !language_ending(name).empty();
  }
  return out;
}

}  // namespace bv::model

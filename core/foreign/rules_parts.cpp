#include "core/foreign/rules_parts.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <nlohmann/json.hpp>

#include "core/foreign/numbered.hpp"
#include "core/foreign/rules_entries.hpp"
#include "core/foreign/shown.hpp"

namespace bv::foreign {
namespace {

using nlohmann::json;
using Names = std::vector<std::pair<std::string, std::string>>;

constexpr const char* kPattern = "pattern";

Error wrong(std::string message) {
  return invalid("", std::move(message));
}

Result<std::string> computed_name(const json& node, std::string_view called,
                                  const std::string& rule) {
  Names numbers;
  for (const auto& [key, value] : node.items()) {
    if (!value.is_string()) {
      return wrong(fmt::format("{}.{} of {} is not a text", called, shown(key), rule))
          .pair(dumped(value), R"({"pattern": "layers.{a}.x", "a": "c0 + 8"})");
    }
    if (key != kPattern) {
      numbers.emplace_back(key, value.get<std::string>());
    }
  }
  auto out = numbered_pattern(node.at(kPattern).get<std::string>(), numbers);
  if (!out) {
    out.error().message += " (" + rule + ")";
    out.error().help = wrong("").help;
  }
  return out;
}

Result<std::string> hf_name(const json& node, const std::string& called, const std::string& rule) {
  if (node.is_object() && member(node, kPattern) != nullptr) {
    return computed_name(node, called, rule);
  }
  if (!node.is_string()) {
    return wrong(fmt::format("{} of {} is not a name", called, rule)).pair(dumped(node), "a text");
  }
  const std::string name = node.get<std::string>();
  if (name.find_first_of("{}") != std::string::npos) {
    return wrong(fmt::format("{} of {} has braces", called, rule))
        .pair(shown(name), R"(a name, or {"pattern": "layers.{a}.x", "a": "c0 + 8"})");
  }
  return name;
}

}  // namespace

Result<Names> read_hf_names(const json* hf, const std::string& rule) {
  if (hf == nullptr) {
    return wrong(fmt::format("{} has no \"hf\"", rule))
        .pair("no such key", "\"hf\": a name, or names by role");
  }
  const json* pattern = member(*hf, kPattern);
  if (hf->is_string() || (pattern != nullptr && pattern->is_string() &&
                          pattern->get_ref<const std::string&>().find('{') != std::string::npos)) {
    BV_TRY(name, hf_name(*hf, "hf", rule));
    return Names{{"", std::move(name)}};
  }
  if (!hf->is_object() || hf->empty()) {
    return wrong(fmt::format("\"hf\" of {} is neither a name nor names by role", rule))
        .pair(dumped(*hf), R"("name", or {"q": "name", ...})");
  }
  Names out;
  for (const auto& [role, node] : hf->items()) {
    BV_TRY(name, hf_name(node, "hf." + shown(role), rule));
    out.emplace_back(role, std::move(name));
  }
  return out;
}

Result<Names> read_optional(const json& node, const ForeignRule& rule) {
  const auto has_role = [&](std::string_view role) {
    return std::any_of(rule.hf.begin(), rule.hf.end(),
                       [&](const auto& one) { return one.first == role; });
  };
  const auto malformed = [&]() -> Error {
    return wrong(fmt::format("\"optional\" of {} does not say what stands for a part that is "
                             "absent",
                             named(rule)))
        .pair(dumped(node), R"("skip", or {"v": "copy:k"}, {"v": "zero"}, {"v": "skip"})");
  };
  Names out;
  if (node == "skip") {
    for (const auto& [role, name] : rule.hf) {
      out.emplace_back(role, "skip");
    }
    return out;
  }
  if (!node.is_object() || node.empty()) {
    return malformed();
  }
  for (const auto& [role, value] : node.items()) {
    constexpr std::string_view kCopy = "copy:";
    const std::string word = value.is_string() ? value.get<std::string>() : "";
    const bool copies = word.starts_with(kCopy) && word.substr(kCopy.size()) != role &&
                        has_role(word.substr(kCopy.size()));
    if (!has_role(role) || (word != "skip" && word != "zero" && !copies)) {
      return malformed();
    }
    out.emplace_back(role, word);
  }
  return out;
}

Result<std::int64_t> read_slice(const json& node, const ForeignRule& rule) {
  constexpr std::int64_t kSliceMax = std::int64_t{1} << 40;
  if (!node.is_number_unsigned() || node.get<std::uint64_t>() > kSliceMax || rule.hf.size() != 1) {
    return wrong(fmt::format("\"slice\" of {} is not an index of its HF tensor", named(rule)))
        .pair(dumped(node), "a number from 0, on a rule with one HF name");
  }
  return node.get<std::int64_t>();
}

}  // namespace bv::foreign

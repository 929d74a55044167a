// Which modules each group of config_groups is for (compressed-tensors, utils/match.py:
// match_targets).

#include <algorithm>
#include <map>
#include <nlohmann/json.hpp>

#include "core/quantised/module.hpp"

namespace bv::quantised {
namespace {

constexpr std::string_view kExpression = "re:";
constexpr std::size_t kTargetsMax = 2000;

bool is_expression(std::string_view text) {
  return text.starts_with(kExpression);
}

/// Classes that the module of every quantised weight belongs to.
bool names_class(std::string_view text) {
  return text == "Linear" || text == "Module";
}

}  // namespace

std::vector<Target> targets_of(
    const std::vector<std::pair<std::size_t, const nlohmann::json*>>& groups) {
  std::map<std::string, std::size_t> kind_of;  // a text that stands twice: the last one counts
  for (const auto& [kind, group] : groups) {
    const auto targets = group->find("targets");
    if (targets == group->end() || !targets->is_array()) {
      continue;
    }
    for (const nlohmann::json& target : *targets) {
      if (target.is_string() && kind_of.size() < kTargetsMax) {
        kind_of[target.get<std::string>()] = kind;
      }
    }
  }
  std::vector<Target> out;
  for (const auto& [text, kind] : kind_of) {
    Target target{kind, text};
    if (is_expression(text)) {
      auto pattern =
          PathPattern::compile(text.substr(kExpression.size()), PathPattern::Extent::Start);
      target.unknown = !pattern;
      if (pattern) {
        target.pattern = *std::move(pattern);
      }
    }
    out.push_back(std::move(target));
  }
  std::ranges::stable_partition(out, [](const Target& one) { return !is_expression(one.text); });
  return out;
}

std::vector<std::size_t> kinds_named(const std::vector<Target>& targets, std::string_view module) {
  std::vector<std::size_t> out;
  const auto add = [&out](const Target& one) {
    if (std::ranges::find(out, one.kind) == out.end()) {
      out.push_back(one.kind);
    }
  };
  for (const Target& one : targets) {
    const bool named = one.pattern ? one.pattern->matches(module) : one.text == module;
    if (named || one.unknown) {
      add(one);
    }
    if (named) {
      return out;
    }
  }
  const auto by_class =
      std::ranges::find_if(targets, [](const Target& one) { return names_class(one.text); });
  if (by_class != targets.end()) {
    add(*by_class);
  }
  return out;
}

}  // namespace bv::quantised

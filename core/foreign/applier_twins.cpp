// Two rules of one Megatron pattern.

#include <fmt/format.h>

#include <algorithm>
#include <map>

#include "core/foreign/applier.hpp"
#include "core/foreign/foreign_kinds.hpp"
#include "core/foreign/pattern.hpp"
#include "core/foreign/shown.hpp"

namespace bv::foreign {
namespace {

/// Does the rule read for this parameter what the family does, in that order?
bool reads_as_wanted(const ForeignKinds& kinds, const ForeignRule& rule,
                     const WantedParameter& parameter) {
  const auto captures = match_pattern(rule.megatron, parameter.name);
  const ForeignKind* const kind = kinds.find(rule.kind);
  if (!captures || kind == nullptr || parameter.wanted == nullptr ||
      kind->sources.size() != parameter.wanted->hf.size()) {
    return false;
  }
  for (std::size_t i = 0; i < kind->sources.size(); ++i) {
    const std::string* const pattern = pattern_for(rule, kind->sources[i]);
    if (pattern == nullptr || fill_pattern(*pattern, *captures) != parameter.wanted->hf[i]) {
      return false;
    }
  }
  return true;
}

std::string reading(const ForeignRule& rule) {
  return fmt::format("{} of {} ({})", shown(rule.kind), shown(rule.hf.front().second), rule.source);
}

}  // namespace

/// Those that say different things: the first would win, right or wrong.
void Applier::report_twins(const std::vector<WantedParameter>& wanted) {
  std::map<std::string_view, const ForeignRule*> first;
  for (const ForeignRule& rule : rules_.rules) {
    const auto [entry, fresh] = first.try_emplace(rule.megatron, &rule);
    const ForeignRule& before = *entry->second;
    if (fresh || !used_rules_[before.position] ||
        (before.hf == rule.hf && before.kind == rule.kind)) {
      continue;
    }
    const auto parameter =
        std::find_if(wanted.begin(), wanted.end(), [&](const WantedParameter& one) {
          return match_pattern(rule.megatron, one.name).has_value();
        });
    const auto right = [&](const ForeignRule& one) {
      return parameter != wanted.end() && reads_as_wanted(kinds_, one, *parameter);
    };
    const bool known = right(before) != right(rule);
    const ForeignRule& wrong = right(before) ? rule : before;
    out_.model.faults.push_back(
        {Code::DuplicateClaim, shown(rule.megatron), twins_text(before, rule),
         reading(before) + " and " + reading(rule), "one rule for each Megatron name",
         known
             ? fmt::format("remove the rule at {}: the other one reads what the module is made of",
                           wrong.source)
             : fmt::format("keep one of them; the first, at {}, is the one that is used",
                           before.source)});
  }
}

}  // namespace bv::foreign

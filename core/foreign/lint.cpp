#include "core/foreign/lint.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <array>

#include "core/base/text.hpp"
#include "core/foreign/pattern_index.hpp"
#include "core/foreign/shown.hpp"

namespace bv::foreign {
namespace {

using Severity = LintFinding::Severity;

/// A name that a pattern takes; two fillings tell a wildcard from a number that happens to fit.
std::string example_of(std::string_view pattern, std::string_view number) {
  return fill_pattern(pattern, std::vector<std::string>(wildcards(pattern), std::string(number)));
}

LintFinding finding_of(const Error& error, Severity severity, std::string rule) {
  LintFinding out;
  out.code = error.code;
  out.severity = severity;
  out.rule = std::move(rule);
  out.source = error.where;
  out.message = error.message;
  out.facts = error.facts;
  out.found = error.found;
  out.wanted = error.wanted;
  out.help = error.help;
  return out;
}

/// An earlier rule that takes every name of this one; kNone without one.
std::size_t earlier_rule(const ForeignRules& rules, const PatternIndex& index,
                         const ForeignRule& rule) {
  const std::string seven = example_of(rule.megatron, "7");
  const std::string thirteen = example_of(rule.megatron, "13");
  std::size_t at = index.first(seven);
  while (at < rule.position && !match_pattern(rules.rules[at].megatron, thirteen)) {
    at = index.first(seven, at + 1);
  }
  return at < rule.position ? at : PatternIndex::kNone;
}

std::optional<LintFinding> order_fault(const ForeignRules& rules, const PatternIndex& index,
                                       const ForeignRule& rule) {
  const std::size_t at = earlier_rule(rules, index, rule);
  if (at == PatternIndex::kNone) {
    return std::nullopt;
  }
  const ForeignRule& before = rules.rules[at];
  const bool same = before.megatron == rule.megatron;
  const bool again = same && before.hf == rule.hf && before.kind == rule.kind;  // harmless
  LintFinding out;
  out.code = same ? Code::DuplicateClaim : Code::RuleShadowed;
  out.severity = same && !again ? Severity::Error : Severity::Warning;
  out.rule = shown(rule.id);
  out.source = rule.source;
  out.message = again  ? fmt::format("{}, of the same tensors", twins_text(before, rule))
                : same ? twins_text(before, rule)
                       : fmt::format(
                             "rule {} can never match: rule {} is tried first and takes the "
                             "same names",
                             shown(rule.id), shown(before.id));
  out.found = fmt::format("{} at {}", shown(before.megatron), before.source);
  out.wanted = fmt::format("{} at {}", shown(rule.megatron), rule.source);
  out.help = again ? "remove one of them"
             : same
                 ? "keep the right one; bridge-verify rules lint FILE --model DIR says which it is"
                 : "put the exact name before the wildcard, or remove it";
  return out;
}

struct IdleGroup {
  std::string_view when;  // what the rules say that they are for
  std::string_view part;  // of the Megatron name, of rules that say nothing
  std::string_view what;
  std::vector<const ForeignRule*> rules;
};

LintFinding idle_finding(const IdleGroup& group) {
  constexpr std::size_t kShown = 8;
  const ForeignRule& first = *group.rules.front();
  std::vector<std::string> ids;
  for (std::size_t i = 0; i < std::min(group.rules.size(), kShown); ++i) {
    ids.push_back(shown(group.rules[i]->id));
  }
  const std::size_t more = group.rules.size() - ids.size();
  LintFinding out;
  out.code = Code::RuleDead;
  out.severity = Severity::Warning;
  out.rule = group.rules.size() == 1 ? ids.front() : "";
  out.source = first.source;
  out.message =
      group.rules.size() == 1
          ? fmt::format("rule {}{} finds no tensor in the checkpoint", ids.front(), group.what)
          : fmt::format("{} rules{} find no tensor in the checkpoint: {}{}", group.rules.size(),
                        group.what, join(ids, ", "),
                        more == 0 ? "" : fmt::format(" and {} more", more));
  out.found = "no tensor " + shown(first.hf.front().second);
  out.wanted = "tensors for " + shown(first.megatron);
  out.help = group.when.empty() ? "remove the rule, or correct its HF names"
                                : "nothing, when the checkpoint has none of these";
  return out;
}

}  // namespace

std::vector<LintFinding> lint_rules(const ForeignRules& rules, const ForeignKinds& kinds) {
  std::vector<LintFinding> out;
  const PatternIndex index(megatron_patterns(rules));
  for (const ForeignRule& rule : rules.rules) {
    for (const RuleFault& fault : rule_faults(kinds, rule, rules.parameters.has_value())) {
      out.push_back(finding_of(fault.error, fault.refutes ? Severity::Error : Severity::Unsupported,
                               shown(rule.id)));
    }
    if (auto order = order_fault(rules, index, rule)) {
      out.push_back(std::move(*order));
    }
  }
  for (const Error& warning : rules.warnings) {
    out.push_back(finding_of(warning, Severity::Warning, ""));
  }
  return out;
}

std::vector<LintFinding> idle_rules(const ForeignRules& rules, const Headers& headers) {
  const NameIndex names(headers);
  std::array<IdleGroup, 4> groups = {
      IdleGroup{"mtp", "mtp.", " for MTP layers", {}},
      IdleGroup{"sequential", "local_experts.", " for experts kept apart", {}},
      IdleGroup{"unfused", "", " for norms kept apart", {}}, IdleGroup{"", "", "", {}}};
  for (const ForeignRule& rule : rules.rules) {
    const bool idle = std::all_of(rule.hf.begin(), rule.hf.end(), [&](const auto& hf) {
      return names.readable_by(hf.second).empty();
    });
    for (IdleGroup& group : groups) {
      const bool named_so =
          !group.part.empty() && rule.megatron.find(group.part) != std::string::npos;
      if (idle &&
          (group.when.empty() || rule.when == group.when || (rule.when.empty() && named_so))) {
        group.rules.push_back(&rule);
        break;
      }
    }
  }
  std::vector<LintFinding> out;
  for (const IdleGroup& group : groups) {
    if (!group.rules.empty()) {
      out.push_back(idle_finding(group));
    }
  }
  return out;
}

}  // namespace bv::foreign

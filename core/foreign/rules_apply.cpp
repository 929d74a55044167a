// A foreign rule set held against the parameters of a family, or against a list of parameters.

#include "core/foreign/rules_apply.hpp"

#include <fmt/format.h>

#include <algorithm>

#include "core/foreign/applier.hpp"
#include "core/foreign/listed.hpp"
#include "core/foreign/parameter.hpp"

namespace bv::foreign {
namespace {

WantedParameter of_family(const model::Model& wanted, const model::Mapping& mapping,
                          std::int64_t expert) {
  WantedParameter out;
  out.name = wanted.megatron_name(mapping, expert);
  out.stage = mapping.stage;
  out.index = mapping.index;
  out.expert = mapping.expert >= 0 ? mapping.expert : expert;
  out.row = mapping.rule;
  out.wanted = &mapping;
  out.text = mapping.stage != family::Stage::Vision;
  out.vocabulary = mapping.rule->vocabulary;
  out.is_expert = mapping.rule->expert;
  return out;
}

std::vector<WantedParameter> of_family(const model::Model& wanted) {
  std::vector<WantedParameter> out;
  for (const model::Mapping& mapping : wanted.mappings) {
    const bool stack = mapping.is_stack();
    for (std::int64_t e = stack ? 0 : -1; e < (stack ? wanted.parameters_of(mapping) : 0); ++e) {
      out.push_back(of_family(wanted, mapping, e));
    }
  }
  return out;
}

/// The listed parameters, each with the family's rule where it has one.
std::vector<WantedParameter> listed_of_family(const model::Model& wanted,
                                              const ForeignRules& rules) {
  std::map<std::string, WantedParameter, std::less<>> known;
  for (WantedParameter& parameter : of_family(wanted)) {
    std::string name = parameter.name;
    known.emplace(std::move(name), std::move(parameter));
  }
  const std::string prefix = text_prefix(rules);
  std::vector<WantedParameter> out;
  for (const ListedParameter& listed : *rules.parameters) {
    const auto found = known.find(listed.name);
    out.push_back(found == known.end() ? from_name(listed.name, prefix) : found->second);
    out.back().listed = &listed;
  }
  return out;
}

}  // namespace

Result<AppliedRules> apply_rules(const model::Model& wanted, const ForeignRules& rules,
                                 const ForeignKinds& kinds, const Headers& headers,
                                 const model::ResolveOptions& options) {
  if (!rules.parameters) {
    AppliedRules out = Applier(wanted, rules, kinds, headers, options).run(of_family(wanted));
    if (out.model.faults.empty()) {
      out.model.faults = wanted.faults;  // the list of parameters itself is in doubt
      std::erase_if(out.model.faults, [](const model::NameFault& fault) {
        return fault.code == Code::AmbiguousTranspose;  // the rule was asked
      });
    }
    return out;
  }
  model::Model base = wanted;
  const std::vector<WantedParameter> parameters = listed_of_family(wanted, rules);
  follow_list(parameters, base);
  return Applier(base, rules, kinds, headers, options).run(parameters);
}

ForeignRules with_layers(const ForeignRules& rules, std::int64_t from, std::int64_t to) {
  ForeignRules out = rules;
  // What stands before the number of a decoder layer in HF names.
  std::set<std::string, std::less<>> before_layer;
  for (const ForeignRule& rule : rules.rules) {
    if (rule.megatron.find("decoder.layers.*.") == std::string::npos) {
      continue;
    }
    for (const auto& [role, pattern] : rule.hf) {
      if (const std::size_t star = pattern.find('*'); star != std::string::npos) {
        before_layer.insert(pattern.substr(0, star));
      }
    }
  }
  for (ForeignRule& rule : out.rules) {
    for (auto& [role, pattern] : rule.hf) {
      for (const std::string& start : before_layer) {
        const std::size_t end = pattern.find_first_not_of("0123456789", start.size());
        const std::size_t digits =
            std::min(end, pattern.size()) - std::min(start.size(), pattern.size());
        if (!pattern.starts_with(start) || digits == 0 || digits > 9) {
          continue;
        }
        const std::int64_t layer = std::stoll(pattern.substr(start.size(), digits));
        if (layer >= from) {
          pattern.replace(start.size(), digits, std::to_string(layer - from + to));
          break;
        }
      }
    }
  }
  return out;
}

}  // namespace bv::foreign

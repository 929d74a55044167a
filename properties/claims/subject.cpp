#include "properties/claims/subject.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <map>

#include "oracles/model_style.hpp"

namespace bv::claims {
namespace {

std::vector<std::string> split(std::string_view name) {
  std::vector<std::string> out;
  for (std::size_t start = 0; start <= name.size();) {
    const std::size_t dot = std::min(name.find('.', start), name.size());
    out.emplace_back(name.substr(start, dot - start));
    start = dot + 1;
  }
  return out;
}

std::string without_number(const std::string& part) {
  std::size_t end = part.size();
  while (end > 0 && std::isdigit(static_cast<unsigned char>(part[end - 1])) != 0) {
    --end;
  }
  return part.substr(0, end);
}

/// Two names of one rule differ in numbers, or in words that a rule lists; a star stands there.
std::string merged(std::string_view a, std::string_view b) {
  const auto left = split(a);
  const auto right = split(b);
  if (left.size() != right.size()) {
    return std::string(a);
  }
  std::string out;
  for (std::size_t i = 0; i < left.size(); ++i) {
    out += i > 0 ? "." : "";
    const std::string common = without_number(left[i]);
    out += left[i] == right[i] ? left[i] : common == without_number(right[i]) ? common + "*" : "*";
  }
  return out;
}

}  // namespace

std::vector<RuleUse> rule_uses(const model::Model& model) {
  std::map<const family::Rule*, RuleUse> by_rule;
  for (std::uint32_t i = 0; i < model.mappings.size(); ++i) {
    const model::Mapping& mapping = model.mappings[i];
    RuleUse& use = by_rule[mapping.rule];
    use.mappings.push_back(i);
    use.tensors += std::ssize(mapping.hf);
    use.parameters += model.parameters_of(mapping);
  }
  std::vector<RuleUse> out;
  for (const family::Rule& rule : family::rules(*model.family)) {
    if (const auto found = by_rule.find(&rule); found != by_rule.end()) {
      found->second.of = &model;
      found->second.rule = &rule;
      out.push_back(std::move(found->second));
    }
  }
  return out;
}

std::vector<RuleUse> rule_uses(const Subject& subject) {
  std::vector<RuleUse> out;
  for (const Part& part : subject.parts) {
    for (RuleUse& use : rule_uses(part.source->model)) {
      use.part = &part;
      out.push_back(std::move(use));
    }
  }
  return out;
}

oracle::Stated stated(const model::Model& model) {
  const family::StatedFacts& facts = family::stated_facts(*model.family);
  return {facts.computes_like, facts.zero_centered_gamma};
}

bool rests_on_statement(const checkpoint::HfModel& source) {
  return oracle::style_of(source.model_type) == nullptr && !stated(source.model).like.empty();
}

std::int64_t sum_of(const Subject& subject, std::int64_t RuleUse::*field) {
  std::int64_t out = 0;
  for (const RuleUse& use : rule_uses(subject)) {
    out += use.*field;
  }
  return out;
}

std::string megatron_pattern(const RuleUse& use) {
  const model::Model& model = use.model();
  const model::Mapping& first = model.mappings[use.mappings.front()];
  const model::Mapping& last = model.mappings[use.mappings.back()];
  const bool stacked = first.is_stack();
  return merged(model.megatron_name(first, stacked ? 0 : first.expert),
                model.megatron_name(last, stacked ? model.parameters_of(last) - 1 : last.expert));
}

std::vector<std::string> hf_patterns(const RuleUse& use) {
  const model::Mapping& first = use.model().mappings[use.mappings.front()];
  const model::Mapping& last = use.model().mappings[use.mappings.back()];
  std::vector<std::string> out;
  for (std::size_t i = 0; i < first.hf.size(); ++i) {
    out.push_back(merged(first.hf[i], last.hf[i]));
  }
  return out;
}

Verdict about(const Subject& subject, std::string_view claim, const RuleUse& use,
              const std::string& layout) {
  Verdict out;
  out.claim = claim;
  out.rule = use.part->name.empty() ? use.rule->id : use.part->name + ":" + use.rule->id;
  out.kind = use.rule->kind;
  out.rule_source = use.rule->source;
  out.rule_class = use.rule->upstream_class;
  out.layout = layout;
  out.megatron = megatron_pattern(use);
  out.hf = hf_patterns(use);
  out.replay = fmt::format("{} --only {}{}", subject.replay, claim,
                           layout.empty() ? "" : " --layout " + layout);
  return out;
}

bool sizes_are_right(const Subject& subject, const RuleUse& use) {
  const auto bound =
      plan::bind_rule(*subject.kinds, use.model().geometry, *use.rule, parallel::Layout{});
  if (!bound) {
    return true;  // no sizes: the claim itself says what is wrong
  }
  const std::vector<Shape>& wanted = bound->source_shapes();
  return std::any_of(use.mappings.begin(), use.mappings.end(), [&](std::uint32_t m) {
    const std::vector<std::string>& hf = use.model().mappings[m].hf;
    for (std::size_t i = 0; i < hf.size(); ++i) {
      const auto header = use.source().headers.find(hf[i]);
      if (header == use.source().headers.end() || header->second.shape != wanted[i]) {
        return false;
      }
    }
    return true;
  });
}

void mark_not_reached(Verdict& verdict) {
  verdict.outcome = Outcome::Inconclusive;
  verdict.evidence = {};
  verdict.code = Code::NotReached;
  verdict.title = fmt::format("not reached: no tensor of {} has the shape that its rule states",
                              verdict.megatron);
  verdict.help = "first correct what the claim shapes refutes";
}

std::vector<std::string> size_origins(const model::Model& model, const family::Rule& rule) {
  std::string text;
  for (const auto& [axis, expression] : rule.axes) {
    text += expression + " ";
  }
  for (const std::string& expression : rule.rest) {
    text += expression + " ";
  }
  return model::fields_behind(*model.family, model.geometry, text);
}

}  // namespace bv::claims

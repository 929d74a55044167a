#include "core/foreign/name_faults.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <set>

#include "core/base/text.hpp"
#include "core/family/symbols.hpp"
#include "core/foreign/layer_words.hpp"
#include "core/foreign/numbered.hpp"
#include "core/foreign/shown.hpp"

namespace bv::foreign {
namespace {

bool is_layer(family::Stage stage) {
  return stage == family::Stage::Decoder || stage == family::Stage::Mtp;
}

/// "layer 4", "layers 4-6"; "MTP layer 0".
std::string layers_text(family::Stage stage, const std::vector<std::int64_t>& layers) {
  const std::string what = stage == family::Stage::Mtp ? "MTP layer" : "layer";
  const bool range = layers.back() - layers.front() + 1 == static_cast<std::int64_t>(layers.size());
  if (layers.size() == 1) {
    return fmt::format("{} {}", what, layers.front());
  }
  return range ? fmt::format("{}s {} to {}", what, layers.front(), layers.back())
               : fmt::format("{} {}s, {} first,", layers.size(), what, layers.front());
}

/// A name without its numbers, for likeness.
std::string without_numbers(std::string_view name) {
  std::string out = starred(name);
  for (std::size_t at = out.find(".*"); at != std::string::npos; at = out.find(".*")) {
    out.erase(at, 2);
  }
  return out;
}

std::string joined(std::vector<std::string> names) {
  constexpr std::size_t kShown = 8;
  const std::size_t more = names.size() - std::min(names.size(), kShown);
  names.resize(names.size() - more);
  for (std::string& name : names) {
    name = shown(name);
  }
  return join(names, ", ") + (more == 0 ? "" : fmt::format(" and {} more", more));
}

}  // namespace

void FaultGroup::add(const std::string& name) {
  first = count++ == 0 ? name : first;
  last = name;
  all.push_back(name);
}

std::string FaultGroup::names() const {
  return count == 1 ? shown(first) : fmt::format("{} .. {}", shown(first), shown(last));
}

void NameFaults::wants(const WantedParameter& parameter) {
  if (is_layer(parameter.stage)) {
    Layer& layer = layers_[{parameter.stage, parameter.index}];
    ++layer.wanted;
    layer.parameters.push_back(&parameter);
  }
}

void NameFaults::without_rule(const WantedParameter& parameter) {
  without_rule_.push_back(&parameter);
  if (is_layer(parameter.stage)) {
    ++layers_[{parameter.stage, parameter.index}].without;
  }
}

void NameFaults::unfilled(const WantedParameter& parameter, const ForeignRule& rule,
                          const std::vector<std::string>& hf) {
  unfilled_.push_back({&parameter, &rule, hf});
  if (is_layer(parameter.stage) &&
      std::none_of(hf.begin(), hf.end(),
                   [this](const std::string& name) { return headers_.contains(name); })) {
    ++layers_[{parameter.stage, parameter.index}].unfilled;
  }
}

/// The order of the tensors is left to the placement claim; which tensors they are is said here.
void NameFaults::other_source(const WantedParameter& parameter, const ForeignRule& rule,
                              const std::vector<std::string>& hf) {
  const auto sorted = [](std::vector<std::string> names) {
    std::sort(names.begin(), names.end());
    return names;
  };
  if (parameter.wanted == nullptr || sorted(hf) == sorted(parameter.wanted->hf)) {
    return;  // without a family nothing says which tensors a module computes with
  }
  FaultGroup& group = other_source_[{rule.position, starred(parameter.name)}];
  group.rule = &rule;
  if (group.count == 0) {
    group.reads = joined(hf);
    group.wants = joined(parameter.wanted->hf);
  }
  group.add(parameter.name);
}

bool NameFaults::reads(const WantedParameter& parameter, const ForeignRule& rule,
                       const std::string& hf) {
  used_.insert(hf);
  const auto [first, fresh] = readers_.try_emplace(hf, Reader{&parameter, &rule});
  if (fresh || first->second.parameter == &parameter) {
    return true;
  }
  const Reader& before = first->second;
  const std::pair rules{before.rule->position, rule.position};
  const std::string found =
      fmt::format("{} and {}", shown(before.parameter->name), shown(parameter.name));
  const std::string pair = fmt::format("rules {} and {} read {}: {}", shown(before.rule->id),
                                       shown(rule.id), shown(hf), found);
  if (!before.parameter->certain || !parameter.certain) {
    if (doubtful_pairs_.insert(rules).second) {
      doubtful_.push_back(pair);
    }
    return false;
  }
  const auto [fault, new_pair] = second_readers_.try_emplace(rules);
  if (!new_pair) {
    return !guessed_;  // one fault a pair of rules
  }
  guessed_pairs_.push_back(pair);
  fault->second = {
      Code::DuplicateClaim,
      shown(hf),
      fmt::format("{} makes two Megatron parameters: rule {} and rule {} read it", shown(hf),
                  shown(before.rule->id), shown(rule.id)),
      found,
      "one parameter for each HF tensor",
      fmt::format("give rule {} ({}) an HF name of its own", shown(rule.id), rule.source)};
  return !guessed_;
}

/// Where no list says which of the two was built, a tensor that nothing reads shows that one of the
/// names is wrong; without one the rules may be made for models of either form.
void NameFaults::doubt_guessed_pairs() {
  if (guessed_ && unused_.empty()) {
    doubtful_.insert(doubtful_.end(), guessed_pairs_.begin(), guessed_pairs_.end());
    second_readers_.clear();
  }
}

void NameFaults::find_unused() {
  for (const auto& [name, spec] : headers_) {
    if (!used_.contains(name)) {
      unused_.push_back(name);
    }
  }
}

/// Every parameter of a layer lacks a rule: one cause, with the HF tensors that the layer is made
/// of.
void NameFaults::report_layers_without_rules(model::Model& model) {
  std::map<family::Stage, std::vector<std::int64_t>> layers;
  for (const auto& [key, layer] : layers_) {
    if (layer.wanted > 1 && layer.without == layer.wanted) {
      layers[key.first].push_back(key.second);
    }
  }
  const std::set<std::string> free(unused_.begin(), unused_.end());
  for (const auto& [stage, numbers] : layers) {
    std::int64_t parameters = 0;
    std::set<std::string> tensors;
    for (const std::int64_t number : numbers) {
      const Layer& layer = layers_.at({stage, number});
      parameters += layer.wanted;
      for (const WantedParameter* parameter : layer.parameters) {
        for (const std::string& hf :
             parameter->wanted == nullptr ? std::vector<std::string>() : parameter->wanted->hf) {
          if (free.contains(hf)) {
            tensors.insert(hf);
            used_.insert(hf);
          }
        }
      }
    }
    const std::string& first = layers_.at({stage, numbers.front()}).parameters.front()->name;
    model::NameFault fault;
    fault.code = Code::MegatronParamWithoutRule;
    fault.subject = shown(first);
    fault.message = fmt::format("{} {} no rules: {}, {} first", layers_text(stage, numbers),
                                numbers.size() == 1 ? "has" : "have",
                                counted(parameters, "Megatron parameter"), shown(first));
    fault.found = tensors.empty() ? "no rule takes any of them"
                                  : fmt::format("{} read by no rule: {} .. {}",
                                                counted(tensors.size(), "HF tensor"),
                                                shown(*tensors.begin()), shown(*tensors.rbegin()));
    fault.wanted = "a rule for each parameter";
    fault.help = stage == family::Stage::Mtp
                     ? "add the rules of the MTP layer, or leave it out with --drop-mtp"
                     : "add the rules of these layers";
    model.faults.push_back(std::move(fault));
  }
  std::erase_if(unused_, [this](const std::string& name) { return used_.contains(name); });
}

/// Rules take every parameter of a layer, and not one of its tensors is there.
void NameFaults::report_layers_not_stored(model::Model& model) {
  std::map<family::Stage, std::vector<std::int64_t>> layers;
  for (const auto& [key, layer] : layers_) {
    if (layer.wanted > 1 && layer.unfilled == layer.wanted) {
      layers[key.first].push_back(key.second);
    }
  }
  for (const auto& [stage, numbers] : layers) {
    std::int64_t parameters = 0;
    for (const std::int64_t number : numbers) {
      parameters += layers_.at({stage, number}).wanted;
    }
    const bool mtp = stage == family::Stage::Mtp;
    const auto count = mtp ? model.mtp_layers : model.geometry.layers();
    const auto origin = model.geometry.origin.find(family::symbols::kLayers);
    const std::string field = mtp ? "the number of MTP layers"
                              : origin == model.geometry.origin.end()
                                  ? std::string(family::symbols::kLayers)
                                  : origin->second;
    model::NameFault fault;
    fault.code = Code::MegatronParamUnfilled;
    fault.subject = shown(layers_.at({stage, numbers.front()}).parameters.front()->name);
    fault.message =
        fmt::format("the checkpoint holds no tensor of {}: {} would keep random initial values",
                    layers_text(stage, numbers), counted(parameters, "Megatron parameter"));
    fault.found = fmt::format("{} of {}", count - static_cast<std::int64_t>(numbers.size()),
                              counted(count, "layer"));
    fault.wanted = fmt::format("{}, as {} says", counted(count, "layer"), field);
    fault.help = mtp ? "leave the MTP layer out with --drop-mtp, or complete the checkpoint"
                     : fmt::format("correct {}, or complete the checkpoint", field);
    model.faults.push_back(std::move(fault));
  }
}

bool NameFaults::told_by_layer(const WantedParameter& parameter) const {
  if (!is_layer(parameter.stage)) {
    return false;
  }
  const Layer& layer = layers_.at({parameter.stage, parameter.index});
  return layer.wanted > 1 && (layer.without == layer.wanted || layer.unfilled == layer.wanted);
}

/// The rule that makes the parameters of `rule` in its place; null when none does.
const ForeignRule* NameFaults::makes_before(const ForeignRule& rule) const {
  const auto found = std::find_if(rules_.rules.begin(), rules_.rules.end(), [&](const auto& one) {
    return one.position < rule.position &&
           match_pattern(starred_numbers(one.megatron), rule.megatron);
  });
  return found == rules_.rules.end() ? nullptr : &*found;
}

/// A rule that would read the tensor, but for a parameter that the model does not have.
std::string NameFaults::dead_hint(const std::vector<bool>& used_rules,
                                  const std::string& name) const {
  for (const ForeignRule& rule : rules_.rules) {
    for (const auto& [role, pattern] : rule.hf) {
      if (!used_rules[rule.position] && match_pattern(starred_numbers(pattern), name)) {
        const ForeignRule* const other = makes_before(rule);
        return other == nullptr
                   ? fmt::format("; rule {} ({}) reads it, but no parameter is named {}",
                                 shown(rule.id), rule.source, shown(rule.megatron))
                   : fmt::format("; rule {} ({}) reads it, but rule {} makes {} before it",
                                 shown(rule.id), rule.source, shown(other->id),
                                 shown(rule.megatron));
      }
    }
  }
  return "";
}

void NameFaults::report_unused(const std::vector<bool>& used_rules, model::Model& model) const {
  constexpr std::size_t kHintsMax = 64;  // each looks at every rule
  std::size_t hints = 0;
  for (const auto& [pattern, group] : unused_groups_) {
    const std::string mtp = behind_the_layers(group.first, model.geometry.layers());
    model.faults.push_back(
        {Code::HfTensorUnused, shown(group.first),
         fmt::format("{} {} read by no rule: {}", counted(group.count, "HF tensor"),
                     group.count == 1 ? "is" : "are", group.names()),
         group.names(), "one rule that reads it",
         !mtp.empty() ? mtp
                      : "add a rule for " + shown(pattern) +
                            (++hints <= kHintsMax ? dead_hint(used_rules, group.first) : ""),
         group.all});
  }
}

/// The unread tensor that is most like the one that a rule asks for.
std::string NameFaults::nearest_unused(const std::string& wanted) const {
  const std::string target = without_numbers(wanted);
  std::string best;
  std::size_t longest = 0;
  for (const auto& [pattern, group] : unused_groups_) {
    const std::string name = without_numbers(group.first);
    const auto differs = std::mismatch(target.begin(), target.end(), name.begin(), name.end());
    const auto common = static_cast<std::size_t>(differs.first - target.begin());
    if (common > longest) {
      longest = common;
      best = group.first;
    }
  }
  return best;
}

/// Which inputs of a rule are absent, and what lies unread in their place: a tensor that nothing
/// reads, and the inputs that are there and that a fused parameter cannot be made of alone.
std::string NameFaults::found_unfilled(const FaultGroup& group) const {
  std::vector<std::string> unread = group.unread;
  if (const std::string near = nearest_unused(group.absent.front()); !near.empty()) {
    unread.insert(unread.begin(), near);
  }
  return "not in the checkpoint: " + joined(group.absent) +
         (unread.empty() ? "" : "; unread there: " + joined(unread));
}

void NameFaults::report_groups(model::Model& model) const {
  std::map<std::string, FaultGroup> without;
  for (const WantedParameter* parameter : without_rule_) {
    if (!told_by_layer(*parameter)) {
      without[starred(parameter->name)].add(parameter->name);
    }
  }
  for (const auto& [pattern, group] : without) {
    model.faults.push_back(
        {Code::MegatronParamWithoutRule, shown(group.first),
         fmt::format("{} {} no rule: {}", counted(group.count, "Megatron parameter"),
                     group.count == 1 ? "has" : "have", group.names()),
         rules_.rules.size() == 1
             ? fmt::format("the only rule does not take {}", shown(group.first))
             : fmt::format("none of the {} takes {}", counted(rules_.rules.size(), "rule"),
                           shown(group.first)),
         "a rule for " + shown(pattern),
         "add the rule: the parameter would keep its random initial value", group.all});
  }
  std::map<std::pair<std::size_t, std::string>, FaultGroup> unfilled;
  for (const Unfilled& one : unfilled_) {
    if (!told_by_layer(*one.parameter)) {
      FaultGroup& group = unfilled[{one.rule->position, starred(one.parameter->name)}];
      group.rule = one.rule;
      if (group.count == 0) {
        group.wants = joined(one.wants);
        for (const std::string& name : one.wants) {
          (headers_.contains(name) ? group.unread : group.absent).push_back(name);
        }
      }
      group.add(one.parameter->name);
    }
  }
  for (const auto& [key, group] : unfilled) {
    model.faults.push_back(
        {Code::MegatronParamUnfilled, shown(group.first),
         fmt::format("{} would keep random initial values: {}, {} ({})",
                     counted(group.count, "Megatron parameter"), group.names(),
                     shown(group.rule->kind), group.rule->source),
         found_unfilled(group), group.wants,
         fmt::format(
             "correct the HF names of rule {}, or use the kind for the storage that is there",
             shown(group.rule->id)),
         group.all});
  }
}

void NameFaults::report(const std::vector<bool>& used_rules, model::Model& model) {
  find_unused();
  report_layers_without_rules(model);
  report_layers_not_stored(model);
  for (const std::string& name : unused_) {
    unused_groups_[starred(name)].add(name);
  }
  doubt_guessed_pairs();
  report_unused(used_rules, model);
  report_groups(model);
  for (auto& [pair, fault] : second_readers_) {
    model.faults.push_back(fault);
  }
  for (const auto& [key, group] : other_source_) {
    model.faults.push_back(
        {Code::OtherSource, shown(group.first),
         fmt::format("{} {} made of another module's tensors: {} ({})",
                     counted(group.count, "Megatron parameter"), group.count == 1 ? "is" : "are",
                     group.names(), group.rule->source),
         group.reads, group.wants, "correct the HF names of rule " + shown(group.rule->id),
         group.all});
  }
}

}  // namespace bv::foreign

// A foreign rule set on one checkpoint: which rule makes which parameter, from which tensors.

#include <fmt/format.h>

#include <algorithm>
#include <set>
#include <unordered_map>
#include <unordered_set>

#include "core/base/text.hpp"
#include "core/family/family.hpp"
#include "core/foreign/rules_file.hpp"

namespace bv::foreign {
namespace {

/// One Megatron parameter that the model has.
struct Parameter {
  const model::Mapping* wanted = nullptr;
  std::int64_t expert = -1;
  std::string name;
};

/// Digits as `*`: parameters of one pattern share a fault.
std::string pattern_of(std::string_view name) {
  std::string out;
  for (const char c : name) {
    if (c < '0' || c > '9') {
      out += c;
    } else if (out.empty() || out.back() != '*') {
      out += '*';
    }
  }
  return out;
}

/// Names that share a fault.
struct FaultGroup {
  std::int64_t count = 0;
  std::string first, last;
  std::string wants;
  const ForeignRule* rule = nullptr;
  void add(const std::string& name) {
    first = count++ == 0 ? name : first;
    last = name;
  }
  [[nodiscard]] std::string names() const {
    return count == 1 ? first : fmt::format("{} .. {}", first, last);
  }
};

std::string joined_values(const std::string& one, const std::string& other) {
  return one.empty() || other.empty() ? one + other : one + " " + other;
}

/// Parameters that a rule makes of other tensors than their modules compute with.
struct OtherSource : FaultGroup {
  std::string reads;
};

class Applier {
 public:
  Applier(const model::Model& wanted, const ForeignRules& rules, const ForeignKinds& kinds,
          const Headers& headers)
      : wanted_(wanted),
        rules_(rules),
        kinds_(kinds),
        headers_(headers),
        used_rules_(rules.rules.size()) {}

  Result<model::Model> run() {
    BV_CHECK(check_rules());
    out_ = wanted_;
    out_.mappings.clear();
    out_.faults.clear();
    family_ = std::make_shared<family::Family>(*wanted_.family);
    family_->rules.clear();
    for (const Parameter& parameter : parameters()) {
      BV_CHECK(make(parameter));
    }
    report_unused();
    report_groups();
    report_twins();
    report_other_sources();
    if (out_.faults.empty()) {
      out_.faults = wanted_.faults;  // the list of parameters itself is in doubt
    }
    settle();
    return std::move(out_);
  }

 private:
  Status check_rules() {
    for (const ForeignRule& rule : rules_.rules) {
      std::vector<Error> faults = rule_faults(kinds_, rules_, rule);
      if (!faults.empty()) {
        return std::move(faults.front());
      }
    }
    return Done{};
  }

  [[nodiscard]] std::vector<Parameter> parameters() const {
    std::vector<Parameter> out;
    const std::int64_t experts = wanted_.geometry.get("num_experts").value_or(0);
    for (const model::Mapping& mapping : wanted_.mappings) {
      const bool stack = mapping.rule->expert && mapping.expert < 0;
      for (std::int64_t e = stack ? 0 : -1; e < (stack ? experts : 0); ++e) {
        out.push_back({&mapping, mapping.expert >= 0 ? mapping.expert : e,
                       wanted_.megatron_name(mapping, e)});
      }
    }
    return out;
  }

  Status make(const Parameter& parameter) {
    for (const ForeignRule& rule : rules_.rules) {
      const auto captures = match_pattern(rule.megatron, parameter.name);
      if (!captures) {
        continue;
      }
      used_rules_[rule.position] = true;
      const ForeignKind& kind = *kinds_.find(rule.kind);
      std::vector<std::string> hf;
      bool whole = true;
      for (const auto& roles : kind.sources) {
        hf.push_back(fill_pattern(*pattern_for(rule, roles), *captures));
        whole = whole && headers_.contains(hf.back());
        used_.insert(hf.back());
      }
      if (!whole) {
        FaultGroup& group = unfilled_[{rule.position, pattern_of(parameter.name)}];
        group.rule = &rule;
        group.wants = group.count == 0 ? join(hf, ", ") : group.wants;
        group.add(parameter.name);
        return Done{};
      }
      note_other_source(parameter, rule, hf);
      return add(parameter, rule, kind, std::move(hf));
    }
    without_rule_[pattern_of(parameter.name)].add(parameter.name);
    return Done{};
  }

  /// The order of the tensors is left to the placement claim; which tensors they are is said here.
  void note_other_source(const Parameter& parameter, const ForeignRule& rule,
                         const std::vector<std::string>& hf) {
    const auto sorted = [](std::vector<std::string> names) {
      std::sort(names.begin(), names.end());
      return names;
    };
    if (is_usual(wanted_) || sorted(hf) == sorted(parameter.wanted->hf)) {
      return;  // without a family nothing says which tensors a module computes with
    }
    OtherSource& group = other_source_[{rule.position, pattern_of(parameter.name)}];
    group.rule = &rule;
    if (group.count == 0) {
      group.reads = join(hf, ", ");
      group.wants = join(parameter.wanted->hf, ", ");
    }
    group.add(parameter.name);
  }

  Status add(const Parameter& parameter, const ForeignRule& rule, const ForeignKind& kind,
             std::vector<std::string> hf) {
    const model::Mapping& wanted = *parameter.wanted;
    if (kind.packed && !stacks_.insert({wanted.stage, wanted.index, hf.front()}).second) {
      return Done{};  // one mapping makes all experts of the stack
    }
    std::vector<Shape> shapes;
    for (const std::string& name : hf) {
      shapes.push_back(headers_.find(name)->second.shape);
    }
    BV_TRY(at, rule_for(wanted, rule, kind, shapes));
    rule_of_.push_back(at);
    for (const std::string& name : hf) {
      const auto [first, fresh] = readers_.try_emplace(name, parameter.name, rule.position);
      if (!fresh) {
        report_second_reader(name, first->second, parameter, rule);
      }
    }
    out_.mappings.push_back(
        {nullptr, wanted.stage, wanted.index, kind.packed ? -1 : parameter.expert, std::move(hf)});
    return Done{};
  }

  /// Two parameters made of one HF tensor: on the way back one of them would win (E063).
  void report_second_reader(const std::string& name,
                            const std::pair<std::string, std::size_t>& first,
                            const Parameter& second, const ForeignRule& rule) {
    if (!second_readers_.insert({first.second, rule.position}).second) {
      return;  // one fault a pair of rules
    }
    fault(Code::DuplicateClaim, name,
          fmt::format("{} makes two Megatron parameters: rule {} and rule {} read it", name,
                      rules_.rules[first.second].id, rule.id),
          fmt::format("{} and {}", first.first, second.name), "one parameter for each HF tensor",
          fmt::format("give rule {} ({}) an HF name of its own", rule.id, rule.source));
  }

  /// Two rules of one Megatron pattern that say different things: the first would win (E064).
  void report_twins() {
    std::map<std::string_view, const ForeignRule*> first;
    for (const ForeignRule& rule : rules_.rules) {
      const auto [entry, fresh] = first.try_emplace(rule.megatron, &rule);
      const ForeignRule& before = *entry->second;
      if (fresh || !used_rules_[before.position] ||
          (before.hf == rule.hf && before.kind == rule.kind)) {
        continue;
      }
      fault(Code::DuplicateClaim, escaped(rule.megatron),
            fmt::format("rules {} and {} both make {}", before.id, rule.id, escaped(rule.megatron)),
            fmt::format("{} of {} and {} of {}", before.kind, escaped(before.hf.front().second),
                        rule.kind, escaped(rule.hf.front().second)),
            "one rule for each Megatron name",
            fmt::format("remove rule {} ({})", rule.id, rule.source));
    }
  }

  /// One rule of ours for each (place of the family, foreign rule, shapes).
  Result<std::size_t> rule_for(const model::Mapping& wanted, const ForeignRule& foreign,
                               const ForeignKind& kind, const std::vector<Shape>& shapes) {
    const auto [entry, fresh] =
        made_.try_emplace({wanted.rule, foreign.position, shapes}, family_->rules.size());
    if (!fresh) {
      return entry->second;
    }
    family::Rule rule = *wanted.rule;
    rule.id = variants_[foreign.position]++ == 0
                  ? foreign.id
                  : fmt::format("{}.{}", foreign.id, variants_[foreign.position] - 1);
    rule.source = foreign.source;
    rule.value = joined_values(kind.value, foreign.value);
    rule.form_group.clear();
    rule.form.clear();
    rule.shapes.clear();
    rule.when.clear();
    rule.per_expert = rule.expert && !kind.packed;
    rule.hf.clear();
    for (const auto& roles : kind.sources) {
      rule.hf.emplace_back(roles.front(), *pattern_for(foreign, roles));
    }
    BV_CHECK(choose_line(wanted_, *wanted.rule, foreign, kinds_, shapes, rule));
    family_->rules.push_back(std::move(rule));
    return entry->second;
  }

  void fault(Code code, std::string subject, std::string message, std::string found,
             std::string wanted, std::string help) {
    out_.faults.push_back({code, std::move(subject), std::move(message), std::move(found),
                           std::move(wanted), std::move(help)});
  }

  void report_unused() {
    std::set<std::string, std::less<>> allowed(wanted_.ignored.begin(), wanted_.ignored.end());
    allowed.insert(wanted_.dropped.begin(), wanted_.dropped.end());
    std::map<std::string, FaultGroup> groups;
    for (const auto& [name, spec] : headers_) {
      if (!used_.contains(name) && !allowed.contains(name)) {
        groups[pattern_of(name)].add(name);
        unused_.push_back(name);
      }
    }
    for (const auto& [pattern, group] : groups) {
      fault(Code::HfTensorUnused, group.first,
            fmt::format("{} HF tensor{} used by no rule: {}", group.count,
                        group.count == 1 ? " is" : "s are", group.names()),
            group.names(), "one rule that reads it",
            "add a rule for " + pattern + dead_hint(group.first));
    }
  }

  /// A rule that would read the tensor, but for a parameter that the model does not have.
  [[nodiscard]] std::string dead_hint(const std::string& name) const {
    for (const ForeignRule& rule : rules_.rules) {
      for (const auto& [role, pattern] : rule.hf) {
        if (!used_rules_[rule.position] && match_pattern(pattern, name)) {
          return fmt::format("; rule {} ({}) reads it, but no parameter is named {}", rule.id,
                             rule.source, rule.megatron);
        }
      }
    }
    return "";
  }

  void report_groups() {
    for (const auto& [pattern, group] : without_rule_) {
      fault(Code::MegatronParamWithoutRule, group.first,
            fmt::format("{} Megatron parameter{} no rule: {}", group.count,
                        group.count == 1 ? " has" : "s have", group.names()),
            fmt::format("none of {} rules takes {}", rules_.rules.size(), group.first),
            "a rule for " + pattern,
            "add the rule: the parameter would keep its random initial value");
    }
    for (const auto& [key, group] : unfilled_) {
      fault(
          Code::MegatronParamUnfilled, group.first,
          fmt::format("{} Megatron parameter{} would keep {} random initial values: {}, {} ({})",
                      group.count, group.count == 1 ? "" : "s", group.count == 1 ? "its" : "their",
                      group.names(), group.rule->kind, group.rule->source),
          unused_.empty() ? "not in the checkpoint"
                          : "unused in the checkpoint: " + unused_.front(),
          group.wants,
          "correct the HF names of rule " + group.rule->id +
              " or use the kind for the storage that is there");
    }
  }

  void report_other_sources() {
    for (const auto& [key, group] : other_source_) {
      fault(Code::OtherSource, group.first,
            fmt::format("{} Megatron parameter{} made of another module's tensors: {} ({})",
                        group.count, group.count == 1 ? " is" : "s are", group.names(),
                        group.rule->source),
            group.reads, group.wants, "correct the HF names of rule " + group.rule->id);
    }
  }

  /// Rules no longer move: mappings may point to them.
  void settle() {
    for (std::size_t i = 0; i < out_.mappings.size(); ++i) {
      out_.mappings[i].rule = &family_->rules[rule_of_[i]];
    }
    family_->name = rules_.bridge_class.empty() ? rules_.file : rules_.bridge_class;
    out_.family = family_;
    out_.detected.push_back(
        {"rules", fmt::format("{} of {}", rules_.rules.size(), rules_.file),
         rules_.commit.empty() ? "--rules" : "--rules, upstream commit " + rules_.commit});
  }

  const model::Model& wanted_;
  const ForeignRules& rules_;
  const ForeignKinds& kinds_;
  const Headers& headers_;
  model::Model out_;
  std::shared_ptr<family::Family> family_;
  std::vector<bool> used_rules_;
  std::unordered_set<std::string> used_;
  std::vector<std::string> unused_;
  std::vector<std::size_t> rule_of_;  // of each mapping
  std::set<std::tuple<family::Stage, std::int64_t, std::string>> stacks_;
  std::map<std::tuple<const family::Rule*, std::size_t, std::vector<Shape>>, std::size_t> made_;
  std::map<std::size_t, int> variants_;
  // HF name -> the first parameter made of it, and that parameter's rule.
  std::unordered_map<std::string, std::pair<std::string, std::size_t>> readers_;
  std::set<std::pair<std::size_t, std::size_t>> second_readers_;
  std::map<std::string, FaultGroup> without_rule_;
  std::map<std::pair<std::size_t, std::string>, FaultGroup> unfilled_;
  std::map<std::pair<std::size_t, std::string>, OtherSource> other_source_;
};

}  // namespace

Result<model::Model> apply_rules(const model::Model& wanted, const ForeignRules& rules,
                                 const ForeignKinds& kinds, const Headers& headers) {
  return Applier(wanted, rules, kinds, headers).run();
}

}  // namespace bv::foreign

// A foreign rule set on one checkpoint: which rule makes which parameter, from which tensors.

#include <fmt/format.h>

#include <algorithm>
#include <set>
#include <unordered_set>

#include "core/base/text.hpp"
#include "core/model/family.hpp"
#include "core/model/rules_file.hpp"

namespace bv::model {
namespace {

/// One Megatron parameter that the model has.
struct Parameter {
  const Mapping* wanted = nullptr;
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

/// Parameters that a rule makes of other tensors than their modules compute with.
struct OtherSource : FaultGroup {
  std::string reads;
};

class Applier {
 public:
  Applier(const Model& wanted, const ForeignRules& rules, const ForeignKinds& kinds,
          const Headers& headers)
      : wanted_(wanted),
        rules_(rules),
        kinds_(kinds),
        headers_(headers),
        used_rules_(rules.rules.size()) {}

  Result<Model> run() {
    BV_CHECK(check_rules());
    out_ = wanted_;
    out_.mappings.clear();
    out_.faults.clear();
    family_ = std::make_shared<Family>(*wanted_.family);
    family_->rules.clear();
    for (const Parameter& parameter : parameters()) {
      BV_CHECK(make(parameter));
    }
    report_unused();
    report_groups();
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
      BV_TRY(kind, kind_of(kinds_, rules_, rule));
      BV_CHECK(check_roles(rule, *kind));
      for (const auto& [role, pattern] : rule.hf) {
        const std::size_t here = wildcards(rule.megatron);
        const std::size_t there = wildcards(pattern);
        if (here != there && !(kind->packed && there < here)) {
          return fail(Code::WildcardCount,
                      fmt::format("{} wildcard{} in the Megatron name, {} in the HF name", here,
                                  here == 1 ? "" : "s", there))
              .at(rule.source)
              .fact("megatron  " + escaped(rule.megatron))
              .fact("hf        " + escaped(pattern))
              .pair(std::to_string(there), std::to_string(here))
              .advise("write as many * on both sides");
        }
      }
    }
    return Done{};
  }

  static Status check_roles(const ForeignRule& rule, const ForeignKind& kind) {
    std::vector<std::string> wanted;
    for (const auto& roles : kind.sources) {
      wanted.push_back(roles.front());
      if (!pattern_for(rule, roles)) {
        return fail(Code::RulesInvalid, fmt::format("rule {} of kind {} has no HF name for \"{}\"",
                                                    rule.id, escaped(rule.kind), roles.front()))
            .at(rule.source)
            .pair(fmt::format("{} names", rule.hf.size()),
                  fmt::format("{} names", kind.sources.size()))
            .advise("give one name for each part of the kind");
      }
    }
    if (rule.hf.size() != kind.sources.size()) {
      return fail(Code::RulesInvalid, fmt::format("rule {} of kind {} has {} HF names", rule.id,
                                                  escaped(rule.kind), rule.hf.size()))
          .at(rule.source)
          .pair(fmt::format("{} names", rule.hf.size()), join(wanted, ", "))
          .advise("give one name for each part of the kind");
    }
    return Done{};
  }

  static const std::string* pattern_for(const ForeignRule& rule,
                                        const std::vector<std::string>& roles) {
    for (const auto& [role, pattern] : rule.hf) {
      const bool alone = rule.hf.size() == 1;
      if (alone || std::find(roles.begin(), roles.end(), role) != roles.end()) {
        return &pattern;
      }
    }
    return nullptr;
  }

  [[nodiscard]] std::vector<Parameter> parameters() const {
    std::vector<Parameter> out;
    const std::int64_t experts = wanted_.geometry.get("num_experts").value_or(0);
    for (const Mapping& mapping : wanted_.mappings) {
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
    if (sorted(hf) == sorted(parameter.wanted->hf)) {
      return;
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
    const Mapping& wanted = *parameter.wanted;
    if (kind.packed && !stacks_.insert({wanted.stage, wanted.index, hf.front()}).second) {
      return Done{};  // one mapping makes all experts of the stack
    }
    std::vector<Shape> shapes;
    for (const std::string& name : hf) {
      shapes.push_back(headers_.find(name)->second.shape);
    }
    BV_TRY(at, rule_for(wanted, rule, kind, shapes));
    rule_of_.push_back(at);
    out_.mappings.push_back(
        {nullptr, wanted.stage, wanted.index, kind.packed ? -1 : parameter.expert, std::move(hf)});
    return Done{};
  }

  /// One rule of ours for each (place of the family, foreign rule, shapes).
  Result<std::size_t> rule_for(const Mapping& wanted, const ForeignRule& foreign,
                               const ForeignKind& kind, const std::vector<Shape>& shapes) {
    const auto [entry, fresh] =
        made_.try_emplace({wanted.rule, foreign.position, shapes}, family_->rules.size());
    if (!fresh) {
      return entry->second;
    }
    Rule rule = *wanted.rule;
    rule.id = variants_[foreign.position]++ == 0
                  ? foreign.id
                  : fmt::format("{}.{}", foreign.id, variants_[foreign.position] - 1);
    rule.source = foreign.source;
    rule.value = kind.value;
    rule.form_group.clear();
    rule.form.clear();
    rule.shapes.clear();
    rule.when.clear();
    rule.per_expert = rule.expert && !kind.packed;
    rule.hf.clear();
    for (const auto& roles : kind.sources) {
      rule.hf.emplace_back(roles.front(), *pattern_for(foreign, roles));
    }
    BV_CHECK(choose_line(*wanted.rule, foreign, kind, shapes, rule));
    family_->rules.push_back(std::move(rule));
    return entry->second;
  }

  Status choose_line(const Rule& ours, const ForeignRule& foreign, const ForeignKind& kind,
                     const std::vector<Shape>& shapes, Rule& rule) const {
    rule.kind = kind.kind;
    auto axes = kind.axes;
    std::size_t rest = kind.rest;
    for (const auto& [flag, line] : kind.when) {
      if (wanted_.geometry.get(flag).value_or(0) != 0) {
        rule.kind = line;
      }
    }
    const std::string_view parallelism =
        kind.is_auto
            ? kinds_.parallelism(wanted_.megatron_name({&ours, Stage::Decoder, 0, 0, {}}, 0))
            : kind.kind;
    const bool one_vector = shapes.front().size() == 1;
    if (parallelism == "replicated" || (parallelism == "row" && one_vector)) {
      rule.kind = "replicated";
      axes.clear();
      rest = 0;
    } else if (parallelism == "row") {
      rule.kind = "row";
      axes = kinds_.find("row")->axes;
      rest = kNoRest;
    } else if (parallelism == "column" && ours.vocabulary) {
      rule.kind = "vocabulary";
      axes = kinds_.find("vocabulary")->axes;
    }
    rule.vocabulary = rule.kind == "vocabulary";
    if (kind.packed && foreign.transposed.value_or(ours.orientation == "in_out") &&
        !kind.transposed_kind.empty()) {
      rule.kind = kind.transposed_kind;
      axes = kind.transposed_axes;
      rest = kNoRest;
    }
    if (rule.kind == ours.kind && sources_agree(ours, rule)) {
      rule.axes =
          ours.axes;  // the sizes come from the config: header shapes are checked against them
      rule.rest = ours.rest;
      return Done{};
    }
    rule.axes.clear();
    for (const auto& [axis, expression] : axes) {
      BV_TRY(text, sized(expression, shapes, foreign));
      rule.axes[axis] = std::move(text);
    }
    rule.rest.clear();
    for (std::size_t d = rest; d < shapes.front().size(); ++d) {
      rule.rest.push_back(std::to_string(shapes.front()[d]));
    }
    return Done{};
  }

  static bool sources_agree(const Rule& ours, const Rule& rule) {
    return std::equal(ours.hf.begin(), ours.hf.end(), rule.hf.begin(), rule.hf.end(),
                      [](const auto& a, const auto& b) { return a.first == b.first; });
  }

  /// Writes the dimensions of the tensors into an expression: "s0d1 / 2 / t" -> "64 / 2 / t".
  static Result<std::string> sized(std::string_view expression, const std::vector<Shape>& shapes,
                                   const ForeignRule& rule) {
    std::string out(expression);
    for (std::size_t s = 0; s < shapes.size(); ++s) {
      constexpr std::size_t kDims = 8;
      for (std::size_t d = 0; d < kDims; ++d) {
        const std::string word = fmt::format("s{}d{}", s, d);
        for (std::size_t at = out.find(word); at != std::string::npos; at = out.find(word)) {
          if (d >= shapes[s].size()) {
            return fail(Code::ShapeMismatch,
                        fmt::format("rule {} wants {} dimensions of {}", rule.id, d + 1,
                                    escaped(rule.hf[s].second)))
                .at(rule.source)
                .pair(shape_text(shapes[s]), fmt::format("at least {} dimensions", d + 1))
                .advise("use the kind that fits the tensor's shape");
          }
          out.replace(at, word.size(), std::to_string(shapes[s][d]));
        }
      }
    }
    return out;
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

  const Model& wanted_;
  const ForeignRules& rules_;
  const ForeignKinds& kinds_;
  const Headers& headers_;
  Model out_;
  std::shared_ptr<Family> family_;
  std::vector<bool> used_rules_;
  std::unordered_set<std::string> used_;
  std::vector<std::string> unused_;
  std::vector<std::size_t> rule_of_;  // of each mapping
  std::set<std::tuple<Stage, std::int64_t, std::string>> stacks_;
  std::map<std::tuple<const Rule*, std::size_t, std::vector<Shape>>, std::size_t> made_;
  std::map<std::size_t, int> variants_;
  std::map<std::string, FaultGroup> without_rule_;
  std::map<std::pair<std::size_t, std::string>, FaultGroup> unfilled_;
  std::map<std::pair<std::size_t, std::string>, OtherSource> other_source_;
};

}  // namespace

Result<Model> apply_rules(const Model& wanted, const ForeignRules& rules, const ForeignKinds& kinds,
                          const Headers& headers) {
  return Applier(wanted, rules, kinds, headers).run();
}

}  // namespace bv::model

// Which rule makes which parameter, from which tensors.

#include "core/foreign/applier.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <numeric>

#include "core/base/text.hpp"
#include "core/foreign/foreign_line.hpp"
#include "core/foreign/numbered.hpp"
#include "core/foreign/parameter.hpp"
#include "core/foreign/shown.hpp"
#include "core/foreign/usual.hpp"

namespace bv::foreign {
namespace {

using Answer = OpenQuestion::Answer;

family::ValueRule joined_values(family::ValueRule first, const family::ValueRule& second) {
  first.steps.insert(first.steps.end(), second.steps.begin(), second.steps.end());
  return first;
}

Answer answer_to(Code code) {
  return code == Code::AmbiguousTranspose || code == Code::SizeInDoubt ||
                 code == Code::ParametersUnknown
             ? Answer::Undecided
         : code == Code::RuleModuleUnknown || code == Code::RuleKindUnknown ? Answer::Unsupported
                                                                            : Answer::Refuted;
}

}  // namespace

OpenQuestion question_of(const Error& error, OpenQuestion::Answer answer) {
  OpenQuestion out;
  out.code = error.code;
  out.message = error.message;
  out.found = error.found;
  out.wanted = error.wanted;
  out.help = error.help;
  out.facts = error.facts;
  out.source = error.where;
  out.answer = answer;
  return out;
}

Applier::Applier(const model::Model& base, const ForeignRules& rules, const ForeignKinds& kinds,
                 const Headers& headers, const model::ResolveOptions& options)
    : rules_(rules),
      kinds_(kinds),
      headers_(headers),
      options_(options),
      index_(megatron_patterns(rules)),
      names_(headers),
      faults_(rules, headers),
      family_(std::make_shared<family::Family>(*base.family)),
      used_rules_(rules.rules.size()),
      faulty_(rules.rules.size()),
      takes_(rules.rules.size()),
      certain_(rules.parameters.has_value()) {
  out_.model = base;
  out_.model.mappings.clear();
  out_.model.faults.clear();
  family_->rules.clear();
  allow(base.ignored);
  allow(base.dropped);
}

void Applier::allow(const std::vector<std::string>& names) {
  for (const std::string& name : names) {
    faults_.allow(name);
  }
}

AppliedRules Applier::run(const std::vector<WantedParameter>& wanted, bool guessed) {
  faults_.guess_parameters(guessed);
  for (const WantedParameter& parameter : wanted) {
    faults_.wants(parameter);
    if (const std::size_t at = index_.first(parameter.name); at != PatternIndex::kNone) {
      takes_[at] = true;
    }
  }
  report_rule_faults(guessed);
  report_hook(guessed);
  report_export_hook();
  report_base();
  report_row_facts();
  report_turning_rows();
  report_provider_sizes();
  if (!certain_) {
    report_provider_built();
    report_provider_flags();  // else the list shows what they built
    report_provider_mtp();
  }
  if (!guessed) {
    report_trouble();  // guessed: the question about the parameters tells of it
  }
  // Those that are certain take their tensors first.
  for (const bool certain : {true, false}) {
    for (now_ = 0; now_ < wanted.size(); ++now_) {
      if (wanted[now_].certain == certain) {
        make(wanted[now_]);
      }
    }
  }
  make_slices();
  faults_.report(used_rules_, out_.model);
  report_twins(wanted);
  settle();
  return std::move(out_);
}

void Applier::make(const WantedParameter& parameter) {
  const std::size_t at = index_.first(parameter.name);
  if (at == PatternIndex::kNone) {
    return faults_.without_rule(parameter);
  }
  const ForeignRule& rule = rules_.rules[at];
  used_rules_[at] = true;
  if (faulty_[at]) {
    return;
  }
  const auto captures = match_pattern(rule.megatron, parameter.name);
  const ForeignKind& kind = *kinds_.find(rule.kind);
  std::vector<std::string> hf;
  bool whole = true;
  for (const auto& roles : kind.sources) {
    hf.push_back(fill_pattern(*pattern_for(rule, roles), *captures));
    whole = whole && headers_.contains(hf.back());
  }
  if (!whole && may_be_absent(parameter, rule, kind, hf)) {
    return;
  }
  if (!whole) {
    for (const std::string& name : hf) {
      faults_.allow(name);
    }
    return faults_.unfilled(parameter, rule, hf);
  }
  if (rule.slice) {
    return slice_of(parameter, rule, hf.front());
  }
  faults_.other_source(parameter, rule, hf);
  add(parameter, rule, kind, std::move(hf));
}

void Applier::add(const WantedParameter& parameter, const ForeignRule& rule,
                  const ForeignKind& kind, std::vector<std::string> hf) {
  if (kind.packed && !stacks_.insert({parameter.stage, parameter.index, hf.front()}).second) {
    return;  // one mapping makes all experts of the stack
  }
  if (std::set<std::string>(hf.begin(), hf.end()).size() != hf.size()) {
    return leave_out(parameter, rule,
                     fail(Code::DuplicateClaim,
                          fmt::format("{} reads one tensor for two of its parts", named(rule)))
                         .at(rule.source)
                         .pair(shown(hf.front()), "a tensor for each part")
                         .advise("correct the HF names of " + named(rule)),
                     hf);
  }
  if (parameter.unfit != nullptr) {
    return leave_out(parameter, rule, *parameter.unfit, hf);
  }
  std::vector<Shape> shapes;
  for (const std::string& name : hf) {
    shapes.push_back(headers_.find(name)->second.shape);
  }
  std::size_t at = 0;
  if (auto line = line_for(parameter, rule, kind, shapes, at); !line) {
    return leave_out(parameter, rule, line.error(), hf);
  }
  if (auto shape = check_listed_shape(parameter, rule, family_->rules[at]); !shape) {
    return leave_out(parameter, rule, shape.error(), hf);
  }
  bool free = true;
  for (const std::string& name : hf) {
    free = faults_.reads(parameter, rule, name) && free;
  }
  if (!free) {
    undone_.insert(undone_.end(), hf.begin(), hf.end());
    return;
  }
  made_of_.emplace_back(now_, at);
  out_.model.mappings.push_back({nullptr, parameter.stage, parameter.index,
                                 kind.packed ? -1 : parameter.expert, std::move(hf)});
}

std::size_t Applier::section_for(family::Stage stage) {
  const auto [place, fresh] = sections_.try_emplace(stage, family_->sections.size());
  if (fresh) {
    family::Section section;
    section.stage = stage;
    section.variable = variable_of(stage);
    section.title = "rules under test";
    family_->sections.push_back(std::move(section));
  }
  return place->second;
}

Result<family::Rule> Applier::rule_for(const WantedParameter& parameter, const ForeignRule& foreign,
                                       const ForeignKind& kind, const std::vector<Shape>& shapes) {
  family::Rule rule = parameter.row == nullptr ? family::Rule() : *parameter.row;
  if (!parameter.name_template.empty()) {
    rule.megatron = parameter.name_template;
    rule.megatron_local.clear();
    rule.megatron_sequential.clear();
    rule.section = section_for(parameter.stage);
    rule.expert = parameter.is_expert;
  }
  const int variant = variants_[foreign.position];
  rule.id = variant == 0 ? shown(foreign.id) : fmt::format("{}.{}", shown(foreign.id), variant);
  rule.source = foreign.source;
  rule.upstream_class = foreign.upstream_class;
  rule.value = joined_values(kind.value, foreign.value);
  rule.form_group.clear();
  rule.form.clear();
  rule.orientation = family::Orientation::ByShape;
  rule.shapes.clear();
  rule.when.clear();
  rule.per_expert = rule.expert && !kind.packed;
  rule.hf.clear();
  for (const auto& roles : kind.sources) {
    rule.hf.emplace_back(roles.front(), starred_numbers(*pattern_for(foreign, roles)));
  }
  LinePlace place;
  place.row = parameter.row;
  place.row_sizes = parameter.row_sizes;
  place.parameter = parameter.name;
  place.text = parameter.text;
  place.vocabulary = parameter.vocabulary;
  place.parallelism = parameter.listed == nullptr ? "" : parameter.listed->parallelism;
  place.orientation = options_.expert_orientation;
  BV_CHECK(choose_line(out_.model.geometry, kinds_, place, foreign, shapes, rule));
  return rule;
}

/// One rule of ours for each (place of the family, foreign rule, name, shapes).
Status Applier::line_for(const WantedParameter& parameter, const ForeignRule& foreign,
                         const ForeignKind& kind, const std::vector<Shape>& shapes,
                         std::size_t& at) {
  const MadeKey key = {parameter.row, foreign.position, parameter.name_template, shapes};
  if (const auto known = made_.find(key); known != made_.end()) {
    at = known->second;
    return Done{};
  }
  BV_TRY(rule, rule_for(parameter, foreign, kind, shapes));
  ++variants_[foreign.position];
  at = family_->rules.size();
  made_.emplace(key, at);
  family_->rules.push_back(std::move(rule));
  return Done{};
}

/// The parameter that was built has the shape that the rule makes; vocabularies may be padded.
Status Applier::check_listed_shape(const WantedParameter& parameter, const ForeignRule& foreign,
                                   const family::Rule& rule) const {
  if (parameter.listed == nullptr || !parameter.listed->shape) {
    return Done{};
  }
  const Shape& wanted = *parameter.listed->shape;
  auto made = uncut_shape(out_.model.geometry, kinds_, rule);
  if (!made || *made == wanted) {
    return Done{};  // sizes that do not divide are the shapes claim's
  }
  const bool padded = rule.vocabulary && made->size() == wanted.size() && !wanted.empty() &&
                      made->front() < wanted.front() &&
                      std::equal(made->begin() + 1, made->end(), wanted.begin() + 1);
  if (padded) {
    return Done{};
  }
  return fail(Code::ShapeMismatch,
              fmt::format("{} makes {} with another shape than model.parameters lists",
                          named(foreign), shown(parameter.name)))
      .at(foreign.source)
      .pair(shape_text(*made), shape_text(wanted))
      .advise("correct the rule, or export the list of the model that this checkpoint makes");
}

/// A rule that cannot be put on this parameter: told once, and its tensors are not moved.
void Applier::leave_out(const WantedParameter& parameter, const ForeignRule& rule,
                        const Error& error, const std::vector<std::string>& hf) {
  for (const std::string& name : hf) {
    faults_.allow(name);
  }
  const auto [place, fresh] = left_out_.try_emplace({rule.position, error.code}, out_.open.size());
  if (fresh) {
    out_.open.push_back(question_of(error, answer_to(error.code)));
    out_.open.back().subject = shown(parameter.name);
    out_.open.back().rule = shown(rule.id);
  }
  std::vector<std::string>& unmoved = out_.open[place->second].hf;
  unmoved.insert(unmoved.end(), hf.begin(), hf.end());
}

/// In the order in which the parameters are wanted. Rules no longer move: mappings may point to
/// them.
void Applier::place_mappings() {
  std::vector<std::size_t> order(made_of_.size());
  std::iota(order.begin(), order.end(), std::size_t{0});
  std::sort(order.begin(), order.end(),
            [this](std::size_t a, std::size_t b) { return made_of_[a].first < made_of_[b].first; });
  std::vector<model::Mapping> sorted;
  sorted.reserve(order.size());
  for (const std::size_t i : order) {
    sorted.push_back(std::move(out_.model.mappings[i]));
    sorted.back().rule = &family_->rules[made_of_[i].second];
  }
  out_.model.mappings = std::move(sorted);
}

/// A tensor that is moved all the same, or accounted for elsewhere, is nobody's question.
void Applier::settle_unmoved() {
  const model::Model& model = out_.model;
  std::unordered_set<std::string> told(model.ignored.begin(), model.ignored.end());
  told.insert(model.dropped.begin(), model.dropped.end());
  for (const model::Mapping& mapping : model.mappings) {
    told.insert(mapping.hf.begin(), mapping.hf.end());
  }
  for (OpenQuestion& question : out_.open) {
    std::erase_if(question.hf,
                  [&told](const std::string& name) { return !told.insert(name).second; });
    std::sort(question.hf.begin(), question.hf.end());
  }
}

void Applier::settle() {
  model::Model& model = out_.model;
  place_mappings();
  family_->name = rules_.bridge_class.empty() ? rules_.file : shown(rules_.bridge_class);
  model.family = family_;
  model.detected.push_back(
      {"rules", fmt::format("{} of {}", rules_.rules.size(), rules_.file),
       rules_.commit.empty() ? "--rules" : "--rules, upstream commit " + shown(rules_.commit)});
  for (const std::string& pair : faults_.doubtful_pairs()) {
    OpenQuestion question;
    question.code = Code::ParametersUnknown;
    question.message = "two rules read one tensor, and only one of their parameters may exist";
    question.found = pair;
    question.wanted = "one parameter for each HF tensor";
    question.help = "list the parameters of the built model in model.parameters";
    question.subject = pair;
    question.hf = std::move(undone_);
    undone_.clear();
    out_.open.push_back(std::move(question));
  }
  settle_unmoved();
}

}  // namespace bv::foreign

// A foreign rule set for an architecture that no family knows. The parameters are those that the
// rules make of the checkpoint, and those that the modules of Megatron-Core have besides; what
// nobody can say without the model that was built stays an open question.

#include <fmt/format.h>

#include <algorithm>
#include <nlohmann/json.hpp>

#include "core/base/text.hpp"
#include "core/family/expression.hpp"
#include "core/family/symbols.hpp"
#include "core/foreign/applier.hpp"
#include "core/foreign/foreign_line.hpp"
#include "core/foreign/shown.hpp"
#include "core/foreign/sources_alone.hpp"
#include "core/foreign/survey.hpp"

namespace bv::foreign {
namespace {

/// Every number of the config under the name of the field that it came from.
void name_origins(const UsualConfig& config, model::Geometry& geometry) {
  for (auto& [symbol, origin] : geometry.origin) {
    if (const auto found = config.origins.find(origin); found != config.origins.end()) {
      origin = found->second;
    }
  }
}

model::Model base_of(const SurveyInput& input, const Survey& survey) {
  model::Model out = input.usual;
  out.faults.clear();
  out.detected.clear();
  out.constraints.clear();
  out.ignored = survey.ignored;
  out.dropped = survey.dropped;
  out.must_equal = survey.must_equal;
  out.tied = survey.tied;
  out.mtp_layers = survey.mtp_layers;
  name_origins(input.config, out.geometry);
  const auto number = [&out](std::string_view symbol, std::int64_t value, const char* origin) {
    if (out.geometry.get(symbol) != value) {
      out.geometry.symbols[std::string(symbol)] = value;
      out.geometry.origin[std::string(symbol)] = origin;
    }
  };
  number(family::symbols::kLayers, survey.layers, "the names of the checkpoint");
  number(family::symbols::kExperts, survey.experts, "the names of the checkpoint");
  for (const auto& [copy, original] : survey.must_equal) {
    out.ignored.push_back(copy);
    out.detected.push_back(
        {"stored_copy", copy, fmt::format("repeats {}: the bytes must be equal", original)});
  }
  out.detected.push_back(
      {"embeddings", survey.tied ? "tied" : "untied",
       input.config.tie_is_said ? std::string(family::symbols::kTied) : "by the rules"});
  if (!input.config.level.empty()) {
    out.detected.push_back({"config", input.config.level, "holds the numbers of the text model"});
  }
  if (!survey.prefix.empty()) {
    out.detected.push_back({"prefix", survey.prefix, "of the text model, by the rules"});
  }
  if (!survey.ignored.empty()) {
    out.detected.push_back({"ignored", std::to_string(survey.ignored.size()),
                            "buffers that are computed from the config"});
  }
  return out;
}

class Conditions {
 public:
  explicit Conditions(model::Model& model) : model_(model) {}

  void add(family::Constraint one) {
    for (const std::string& word : family::identifiers(one.dividend)) {
      if (!model_.geometry.get(word)) {
        return;
      }
    }
    const bool known = std::any_of(
        model_.constraints.begin(), model_.constraints.end(), [&](const family::Constraint& have) {
          return have.divisor == one.divisor && have.dividend == one.dividend &&
                 have.either_way == one.either_way && have.code == one.code;
        });
    if (!known) {
      model_.constraints.push_back(std::move(one));
    }
  }

 private:
  model::Model& model_;
};

/// Layouts are bounded by the modules that are there and by the sizes of every rule.
void add_constraints(const SurveyInput& input, const Survey& survey, model::Model& model) {
  Conditions conditions(model);
  std::set<std::string> present;
  for (const auto& [layer, modules] : survey.modules) {
    present.insert(modules.begin(), modules.end());
  }
  for (const family::Section& section : input.modules.family().sections) {
    if (present.contains(section.title)) {
      for (const family::ConstraintRule& rule : section.constraints) {
        conditions.add(rule.constraint);
      }
    }
  }
  if (survey.experts > 0) {
    family::Constraint experts;
    experts.divisor = family::Divisor{{family::RankGroup::Ep}};
    experts.dividend = family::symbols::kExperts;
    experts.noun = "experts";
    conditions.add(std::move(experts));
  }
  std::set<const family::Rule*> seen;
  for (const model::Mapping& mapping : model.mappings) {
    if (!seen.insert(mapping.rule).second) {
      continue;
    }
    for (family::Constraint& one : layout_conditions(model.geometry, input.kinds, *mapping.rule,
                                                     model.megatron_name(mapping, 0))) {
      conditions.add(std::move(one));
    }
  }
}

OpenQuestion parameters_question(std::vector<std::string> unsaid) {
  constexpr std::size_t kFacts = 7;
  OpenQuestion out;
  out.code = Code::ParametersUnknown;
  out.subject = "the list of parameters";
  out.message =
      "no family knows this architecture: whether its Megatron model has further parameters is not "
      "known";
  out.found = "the modules that the rules and the tensors show";
  out.wanted = "the parameters of the built model";
  out.help =
      "list them in the rules file (model.parameters), or name a built-in family of the same "
      "structure with --family";
  if (unsaid.size() > kFacts) {
    const std::string more = fmt::format("and {} more", unsaid.size() - kFacts + 1);
    unsaid.resize(kFacts - 1);
    unsaid.push_back(more);
  }
  out.facts = std::move(unsaid);
  return out;
}

}  // namespace

Result<AppliedRules> apply_rules_alone(const model::Model& usual, const nlohmann::json& config,
                                       const ForeignRules& rules, const ForeignKinds& kinds,
                                       const Headers& headers,
                                       const model::ResolveOptions& options) {
  nlohmann::json flat;
  const UsualConfig fields = read_usual(config, flat);
  BV_TRY(modules, UsualModules::load());
  const SurveyInput input{usual, fields, modules, rules, kinds, headers, options};
  BV_TRY(found, survey(input));
  if (!rules.parameters) {
    add_expected(input, found);
  }
  settle_sizes(input, found);
  std::vector<WantedParameter> wanted;
  for (Made& made : found.made) {
    const auto unfit = found.unfit.find(made.rule);
    made.parameter.unfit = unfit == found.unfit.end() || made.hf.empty() ? nullptr : &unfit->second;
    wanted.push_back(made.parameter);
  }
  std::stable_sort(wanted.begin(), wanted.end(),
                   [](const WantedParameter& a, const WantedParameter& b) {
                     return std::pair(a.stage, a.index) < std::pair(b.stage, b.index);
                   });
  AppliedRules out =
      Applier(base_of(input, found), rules, kinds, headers, options).run(wanted, !rules.parameters);
  add_constraints(input, found, out.model);
  BV_CHECK(check_sources(rules, kinds, headers, out));
  out.open.insert(out.open.end(), found.questions.begin(), found.questions.end());
  if (!rules.parameters) {
    for (auto line = rules.trouble.rbegin(); line != rules.trouble.rend(); ++line) {
      found.unsaid.insert(found.unsaid.begin(), shown(*line));
    }
    out.open.push_back(parameters_question(std::move(found.unsaid)));
  }
  return out;
}

}  // namespace bv::foreign

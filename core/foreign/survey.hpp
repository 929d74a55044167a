#pragma once
// What the rules make of the tensors of an architecture that no family knows.

#include <map>
#include <set>
#include <string>
#include <vector>

#include "core/foreign/listed.hpp"
#include "core/foreign/rules_apply.hpp"
#include "core/foreign/usual.hpp"

namespace bv::foreign {

/// One Megatron parameter, the rule that takes its name and the HF tensors that this rule reads.
struct Made {
  WantedParameter parameter;
  std::size_t rule = 0;
  std::vector<std::string> hf;
  bool stored = false;  // at least one of them is there
  bool sequential = false;
  std::string usual;  // Anatomy::usual
  std::vector<const UsualParameter*> rows;
};

/// A layer of the text model.
using LayerPlace = std::pair<family::Stage, std::int64_t>;

/// What a survey is made of; everything must outlive it.
struct SurveyInput {
  const model::Model& usual;
  const UsualConfig& config;
  const UsualModules& modules;
  const ForeignRules& rules;
  const ForeignKinds& kinds;
  const Headers& headers;
  const model::ResolveOptions& options;
};

struct Survey {
  std::string prefix;  // of the text model
  std::vector<Made> made;
  std::int64_t layers = 0, mtp_layers = 0, experts = 0;
  bool tied = false;
  std::string embedding, output;  // HF names that make them, "" without one
  std::map<LayerPlace, std::set<std::string>> modules;
  std::vector<std::string> dropped;                             // HF tensors that --drop-mtp takes
  std::vector<std::pair<std::string, std::string>> must_equal;  // a stored copy -> its original
  std::vector<std::string> ignored;                             // buffers
  std::map<std::size_t, Error> unfit;  // rule -> why its sizes are not known
  std::vector<OpenQuestion> questions;
  std::vector<std::string> unsaid;  // what only a list of parameters can say
};

/// Errors: RulesInvalid when the rules make more parameters than any model has.
[[nodiscard]] Result<Survey> survey(const SurveyInput& input);

/// Adds parameters that are certain to exist although nothing makes them: those that every module
/// of a sort has, and those that all other layers have. Says in `unsaid` what is not certain.
void add_expected(const SurveyInput& input, Survey& survey);

/// Chooses the row of the table for each parameter, and whether its sizes hold: a size of the
/// config that no tensor of a rule has is in doubt.
void settle_sizes(const SurveyInput& input, Survey& survey);

}  // namespace bv::foreign

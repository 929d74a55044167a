#pragma once
// A foreign rule set on one checkpoint: the model::Model that it makes of it, so that every claim
// about our own rules can be made about it, and what nobody can say about the rest.

#include <string>
#include <vector>

#include "core/foreign/foreign_kinds.hpp"
#include "core/model/model.hpp"

namespace bv::foreign {

/// Something that the claim about names says of the rules besides the name faults of the model.
/// The other parts of the model are judged all the same.
struct OpenQuestion : model::NameFault {
  enum class Answer { Undecided, Unsupported, Refuted };
  Answer answer = Answer::Undecided;
  std::string rule;    // its id, "" when it is not about one rule
  std::string source;  // of the rule
  std::vector<std::string> facts;
  /// HF tensors that are not moved for this reason; a tensor stands at one question only.
  std::vector<std::string> hf;
};

struct AppliedRules {
  model::Model model;
  std::vector<OpenQuestion> open;
};

/// The parameters of `wanted` (a resolved built-in model of the same config and headers), or those
/// of model.parameters, each made by the first rule that takes its name. Name faults are those of
/// the foreign rules: parameters without a rule, HF tensors that a rule reads and that are not
/// there, HF tensors that no rule reads or that two parameters are made of, Megatron names that two
/// rules make, parameters made of other tensors than the built-in model makes them of.
/// Errors: Assertion, when a table of ours is wrong.
[[nodiscard]] Result<AppliedRules> apply_rules(const model::Model& wanted,
                                               const ForeignRules& rules, const ForeignKinds& kinds,
                                               const Headers& headers,
                                               const model::ResolveOptions& options = {});

/// The parameters that the rules make of the headers, or those of model.parameters, for an
/// architecture that no family knows. `usual` is resolved with usual_family() from flat_config();
/// `config` is the config as it stands. Extents are those of the Megatron modules where the config
/// gives them, else those of the headers. Name faults: HF tensors that no rule reads or two known
/// parameters are made of, parameters with a part missing, parameters that every module of a sort
/// has and no rule makes. What only a family or a parameter list can say is open.
/// Errors: as apply_rules.
[[nodiscard]] Result<AppliedRules> apply_rules_alone(
    const model::Model& usual, const nlohmann::json& config, const ForeignRules& rules,
    const ForeignKinds& kinds, const Headers& headers, const model::ResolveOptions& options);

/// The rules as they hold for a model of the same structure with `to` decoder layers in place of
/// `from`: HF numbers of layers from `from` on (MTP layers behind the decoder) count from the end.
[[nodiscard]] ForeignRules with_layers(const ForeignRules& rules, std::int64_t from,
                                       std::int64_t to);

/// A foreign rule set in place of a family's own, with what it is held against.
struct RulesUnderTest {
  ForeignRules rules;
  ForeignKinds kinds;
  model::Model wanted;  // resolved with the family's own rules: which parameters there are
  bool alone = false;   // no family knows the architecture
  std::vector<OpenQuestion> open;
  std::vector<Error> warnings;  // of the rule set: they refute nothing
  std::string digest;           // of the rules file
};

}  // namespace bv::foreign

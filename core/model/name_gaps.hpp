#pragma once
// Names that are wrong one by one, and the faults that one cause makes of many of them: layers or
// experts that are missing or too many, a condition of the config that does not hold, MTP layers.

#include <functional>
#include <string>
#include <vector>

#include "core/model/name_spots.hpp"

namespace bv::model {

/// One name that is wrong by itself.
struct NameGap {
  enum class Kind {
    Unused,   // an HF tensor that no rule reads
    Missing,  // an HF tensor that is wanted and not there
    NoRule,   // a Megatron parameter that no rule makes
  };
  Kind kind = Kind::Unused;
  std::string name;         // HF name; for NoRule the Megatron name
  NameSpot spot;            // without a section: a name of no known form
  std::size_t slot = 0;     // Missing: which source of the rule
  std::size_t mapping = 0;  // Missing: the mapping of the model that wants it
};

/// Takes out of `gaps` whatever whole parts of the model explain, and returns one fault for each
/// cause, naming the config field that decides it:
/// - repetitions of a section (decoder layers, MTP layers, vision blocks) and experts, of which
///   every name is missing, or that the config does not have, or that no rule makes;
/// - names that a condition of the config asks for or rules out (layer_types, attention_bias,
///   tie_word_embeddings) where the checkpoint shows the opposite;
/// - a prefix (the vision tower, or all) under which nothing is there.
/// `wanted` is the resolved model that the names are held against. Gaps of one name each stay.
[[nodiscard]] std::vector<NameFault> explain_whole_parts(const Model& wanted,
                                                         std::vector<NameGap>& gaps);

/// "model.layers.4.*": what all names start with, by whole parts; the name itself when it is one.
[[nodiscard]] std::string common_start(const std::vector<std::string>& names);

// The three groups of explain_whole_parts.
[[nodiscard]] std::vector<NameFault> explain_absent_roots(const Model& wanted,
                                                          std::vector<NameGap>& gaps);
[[nodiscard]] std::vector<NameFault> explain_repetitions(const Model& wanted,
                                                         std::vector<NameGap>& gaps);
[[nodiscard]] std::vector<NameFault> explain_conditions(const Model& wanted,
                                                        std::vector<NameGap>& gaps);

/// Removes the gaps that `pick` admits; their names, in order.
[[nodiscard]] std::vector<std::string> take_names(std::vector<NameGap>& gaps,
                                                  const std::function<bool(const NameGap&)>& pick);
/// "27 HF tensors model.layers.*", "HF tensor lm_head.weight"; escaped.
[[nodiscard]] std::string tensors_text(const std::vector<std::string>& names);

}  // namespace bv::model

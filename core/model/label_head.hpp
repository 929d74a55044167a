#pragma once
// Heads of classes that are no language models: classifiers and reward models of a known family.

#include <nlohmann/json_fwd.hpp>

#include "core/family/family.hpp"
#include "core/model/model.hpp"
#include "core/model/resolve.hpp"

namespace bv::model {

/// The family with the head of the class that config.json names, or the same family: for a class of
/// the family or with a language head, a bare model, a head that --exclude leaves out, a checkpoint
/// that holds a language head as well, and heads that no class of transformers writes.
/// "...ForSequenceClassification" and "...ForTokenClassification" have one linear layer `score` (or
/// `classifier`), with as many rows as labels; "...RewardModel" has whatever stands under `score`.
/// Megatron-Bridge takes a linear layer that no rank cuts for its output_layer
/// (Qwen35TokenClassificationBridge).
[[nodiscard]] family::FamilyPtr with_class_head(family::FamilyPtr family,
                                                const nlohmann::json& config,
                                                const Headers& headers,
                                                const ResolveOptions& options);

/// What the header of a run says of it.
[[nodiscard]] Detected head_of_class(const family::Family& family, const family::Section& section,
                                     const HeadClass& head);

/// True when the model has the output layer of `section`. A class without a language head (a bare
/// model, a classifier) has none, unless its tensors are there all the same; nor has a checkpoint
/// that lacks them and has the names of a bare model. What was found goes into model.detected.
[[nodiscard]] bool has_output(const family::Section& section, const nlohmann::json& config,
                              const Ledger& ledger, const ResolveOptions& options, Model& model);

/// "ForCausalLM" of "LlamaForCausalLM": what the name of a class with a language head ends with; ""
/// for another class.
[[nodiscard]] std::string_view language_ending(std::string_view class_name);

/// What helps where the head is missing: the bare class, the embedding. "" for a class whose bare
/// one is not known.
[[nodiscard]] std::string missing_head_help(const Model& model);

}  // namespace bv::model

#pragma once
// Heads of classes that are no language models: classifiers and reward models of a known family.

#include <nlohmann/json_fwd.hpp>

#include "core/family/family.hpp"
#include "core/model/model.hpp"

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

}  // namespace bv::model

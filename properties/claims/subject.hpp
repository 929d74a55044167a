#pragma once
// What claims share: the rules that a model uses, their names as patterns, and verdicts about them.

#include <string>
#include <vector>

#include "properties/claims/claims.hpp"

namespace bv::claims {

/// Element tags: element k of tensor i of a mapping is i * kTensorTag + k.
inline constexpr std::int64_t kTensorTag = std::int64_t{1} << 40;

/// A rule of the family together with the mappings that it makes in this model.
struct RuleUse {
  const family::Rule* rule = nullptr;
  std::vector<std::uint32_t> mappings;
};
/// In the order of the family file; rules without a mapping are left out.
[[nodiscard]] std::vector<RuleUse> rule_uses(const model::Model& model);

/// "decoder.layers.*.self_attention.linear_qkv.weight": numbers of the name that vary are stars.
[[nodiscard]] std::string megatron_pattern(const model::Model& model, const RuleUse& use);
[[nodiscard]] std::vector<std::string> hf_patterns(const model::Model& model, const RuleUse& use);

/// A verdict about one rule, filled with everything but the outcome.
[[nodiscard]] Verdict about(const Input& input, std::string_view claim, const RuleUse& use,
                            const std::string& layout);

/// "text_config.hidden_size=24, text_config.num_attention_heads=8": the config fields behind a
/// rule's sizes.
[[nodiscard]] std::vector<std::string> size_origins(const model::Model& model,
                                                    const family::Rule& rule);

}  // namespace bv::claims

// Where Megatron keeps a norm weight w as w - 1 (layernorm_zero_centered_gamma) and what HF stores.
// Source: mapping-semantics 5.16; the RMSNorm classes of transformers 5.12.1: (1 + weight) in
// Qwen3NextRMSNorm, Qwen3_5RMSNorm and Gemma3RMSNorm, weight itself in the gated norm of the delta
// net and in all others.
#include <algorithm>
#include <array>

#include "oracles/oracle.hpp"
#include "oracles/target_layout.hpp"

namespace bv::oracle {
namespace {

// Both sides keep offsets from one, except for the gated norm in HF.
constexpr std::array kOffsets = {"qwen3_next",  "qwen3_5",          "qwen3_5_text",
                                 "qwen3_5_moe", "qwen3_5_moe_text", "gemma3_text"};
// Both sides keep the weights themselves.
constexpr std::array kWeights = {
    "llama",     "mistral",     "mixtral",           "qwen2",         "qwen3",
    "qwen3_moe", "qwen3_vl",    "qwen3_vl_moe",      "qwen3_vl_text", "glm4_moe",
    "gpt_oss",   "deepseek_v3", "qwen3_vl_moe_text", "kimi_k2"};

template <class Names>
bool holds(const Names& names, std::string_view name) {
  return std::find(names.begin(), names.end(), name) != names.end();
}

}  // namespace

WantedValue wanted_value(const Question& question) {
  if (!is_norm_weight(question.parameter)) {
    return {0.0, "only norm weights change their value"};
  }
  if (is_vision(question.parameter)) {
    return {0.0, "the norms of a vision tower keep their weights"};
  }
  if (holds(kWeights, question.model_type)) {
    return {0.0, "norms of " + question.model_type + " keep their weights on both sides"};
  }
  if (!holds(kOffsets, question.model_type)) {
    return {std::nullopt, "whether norms of " + question.model_type +
                              " are zero-centred is not known here (oracles/target_value.cpp)"};
  }
  if (question.parameter.ends_with("self_attention.out_norm.weight")) {
    return {-1.0, "HF stores the gated norm as it is, Megatron as its offset from one"};
  }
  return {0.0, "norms of " + question.model_type + " are offsets from one on both sides"};
}

}  // namespace bv::oracle

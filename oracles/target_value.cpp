// Where Megatron keeps a norm weight as w - 1 (layernorm_zero_centered_gamma) and what HF stores.
// Source: the RMSNorm classes of transformers 5.12.1: (1 + weight) in Qwen3NextRMSNorm,
// Qwen3_5RMSNorm and Gemma3RMSNorm, weight itself in the gated norm of the delta net and in all
// others.
#include "oracles/model_style.hpp"
#include "oracles/oracle.hpp"
#include "oracles/target_layout.hpp"

namespace bv::oracle {

WantedValue wanted_value(const Question& question) {
  if (!is_norm_weight(question.parameter)) {
    return {0.0, "only norm weights change their value"};
  }
  if (is_vision(question.parameter)) {
    return {0.0, "the norms of a vision tower keep their weights"};
  }
  const ModelStyle* style = style_of(question.model_type, question.stated.like);
  if (style == nullptr) {
    return {std::nullopt,
            question.model_type.empty()
                ? "config.json has no model_type, which decides whether norms are stored as "
                  "offsets from one"
                : "whether norms of " + question.model_type +
                      " are stored as offsets from one is not known"};
  }
  const bool of_model = style->norms == Norms::Offsets;
  const bool in_megatron = question.stated.zero_centered_gamma.value_or(of_model);
  const bool gated = question.parameter.ends_with("self_attention.out_norm.weight");
  const bool in_hf = of_model && !gated;
  if (in_hf == in_megatron) {
    return {0.0, "norms of " + question.model_type +
                     (in_hf ? " are offsets from one on both sides"
                            : " keep their weights on both sides")};
  }
  if (in_megatron) {
    return {-1.0,
            std::string(gated ? "HF stores the gated norm as it is" : "HF stores the weight") +
                ", Megatron its offset from one"};
  }
  return {1.0, "HF stores the offset from one, Megatron the weight"};
}

}  // namespace bv::oracle

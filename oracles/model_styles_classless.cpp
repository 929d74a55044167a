// Models that transformers has no class for: their forms are written from the code beside the
// published checkpoints.
#include "oracles/model_style.hpp"

#include <array>

namespace bv::oracle {
namespace {

/// Ling 2. Source: modeling_bailing_moe_v2.py, which Megatron-Bridge 0.6.2 brings.
constexpr HfNames kLing = {.embedding = "word_embeddings",
                           .attention = "attention.",
                           .together = "query_key_value",
                           .output = "dense",
                           .q_norm = "query_layernorm",
                           .k_norm = "key_layernorm",
                           .mtp_norm = "final_layernorm"};
constexpr MoeForm kLingExperts = {.router = Router::SigmoidGrouped,
                                  .normalise = Normalise::AboveOne,
                                  .ffn = "moe_intermediate_size",
                                  .scaling = "routed_scaling_factor",
                                  .groups = true,
                                  .shared_count = "num_shared_experts",
                                  .names = {.choice_bias = "gate.expert_bias"}};
constexpr MoeForm scaled_as(double scaling, MoeForm form) {
  form.scaling_otherwise = scaling;
  return form;
}
constexpr std::array kUnbiased = {Must{"use_bias", false}, Must{"use_qkv_bias", false}};

constexpr std::array kClasslessStyles = {
    // Source: modeling_decilm.py beside the published checkpoints.
    ModelStyle{.model_type = "nemotron-nas",
               .classless = true,
               .bias = Bias::Field,
               .computes = {.mlp_bias = "mlp_bias", .theta = 500000.0, .by_blocks = true}},
    // Qwen2 with MTP layers. Source: modeling_mimo.py beside the published checkpoints.
    ModelStyle{
        .model_type = "mimo",
        .classless = true,
        .bias = Bias::QkvAlways,
        .computes = {.mtp = "num_nextn_predict_layers", .names = {.mtp_list = "mtp_layers."}}},
    // Source: modeling_mimo_v2_flash.py beside the published checkpoint. Its MTP layers are not
    // computed.
    ModelStyle{.model_type = "mimo_v2_flash",
               .classless = true,
               .bias = Bias::QkvField,
               .computes = {.eps = "layernorm_epsilon",
                            .eps_otherwise = 1e-5,
                            .rotary = 0.334,
                            .by_pattern = true,
                            .mtp = "",
                            .names = {.sinks = "attention_sink_bias"},
                            .moe = {.router = Router::SigmoidGrouped,
                                    .normalise = Normalise::Field,
                                    .ffn = "moe_intermediate_size",
                                    .experts = "n_routed_experts",
                                    .scaling = "routed_scaling_factor",
                                    .groups = true}}},
    ModelStyle{.model_type = "bailing_moe",
               .classless = true,
               .qk_norm = true,
               .computes = {.must = kUnbiased,
                            .mtp = "num_nextn_predict_layers",
                            .mtp_behind = true,
                            .names = kLing,
                            .moe = kLingExperts}},
    ModelStyle{.model_type = "bailing_moe_v2",
               .classless = true,
               .qk_norm = true,
               .computes = {.theta = 600000.0,
                            .must = kUnbiased,
                            .mtp = "num_nextn_predict_layers",
                            .mtp_behind = true,
                            .names = kLing,
                            .moe = kLingExperts}},
    // Source: modeling_sarvam_moe.py beside the published checkpoints, and their Megatron provider.
    ModelStyle{.model_type = "sarvam_moe",
               .classless = true,
               .qk_norm = true,
               .computes = {.must = kUnbiased,
                            .mtp = "",
                            .names = kLing,
                            .moe = scaled_as(2.5, kLingExperts)}},
    ModelStyle{.model_type = "sarvam_mla",
               .classless = true,
               .experts = Experts::DeepSeek,
               .computes = {.latent = true,
                            .mtp = "",
                            .moe = {.router = Router::SigmoidGrouped,
                                    .normalise = Normalise::Field,
                                    .ffn = "moe_intermediate_size",
                                    .scaling = "routed_scaling_factor",
                                    .scaling_otherwise = 2.5,
                                    .groups = true,
                                    .shared_count = "num_shared_experts"}}},
};

}  // namespace

std::span<const ModelStyle> classless_styles() {
  return kClasslessStyles;
}

}  // namespace bv::oracle

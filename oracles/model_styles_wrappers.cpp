// Models that see or hear, whose text part is another model's.
#include <array>

#include "oracles/model_style.hpp"

namespace bv::oracle {
namespace {

constexpr HfNames kLanguageModel = {.body = "language_model.model.",
                                    .head = "language_model.lm_head"};
constexpr HfNames kBackbone = {.body = "language_model.backbone.",
                               .head = "language_model.lm_head"};
constexpr HfNames kThinker = {.body = "thinker.model.", .head = "thinker.lm_head"};

constexpr std::array kWrapperStyles = {
    ModelStyle{.model_type = "mistral3",
               .computes = {.wraps = "mistral",
                            .tied_otherwise = true,
                            .text_ties = false,
                            .names = kLanguageModel}},
    ModelStyle{.model_type = "minimax_m3_vl",
               .norms = Norms::Offsets,
               .qk_norm = true,
               .computes = {.wraps = "minimax_m3_vl_text", .names = kLanguageModel}},
    ModelStyle{.model_type = "qwen2_vl", .computes = {.wraps = "qwen2"}},
    ModelStyle{.model_type = "qwen2_5_vl", .computes = {.wraps = "qwen2"}},
    ModelStyle{.model_type = "qwen2_audio",
               .computes = {.wraps = "qwen2", .text_alone_ties = true, .names = kLanguageModel}},
    ModelStyle{.model_type = "exaone4_5",
               .qk_norm = true,
               .computes = {.wraps = "exaone4", .text_ties = false}},
    ModelStyle{.model_type = "gemma3",
               .norms = Norms::Offsets,
               .qk_norm = true,
               .computes = {.wraps = "gemma3_text",
                            .tied_otherwise = true,
                            .text_ties = false,
                            .names = kLanguageModel}},
    ModelStyle{.model_type = "gemma4",
               .qk_norm = true,
               .computes = {.wraps = "gemma4_text",
                            .tied_otherwise = true,
                            .text_ties = false,
                            .names = {.body = "model.language_model."}}},
    ModelStyle{
        .model_type = "ernie4_5_vl_moe",
        .computes = {.wraps = "ernie4_5_vl_moe_text", .tied_otherwise = true, .text_ties = false}},
    ModelStyle{
        .model_type = "ernie4_5_moe_vl",
        .computes = {.wraps = "ernie4_5_vl_moe_text", .tied_otherwise = true, .text_ties = false}},
    ModelStyle{.model_type = "glm4v_moe", .computes = {.wraps = "glm4_moe", .text_ties = false}},
    ModelStyle{.model_type = "kimi_k25",
               .computes = {.wraps = "deepseek_v3", .text_ties = false, .names = kLanguageModel}},
    ModelStyle{.model_type = "qwen3_asr",
               .qk_norm = true,
               .computes = {.wraps = "qwen3", .text_alone_ties = true, .names = kThinker}},
    ModelStyle{.model_type = "qwen3_omni_moe",
               .qk_norm = true,
               .computes = {.wraps = "qwen3_moe", .names = kThinker}},
    ModelStyle{.model_type = "qwen2_5_omni", .computes = {.wraps = "qwen2", .names = kThinker}},
    ModelStyle{.model_type = "nemotron_h_vl",
               .computes = {.wraps = "nemotron_h", .names = kBackbone}},
    ModelStyle{.model_type = "nemotron_h_omni",
               .computes = {.wraps = "nemotron_h", .names = kBackbone}},
    ModelStyle{.model_type = "NemotronH_Nano_VL_V2",
               .computes = {.wraps = "nemotron_h", .names = kBackbone}},
    ModelStyle{.model_type = "NemotronH_Nano_Omni_Reasoning_V3",
               .computes = {.wraps = "nemotron_h", .names = kBackbone}},
    ModelStyle{
        .model_type = "llama4",
        .experts = Experts::Llama4,
        .computes = {.wraps = "llama4_text", .text_alone_ties = true, .names = kLanguageModel}},
};

}  // namespace

std::span<const ModelStyle> wrapper_styles() {
  return kWrapperStyles;
}

}  // namespace bv::oracle

#include "oracles/model_style.hpp"

#include <algorithm>
#include <array>

namespace bv::oracle {
namespace {

constexpr std::array kStyles = {
    ModelStyle{.model_type = "llama", .bias = Bias::Field},
    ModelStyle{.model_type = "mistral", .slides = true},
    ModelStyle{.model_type = "qwen2", .bias = Bias::QkvAlways},
    ModelStyle{.model_type = "qwen3", .bias = Bias::Field, .qk_norm = true},
    ModelStyle{
        .model_type = "qwen3_moe", .bias = Bias::Field, .qk_norm = true, .experts = Experts::Qwen},
    ModelStyle{.model_type = "qwen3_vl_text", .bias = Bias::Field, .qk_norm = true},
    ModelStyle{.model_type = "qwen3_vl_moe_text",
               .bias = Bias::Field,
               .qk_norm = true,
               .experts = Experts::Qwen},
    ModelStyle{.model_type = "qwen3_next",
               .norms = Norms::Offsets,
               .bias = Bias::Field,
               .qk_norm = true,
               .output_gate = true,
               .delta = true,
               .experts = Experts::QwenShared},
    ModelStyle{.model_type = "qwen3_5_text",
               .norms = Norms::Offsets,
               .bias = Bias::Field,
               .qk_norm = true,
               .output_gate = true,
               .delta = true},
    ModelStyle{.model_type = "qwen3_5_moe_text",
               .norms = Norms::Offsets,
               .bias = Bias::Field,
               .qk_norm = true,
               .output_gate = true,
               .delta = true,
               .experts = Experts::QwenShared},
    ModelStyle{.model_type = "mixtral", .slides = true, .experts = Experts::Mixtral},
    ModelStyle{.model_type = "gpt_oss", .bias = Bias::Field, .experts = Experts::GptOss},
    ModelStyle{.model_type = "deepseek_v3", .experts = Experts::DeepSeek},
    ModelStyle{.model_type = "glm4_moe", .bias = Bias::QkvField, .experts = Experts::DeepSeek},
    ModelStyle{
        .model_type = "gemma3_text", .norms = Norms::Offsets, .bias = Bias::Field, .qk_norm = true},
    ModelStyle{.model_type = "deepseek_v2", .form = false},
    ModelStyle{.model_type = "glm_moe_dsa", .experts = Experts::DeepSeek, .form = false},
    ModelStyle{.model_type = "hy_v3", .qk_norm = true, .form = false},
    ModelStyle{.model_type = "gemma", .norms = Norms::Offsets, .form = false},
    ModelStyle{.model_type = "gemma2", .norms = Norms::Offsets, .form = false},
    ModelStyle{.model_type = "exaone4", .qk_norm = true, .form = false},
    ModelStyle{.model_type = "exaone4_5", .qk_norm = true, .form = false},
    ModelStyle{
        .model_type = "minimax_m3_vl", .norms = Norms::Offsets, .qk_norm = true, .form = false},
    ModelStyle{.model_type = "nemotron-nas", .form = false},
    ModelStyle{.model_type = "step3p5", .norms = Norms::Offsets, .qk_norm = true, .form = false},
    ModelStyle{.model_type = "step3p7", .norms = Norms::Offsets, .qk_norm = true, .form = false},
    ModelStyle{.model_type = "mimo_v2_flash", .form = false},
    ModelStyle{.model_type = "gemma4_text", .qk_norm = true, .form = false},
    ModelStyle{.model_type = "gemma4", .qk_norm = true, .form = false},
    ModelStyle{.model_type = "nemotron_h", .form = false},
    ModelStyle{.model_type = "nemotron_h_vl", .form = false},
    ModelStyle{.model_type = "nemotron_h_omni", .form = false},
    ModelStyle{.model_type = "NemotronH_Nano_VL_V2", .form = false},
    ModelStyle{.model_type = "NemotronH_Nano_Omni_Reasoning_V3", .form = false},
    ModelStyle{.model_type = "exaone_moe", .qk_norm = true, .form = false},
    ModelStyle{.model_type = "olmo2", .full_qk_norm = true, .form = false},
    ModelStyle{.model_type = "olmo3", .full_qk_norm = true, .form = false},
    ModelStyle{.model_type = "olmoe", .full_qk_norm = true, .form = false},
    ModelStyle{.model_type = "nemotron", .norms = Norms::Offsets, .form = false},
    ModelStyle{.model_type = "starcoder2", .form = false},
    ModelStyle{.model_type = "bailing_moe", .qk_norm = true, .form = false},
    ModelStyle{.model_type = "bailing_moe_v2", .qk_norm = true, .form = false},
    ModelStyle{.model_type = "sarvam_moe", .qk_norm = true, .form = false},
    ModelStyle{.model_type = "sarvam_mla", .form = false},
    ModelStyle{.model_type = "falcon_h1", .form = false},
    ModelStyle{.model_type = "phi3", .form = false},
    ModelStyle{.model_type = "glm", .form = false},
    ModelStyle{.model_type = "glm4", .form = false},
    ModelStyle{.model_type = "granite", .form = false},
    ModelStyle{.model_type = "qwen2_moe", .form = false},
    ModelStyle{.model_type = "dots1", .qk_norm = true, .form = false},
    ModelStyle{.model_type = "ernie4_5", .form = false},
    ModelStyle{.model_type = "ernie4_5_moe", .form = false},
    ModelStyle{.model_type = "gemma3", .norms = Norms::Offsets, .qk_norm = true, .form = false},
    ModelStyle{.model_type = "glm4v_moe", .form = false},
    ModelStyle{.model_type = "kimi_k25", .form = false},
    ModelStyle{.model_type = "mimo", .form = false},
    ModelStyle{.model_type = "minimax_m2", .cut_qk_norm = true, .form = false},
    ModelStyle{.model_type = "mistral3", .form = false},
    ModelStyle{.model_type = "qwen2_5_omni", .form = false},
    ModelStyle{.model_type = "qwen2_5_vl", .form = false},
    ModelStyle{.model_type = "qwen2_audio", .form = false},
    ModelStyle{.model_type = "qwen2_vl", .form = false},
    ModelStyle{.model_type = "qwen3_asr", .qk_norm = true, .form = false},
    ModelStyle{.model_type = "qwen3_omni_moe", .qk_norm = true, .form = false},
    ModelStyle{.model_type = "seed_oss", .form = false},
    ModelStyle{.model_type = "smollm3", .form = false},
    ModelStyle{.model_type = "deepseek_v32", .experts = Experts::DeepSeek, .form = false},
    ModelStyle{.model_type = "cohere", .cut_qk_norm = true, .form = false},
    ModelStyle{.model_type = "cohere2", .form = false},
    ModelStyle{.model_type = "llama4", .experts = Experts::Llama4, .form = false},
    ModelStyle{.model_type = "llama4_text", .experts = Experts::Llama4, .form = false},
    ModelStyle{.model_type = "arcee", .form = false},
    ModelStyle{.model_type = "cwm", .form = false},
    ModelStyle{.model_type = "ministral", .form = false},
    ModelStyle{.model_type = "ministral3", .form = false},
    ModelStyle{.model_type = "olmo", .form = false},
    ModelStyle{.model_type = "stablelm", .form = false},
    ModelStyle{.model_type = "hunyuan_v1_dense", .qk_norm = true, .form = false},
    ModelStyle{.model_type = "hunyuan_v1_moe", .qk_norm = true, .form = false},
    ModelStyle{.model_type = "solar_open", .form = false},
    ModelStyle{.model_type = "granitemoe", .form = false},
    ModelStyle{.model_type = "granitemoeshared", .form = false},
    ModelStyle{.model_type = "phimoe", .form = false},
    ModelStyle{.model_type = "youtu", .form = false},
    ModelStyle{.model_type = "vaultgemma", .norms = Norms::Offsets, .form = false},
    ModelStyle{.model_type = "hyperclovax", .form = false},
    ModelStyle{.model_type = "jais2", .form = false},
    ModelStyle{.model_type = "flex_olmo", .full_qk_norm = true, .form = false},
    ModelStyle{.model_type = "phi", .form = false},
    ModelStyle{.model_type = "gpt_neox", .heads_together = true, .form = false},
};

/// Models that compute as another does, under a name of their own.
struct OtherName {
  std::string_view model_type;
  std::string_view same_as;
};
constexpr std::array kOtherNames = {OtherName{"kimi_k2", "deepseek_v3"},
                                    OtherName{"glm4_moe_lite", "deepseek_v3"}};

const ModelStyle* row(std::string_view model_type) {
  const auto* found = std::find_if(kStyles.begin(), kStyles.end(), [&](const ModelStyle& style) {
    return style.model_type == model_type;
  });
  return found == kStyles.end() ? nullptr : found;
}

}  // namespace

const ModelStyle* style_of(std::string_view model_type) {
  for (const OtherName& other : kOtherNames) {
    if (other.model_type == model_type) {
      return row(other.same_as);
    }
  }
  const ModelStyle* own = row(model_type);
  return own != nullptr ? own : row(std::string(model_type) + "_text");
}

const ModelStyle* style_of(std::string_view model_type, std::string_view like) {
  const ModelStyle* own = style_of(model_type);
  return own != nullptr || like.empty() ? own : style_of(like);
}

std::vector<std::string> known_model_types() {
  std::vector<std::string> out;
  for (const ModelStyle& style : kStyles) {
    if (style.form) out.emplace_back(style.model_type);
  }
  return out;
}

}  // namespace bv::oracle

#include "oracles/target_layout.hpp"

#include <algorithm>
#include <array>
#include <charconv>
#include <utility>
#include <vector>

namespace bv::oracle {
namespace {

std::vector<std::string_view> components(std::string_view path) {
  std::vector<std::string_view> parts;
  while (true) {
    const std::size_t dot = path.find('.');
    parts.push_back(path.substr(0, dot));
    if (dot == std::string_view::npos) {
      return parts;
    }
    path.remove_prefix(dot + 1);
  }
}

/// "weight12" -> 12 for the stem "weight"; nullopt when nothing but digits must follow and does
/// not.
std::optional<std::int64_t> digits_after(std::string_view text, std::string_view stem) {
  if (!text.starts_with(stem)) {
    return std::nullopt;
  }
  text.remove_prefix(stem.size());
  std::int64_t number = 0;
  const auto parsed = std::from_chars(text.data(), text.data() + text.size(), number);
  const bool all = !text.empty() && text.front() != '-' && parsed.ec == std::errc() &&
                   parsed.ptr == text.data() + text.size();
  return all ? std::optional(number) : std::nullopt;
}

struct Row {
  std::string_view module;
  Formula weight;
  Formula bias;
};

// Column-parallel modules cut weight and bias; row-parallel ones cut the weight and keep the bias
// whole.
constexpr std::array kModules = {
    Row{"linear_qkv", Formula::LinearQkv, Formula::LinearQkv},
    Row{"linear_kv", Formula::LinearKv, Formula::LinearKv},
    Row{"linear_q", Formula::Column, Formula::Column},
    Row{"linear_q_proj", Formula::Column, Formula::Column},
    Row{"linear_q_up_proj", Formula::Column, Formula::Column},
    Row{"linear_kv_up_proj", Formula::Column, Formula::Column},
    Row{"linear_q_down_proj", Formula::Replicated, Formula::Replicated},
    Row{"linear_kv_down_proj", Formula::Replicated, Formula::Replicated},
    Row{"linear_proj", Formula::Row, Formula::Replicated},
    Row{"out_proj", Formula::Row, Formula::Replicated},
    Row{"linear_fc1", Formula::LinearFc1, Formula::LinearFc1},
    Row{"linear_fc2", Formula::Row, Formula::Replicated},
    Row{"linear_wq_b", Formula::Replicated, Formula::Replicated},
    Row{"linear_wk", Formula::Replicated, Formula::Replicated},
    Row{"linear_weights_proj", Formula::Replicated, Formula::Replicated},
    Row{"fc1_latent_proj", Formula::Replicated, Formula::Replicated},
    Row{"fc2_latent_proj", Formula::Replicated, Formula::Replicated},
    Row{"router", Formula::Replicated, Formula::Replicated},
    Row{"word_embeddings", Formula::Vocabulary, Formula::Vocabulary},
    Row{"output_layer", Formula::OutputLayer, Formula::OutputLayer},
    Row{"eh_proj", Formula::EhProj, Formula::Column},
    Row{"per_layer_embedding", Formula::Column, Formula::Column},
    Row{"per_layer_model_proj", Formula::Column, Formula::Column},
    Row{"per_layer_input_gate", Formula::Replicated, Formula::Replicated},
    Row{"per_layer_projection", Formula::Replicated, Formula::Replicated},
    Row{"embedder", Formula::Column, Formula::Column},
    Row{"video_embedder", Formula::Column, Formula::Column},
};

/// The Mamba mixer alone in a layer, or beside attention (Falcon-H1).
bool is_mamba(std::string_view module) {
  return module == "mixer" || module == "mamba_mixer";
}

std::optional<Formula> norm_of(std::string_view parent, std::string_view module,
                               std::string_view leaf) {
  if (leaf == "layer_norm_weight" || leaf == "layer_norm_bias") {
    return Formula::Replicated;
  }
  if (!module.ends_with("norm") || (leaf != "weight" && leaf != "bias")) {
    return std::nullopt;
  }
  return is_mamba(parent) && module == "norm" ? Formula::Column
                                              : Formula::Replicated;  // Mamba: a norm over din/t
}

/// Parameters that are no linear layer of the table: by module and leaf.
std::optional<Formula> special_of(std::string_view parent, std::string_view module,
                                  std::string_view leaf) {
  const bool plain = leaf == "weight" || leaf == "bias";
  if (leaf == "layer_scalar") {
    return Formula::Replicated;  // Gemma 4
  }
  if (module == "router" && (leaf == "scale" || leaf == "per_expert_scale")) {
    return Formula::Replicated;  // Gemma 4
  }
  if (module == "router" && leaf == "expert_bias") {
    return Formula::Replicated;
  }
  if (module == "shared_experts" && leaf == "gate_weight") {
    return Formula::Replicated;
  }
  if (module == "vision_model" && (leaf == "class_token" || leaf == "position_embeddings")) {
    return Formula::Replicated;  // RADIO
  }
  if (module == "core_attention" && leaf == "softmax_offset") {
    return Formula::Column;
  }
  if (leaf == "A_log" || leaf == "dt_bias" || (leaf == "D" && is_mamba(module))) {
    return is_mamba(module) || module == "self_attention" ? std::optional(Formula::Column)
                                                          : std::nullopt;
  }
  if (module == "in_proj" && leaf == "weight") {
    return is_mamba(parent) ? Formula::MambaInProj : Formula::GdnInProj;
  }
  if (module == "conv1d" && plain) {
    return is_mamba(parent) ? Formula::MambaConv1d : Formula::GdnConv1d;
  }
  if (is_mamba(module) && (leaf == "conv1d_weight" || leaf == "conv1d_bias")) {
    return Formula::MambaConv1d;
  }
  return std::nullopt;
}

/// Modules of HF that Megatron's model holds as they are: every rank has the whole of each.
constexpr std::array kOfHf = {std::string_view("visual"),
                              std::string_view("vision_tower"),
                              std::string_view("vision_embedding"),
                              std::string_view("audio_tower"),
                              std::string_view("audio_model"),
                              std::string_view("sound_encoder"),
                              std::string_view("multi_modal_projector"),
                              std::string_view("mm_projector"),
                              std::string_view("embed_vision"),
                              std::string_view("embed_audio"),
                              std::string_view("patch_merge_mlp"),
                              std::string_view("resampler_model"),
                              std::string_view("image_insert_embedding"),
                              std::string_view("lightning_indexers"),
                              std::string_view("sound_model")};

/// The tower of Step-3.7 stands where those of Megatron do; its modules are PyTorch's.
constexpr std::array kOfHfTower = {
    std::string_view("transformer"),      std::string_view("conv1"),
    std::string_view("ln_pre"),           std::string_view("vit_downsampler1"),
    std::string_view("vit_downsampler2"), std::string_view("positional_embedding")};

bool is_of_hf_path(const std::vector<std::string_view>& parts) {
  const bool wrapped =
      parts.front() == "thinker" || parts.front() == "model" || parts.front() == "llava_model";
  const std::size_t first = wrapped ? 1 : 0;
  if (parts.size() > 1 && parts.front() == "vision_model" &&
      std::ranges::find(kOfHfTower, parts[1]) != kOfHfTower.end()) {
    return true;
  }
  return parts.size() > first + 1 && std::ranges::find(kOfHf, parts[first]) != kOfHf.end();
}

std::optional<Formula> expert_formula(std::string_view module, std::string_view leaf) {
  if (module == "linear_fc1" || module == "linear_fc2") {
    const bool numbered = digits_after(leaf, "weight") || digits_after(leaf, "bias");
    if (numbered || leaf == "weight" || leaf == "bias") {
      return module == "linear_fc1" ? Formula::ExpertFc1 : Formula::ExpertFc2;
    }
  }
  return std::nullopt;
}

}  // namespace

bool is_of_hf(std::string_view parameter) {
  const std::vector<std::string_view> parts = components(parameter);
  return is_of_hf_path(parts) && formula_of(parameter) == Formula::Replicated;
}

bool is_vision(std::string_view parameter) {
  return is_of_hf_path(components(parameter)) || parameter.starts_with("vision_model.") ||
         parameter.find(".vision_model.") != std::string_view::npos;
}

bool is_norm_weight(std::string_view parameter) {
  const std::size_t dot = parameter.rfind('.');
  const std::string_view leaf = parameter.substr(dot + 1);
  const std::string_view path = dot == std::string_view::npos ? "" : parameter.substr(0, dot);
  const std::string_view module = path.substr(path.rfind('.') + 1);
  return leaf == "layer_norm_weight" || (leaf == "weight" && norm_of("", module, leaf));
}

std::optional<std::int64_t> expert_in(std::string_view name) {
  const std::vector<std::string_view> parts = components(name);
  for (std::size_t i = 0; i + 1 < parts.size(); ++i) {
    if (parts[i] == "local_experts" || (parts[i] == "experts" && !parts[i + 1].empty())) {
      if (const auto number = digits_after(parts[i + 1], "")) {
        return number;
      }
    }
  }
  const auto weight = digits_after(parts.back(), "weight");
  return weight ? weight : digits_after(parts.back(), "bias");
}

std::optional<Formula> formula_of(std::string_view parameter) {
  const std::vector<std::string_view> parts = components(parameter);
  const auto from_end = [&](std::size_t back) {
    return parts.size() > back ? parts[parts.size() - 1 - back] : "";
  };
  const std::string_view leaf = from_end(0);
  const std::string_view module = from_end(1);
  const std::string_view parent = from_end(2);
  if (is_of_hf_path(parts)) {  // but for the projection of Gemma 3, a layer of Megatron-Core
    const bool projection = parent == "multi_modal_projector" && module == "proj";
    return projection && leaf == "weight" ? Formula::Column : Formula::Replicated;
  }
  if (const auto norm = norm_of(parent, module, leaf)) {
    return norm;
  }
  if (std::ranges::find(parts, "experts") != parts.end()) {
    const bool sequential = from_end(3) == "local_experts" && from_end(4) == "experts";
    const bool grouped = parent == "experts";
    return (sequential || grouped) && expert_in(parameter) ? expert_formula(module, leaf)
                                                           : std::nullopt;
  }
  if (const auto special = special_of(parent, module, leaf)) {
    return special;
  }
  if (leaf != "weight" && leaf != "bias") {
    return std::nullopt;
  }
  if (is_vision(parameter) &&
      ((parent == "patch_embed" && module == "proj") || module == "pos_embed")) {
    return Formula::Replicated;
  }
  if (parent == "output_layer" && digits_after(module, "")) {
    return Formula::Replicated;  // the head of a reward model: several layers
  }
  const auto row = std::ranges::find(kModules, module, &Row::module);
  return row == kModules.end() ? std::nullopt
                               : std::optional(leaf == "weight" ? row->weight : row->bias);
}

}  // namespace bv::oracle

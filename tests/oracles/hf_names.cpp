#include "hf_names.hpp"

#include <map>

namespace bv::oracle {
namespace {

using Names = std::vector<std::string>;

// Suffixes of one decoder layer that name one HF tensor, in every family; the first stored one
// counts.
const std::map<std::string, Names>& layer_names() {
  static const std::map<std::string, Names> kNames = {
      {"input_layernorm.weight", {"input_layernorm.weight"}},
      {"self_attention.linear_qkv.layer_norm_weight", {"input_layernorm.weight"}},
      {"self_attention.in_proj.layer_norm_weight", {"input_layernorm.weight"}},
      {"self_attention.q_layernorm.weight", {"self_attn.q_norm.weight"}},
      {"self_attention.k_layernorm.weight", {"self_attn.k_norm.weight"}},
      {"self_attention.linear_proj.weight", {"self_attn.o_proj.weight"}},
      {"self_attention.linear_proj.bias", {"self_attn.o_proj.bias"}},
      {"self_attention.linear_proj.post_layernorm.weight", {"post_attention_layernorm.weight"}},
      {"self_attention.core_attention.softmax_offset", {"self_attn.sinks"}},
      {"self_attention.linear_q_down_proj.weight", {"self_attn.q_a_proj.weight"}},
      {"self_attention.linear_q_up_proj.layer_norm_weight", {"self_attn.q_a_layernorm.weight"}},
      {"self_attention.linear_q_up_proj.weight", {"self_attn.q_b_proj.weight"}},
      {"self_attention.linear_kv_down_proj.weight", {"self_attn.kv_a_proj_with_mqa.weight"}},
      {"self_attention.linear_kv_up_proj.layer_norm_weight", {"self_attn.kv_a_layernorm.weight"}},
      {"self_attention.linear_kv_up_proj.weight", {"self_attn.kv_b_proj.weight"}},
      {"self_attention.conv1d.weight", {"linear_attn.conv1d.weight"}},
      {"self_attention.A_log", {"linear_attn.A_log"}},
      {"self_attention.dt_bias", {"linear_attn.dt_bias"}},
      {"self_attention.out_norm.weight", {"linear_attn.norm.weight"}},
      {"self_attention.out_proj.weight", {"linear_attn.out_proj.weight"}},
      {"pre_mlp_layernorm.weight", {"post_attention_layernorm.weight"}},
      {"mlp.linear_fc1.layer_norm_weight",
       {"pre_feedforward_layernorm.weight", "post_attention_layernorm.weight"}},
      {"mlp.linear_fc2.post_layernorm.weight", {"post_feedforward_layernorm.weight"}},
      {"mlp.linear_fc2.weight", {"mlp.down_proj.weight"}},
      {"mlp.router.weight", {"mlp.gate.weight", "mlp.router.weight"}},
      {"mlp.router.bias", {"mlp.router.bias"}},
      {"mlp.router.expert_bias", {"mlp.gate.e_score_correction_bias"}},
      {"mlp.shared_experts.gate_weight", {"mlp.shared_expert_gate.weight"}},
      {"mlp.shared_experts.linear_fc2.weight",
       {"mlp.shared_expert.down_proj.weight", "mlp.shared_experts.down_proj.weight"}},
  };
  return kNames;
}

const std::map<std::string, std::string>& vision_names() {
  static const std::map<std::string, std::string> kNames = {
      {"self_attention.linear_qkv.layer_norm_weight", "norm1.weight"},
      {"self_attention.linear_qkv.layer_norm_bias", "norm1.bias"},
      {"self_attention.linear_qkv.weight", "attn.qkv.weight"},
      {"self_attention.linear_qkv.bias", "attn.qkv.bias"},
      {"self_attention.linear_proj.weight", "attn.proj.weight"},
      {"self_attention.linear_proj.bias", "attn.proj.bias"},
      {"mlp.linear_fc1.layer_norm_weight", "norm2.weight"},
      {"mlp.linear_fc1.layer_norm_bias", "norm2.bias"},
  };
  return kNames;
}

/// Splits "layers.3.rest" behind `prefix` into its number and rest.
bool split_layer(const std::string& name, const std::string& prefix, std::string& number,
                 std::string& rest) {
  if (!name.starts_with(prefix)) {
    return false;
  }
  const std::size_t dot = name.find('.', prefix.size());
  number = name.substr(prefix.size(), dot - prefix.size());
  rest = name.substr(dot + 1);
  return true;
}

Names stored_ones(const StoredTensors& stored, const std::string& prefix, const Names& candidates) {
  for (const std::string& candidate : candidates) {
    if (stored.contains(prefix + candidate)) {
      return {prefix + candidate};
    }
  }
  return {};
}

/// Experts, stacked or one by one: "mlp.experts.linear_fc1.weight3".
Names expert_names(const std::string& rest, const std::string& layer, const StoredTensors& stored) {
  const bool first = rest.starts_with("mlp.experts.linear_fc1.");
  const std::string experts = layer + "mlp.experts.";
  const std::string stack = experts + (first ? "gate_up_proj" : "down_proj");
  if (rest.find(".bias") != std::string::npos) {
    return {stack + "_bias"};
  }
  if (stored.contains(stack)) {
    return {stack};
  }
  const std::string own =
      experts + rest.substr(std::string("mlp.experts.linear_fc1.weight").size()) + ".";
  return first ? Names{own + "gate_proj.weight", own + "up_proj.weight"}
               : Names{own + "down_proj.weight"};
}

Names layer_sources(const std::string& rest, const std::string& layer,
                    const StoredTensors& stored) {
  if (rest.starts_with("mlp.experts.")) {
    return expert_names(rest, layer, stored);
  }
  if (rest.starts_with("self_attention.linear_qkv.") && !rest.ends_with("layer_norm_weight")) {
    const std::string leaf = rest.substr(rest.rfind('.'));
    return {layer + "self_attn.q_proj" + leaf, layer + "self_attn.k_proj" + leaf,
            layer + "self_attn.v_proj" + leaf};
  }
  if (rest == "self_attention.in_proj.weight") {
    const std::string in = layer + "linear_attn.in_proj_";
    return stored.contains(in + "qkvz.weight")
               ? Names{in + "qkvz.weight", in + "ba.weight"}
               : Names{in + "qkv.weight", in + "z.weight", in + "b.weight", in + "a.weight"};
  }
  if (rest == "mlp.linear_fc1.weight") {
    return {layer + "mlp.gate_proj.weight", layer + "mlp.up_proj.weight"};
  }
  if (rest == "mlp.shared_experts.linear_fc1.weight") {
    const std::string one = stored.contains(layer + "mlp.shared_expert.up_proj.weight")
                                ? "mlp.shared_expert."
                                : "mlp.shared_experts.";
    return {layer + one + "gate_proj.weight", layer + one + "up_proj.weight"};
  }
  const auto found = layer_names().find(rest);
  return found == layer_names().end() ? Names{} : stored_ones(stored, layer, found->second);
}

Names vision_sources(const std::string& name) {
  const std::string hf = "model.visual.";
  std::string block, rest;
  if (split_layer(name, "decoder.layers.", block, rest)) {
    const auto found = vision_names().find(rest);
    return {hf + "blocks." + block + "." + (found == vision_names().end() ? rest : found->second)};
  }
  std::string plain =
      name.starts_with("decoder.") ? name.substr(8) : name;  // decoder.deepstack_merger_list.0.
  if (const std::size_t at = plain.find("patch_norm"); at != std::string::npos) {
    plain.replace(at, 10, "norm");
  }
  return {hf + plain};
}

Names mtp_sources(const std::string& number, const std::string& rest, const StoredTensors& stored) {
  const std::map<std::string, std::string> top = {
      {"eh_proj.weight", "mtp.fc.weight"},
      {"enorm.weight", "mtp.pre_fc_norm_embedding.weight"},
      {"hnorm.weight", "mtp.pre_fc_norm_hidden.weight"},
      {"final_layernorm.weight", "mtp.norm.weight"}};
  if (const auto found = top.find(rest); found != top.end()) {
    return {found->second};
  }
  return layer_sources(rest.substr(std::string("mtp_model_layer.").size()),
                       "mtp.layers." + number + ".", stored);
}

}  // namespace

std::vector<std::string> hf_names_of(const std::string& megatron, const StoredTensors& stored) {
  if (megatron.starts_with("vision_model.")) {
    return vision_sources(megatron.substr(13));
  }
  const std::string name = megatron.starts_with("language_model.") ? megatron.substr(15) : megatron;
  const std::string hf =
      stored.contains("model.embed_tokens.weight") ? "model." : "model.language_model.";
  if (name == "embedding.word_embeddings.weight") {
    return {hf + "embed_tokens.weight"};
  }
  if (name == "output_layer.weight") {
    return {stored.contains("lm_head.weight") ? "lm_head.weight" : hf + "embed_tokens.weight"};
  }
  if (name == "decoder.final_layernorm.weight") {
    return {hf + "norm.weight"};
  }
  std::string number, rest;
  if (split_layer(name, "decoder.layers.", number, rest)) {
    return layer_sources(rest, hf + "layers." + number + ".", stored);
  }
  return split_layer(name, "mtp.layers.", number, rest) ? mtp_sources(number, rest, stored)
                                                        : Names{};
}

}  // namespace bv::oracle

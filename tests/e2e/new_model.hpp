#pragma once
// Architectures that no family knows, as tests make them: a checkpoint and rules for it.

#include <fmt/format.h>

#include <string>
#include <vector>

#include "core/base/arith.hpp"
#include "tests/e2e/process.hpp"

namespace bv::e2e {

using nlohmann::ordered_json;

inline void add(EditedCheckpoint& model, const std::string& name, Shape shape) {
  EditedTensor tensor{DType::BF16, std::move(shape), {}};
  tensor.bytes.resize(static_cast<std::size_t>(element_count(tensor.shape).value() * 2));
  for (std::size_t i = 0; i < tensor.bytes.size(); i += 2) {
    tensor.bytes[i] = static_cast<std::byte>((i / 2 * 7 + name.size() * 17) % 251);
    tensor.bytes[i + 1] = static_cast<std::byte>(0x3c + i / 512 % 3);
  }
  model.tensors[name] = std::move(tensor);
}

struct RuleRow {
  std::string kind, megatron;
  ordered_json hf;
  ordered_json parameters = ordered_json::object();
};

struct NewModel {
  EditedCheckpoint checkpoint;
  std::vector<RuleRow> rules;
  ordered_json extra = ordered_json::object();  // further keys of the rules file

  RuleRow& rule(const std::string& end) {
    for (RuleRow& row : rules) {
      if (row.megatron.ends_with(end)) {
        return row;
      }
    }
    ADD_FAILURE() << end;
    return rules.front();
  }
  void forget(const std::string& end) {
    std::erase_if(rules, [&](const RuleRow& row) { return row.megatron.ends_with(end); });
  }

  void write(const TempFolder& folder) const {
    checkpoint.write(folder / "m");
    ordered_json rows = ordered_json::array();
    for (const RuleRow& row : rules) {
      rows.push_back({{"id", fmt::format("r{}", rows.size())},
                      {"kind", row.kind},
                      {"megatron", row.megatron},
                      {"hf", row.hf},
                      {"parameters", row.parameters}});
    }
    ordered_json file = extra;
    file["schema"] = "bridge-rules/1";
    file["rules"] = rows;
    write_text(folder / "r.json", file.dump(1));
  }

  [[nodiscard]] Ended check(const std::string& claims,
                            const std::vector<std::string>& more = {}) const {
    const TempFolder folder;
    write(folder);
    std::vector<std::string> line = {"check", "--model", folder / "m", "--rules",
                                     folder / "r.json"};
    if (!claims.empty()) {
      line.insert(line.end(), {"--only", claims});
    }
    line.insert(line.end(), more.begin(), more.end());
    return run(line);
  }
};

/// StarCoder2-like: layer norms with biases, biases everywhere, an MLP without a gate, tied.
inline NewModel nova_coder() {
  NewModel out;
  out.checkpoint.config = ordered_json::parse(
      R"({"architectures":["NovaCoderForCausalLM"],"model_type":"nova_coder","hidden_size":24,
          "intermediate_size":40,"num_hidden_layers":4,"num_attention_heads":8,
          "num_key_value_heads":4,"vocab_size":92,"use_bias":true,"tie_word_embeddings":true})");
  add(out.checkpoint, "model.embed_tokens.weight", {92, 24});
  add(out.checkpoint, "model.norm.weight", {24});
  add(out.checkpoint, "model.norm.bias", {24});
  for (int i = 0; i < 4; ++i) {
    const std::string layer = fmt::format("model.layers.{}.", i);
    for (const char* norm : {"input_layernorm", "post_attention_layernorm"}) {
      add(out.checkpoint, layer + norm + ".weight", {24});
      add(out.checkpoint, layer + norm + ".bias", {24});
    }
    for (const auto& [name, rows, columns] :
         std::vector<std::tuple<std::string, std::int64_t, std::int64_t>>{
             {"self_attn.q_proj", 24, 24},
             {"self_attn.k_proj", 12, 24},
             {"self_attn.v_proj", 12, 24},
             {"self_attn.o_proj", 24, 24},
             {"mlp.c_fc", 40, 24},
             {"mlp.c_proj", 24, 40}}) {
      add(out.checkpoint, layer + name + ".weight", {rows, columns});
      add(out.checkpoint, layer + name + ".bias", {rows});
    }
  }
  const std::string m = "decoder.layers.*.";
  const std::string h = "model.layers.*.";
  out.rules = {{"auto", "embedding.word_embeddings.weight", "model.embed_tokens.weight"},
               {"auto", "decoder.final_layernorm.weight", "model.norm.weight"},
               {"auto", "decoder.final_layernorm.bias", "model.norm.bias"}};
  for (const char* end : {"weight", "bias"}) {
    const auto named = [&](const char* name) { return h + name + "." + end; };
    const std::string norm = std::string("layer_norm_") + end;
    out.rules.push_back(
        {"auto", m + "self_attention.linear_qkv." + norm, named("input_layernorm")});
    out.rules.push_back({"qkv", m + "self_attention.linear_qkv." + end,
                         ordered_json{{"q", named("self_attn.q_proj")},
                                      {"k", named("self_attn.k_proj")},
                                      {"v", named("self_attn.v_proj")}}});
    const bool bias = std::string_view(end) == "bias";
    out.rules.push_back({bias ? "replicated" : "auto", m + "self_attention.linear_proj." + end,
                         named("self_attn.o_proj")});
    out.rules.push_back({"auto", m + "mlp.linear_fc1." + norm, named("post_attention_layernorm")});
    out.rules.push_back({"auto", m + "mlp.linear_fc1." + end, named("mlp.c_fc")});
    out.rules.push_back(
        {bias ? "replicated" : "auto", m + "mlp.linear_fc2." + end, named("mlp.c_proj")});
  }
  return out;
}

/// OLMoE-like: every layer has experts, whose size is intermediate_size.
inline NewModel nova_moe() {
  NewModel out;
  out.checkpoint.config = ordered_json::parse(
      R"({"architectures":["NovaMoeForCausalLM"],"model_type":"nova_moe","hidden_size":24,
          "intermediate_size":16,"num_hidden_layers":3,"num_attention_heads":8,
          "num_key_value_heads":8,"vocab_size":92,"num_experts":8,"num_experts_per_tok":2,
          "tie_word_embeddings":false})");
  add(out.checkpoint, "model.embed_tokens.weight", {92, 24});
  add(out.checkpoint, "lm_head.weight", {92, 24});
  add(out.checkpoint, "model.norm.weight", {24});
  for (int i = 0; i < 3; ++i) {
    const std::string layer = fmt::format("model.layers.{}.", i);
    for (const char* norm : {"input_layernorm", "post_attention_layernorm"}) {
      add(out.checkpoint, layer + norm + ".weight", {24});
    }
    for (const char* name : {"q_proj", "k_proj", "v_proj", "o_proj"}) {
      add(out.checkpoint, layer + "self_attn." + name + ".weight", {24, 24});
    }
    add(out.checkpoint, layer + "mlp.gate.weight", {8, 24});
    for (int e = 0; e < 8; ++e) {
      const std::string expert = fmt::format("{}mlp.experts.{}.", layer, e);
      add(out.checkpoint, expert + "gate_proj.weight", {16, 24});
      add(out.checkpoint, expert + "up_proj.weight", {16, 24});
      add(out.checkpoint, expert + "down_proj.weight", {24, 16});
    }
  }
  const std::string m = "decoder.layers.*.";
  const std::string h = "model.layers.*.";
  out.rules = {
      {"auto", "embedding.word_embeddings.weight", "model.embed_tokens.weight"},
      {"auto", "output_layer.weight", "lm_head.weight"},
      {"auto", "decoder.final_layernorm.weight", "model.norm.weight"},
      {"auto", m + "self_attention.linear_qkv.layer_norm_weight", h + "input_layernorm.weight"},
      {"qkv", m + "self_attention.linear_qkv.weight",
       ordered_json{{"q", h + "self_attn.q_proj.weight"},
                    {"k", h + "self_attn.k_proj.weight"},
                    {"v", h + "self_attn.v_proj.weight"}}},
      {"auto", m + "self_attention.linear_proj.weight", h + "self_attn.o_proj.weight"},
      {"auto", m + "pre_mlp_layernorm.weight", h + "post_attention_layernorm.weight"},
      {"auto", m + "mlp.router.weight", h + "mlp.gate.weight"},
      {"gated_mlp", m + "mlp.experts.linear_fc1.weight*",
       ordered_json{{"gate", h + "mlp.experts.*.gate_proj.weight"},
                    {"up", h + "mlp.experts.*.up_proj.weight"}}},
      {"auto", m + "mlp.experts.linear_fc2.weight*", h + "mlp.experts.*.down_proj.weight"}};
  return out;
}

}  // namespace bv::e2e

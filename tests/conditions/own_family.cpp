#include "tests/conditions/own_family.hpp"

#include <gtest/gtest.h>

#include "tests/support/checkpoint_edit.hpp"

namespace bv::conditions {

const std::string_view kMambaFamily = R"({
  "schema": "bridge-family/1",
  "family": "own",
  "doc": "A Mamba layer.",
  "architectures": ["OwnForCausalLM"],
  "model_types": ["own"],
  "config": {"level": ""},
  "symbols": {
    "mamba_num_heads": {"field": "mamba_num_heads"},
    "mamba_head_dim": {"field": "mamba_head_dim"},
    "mamba_num_groups": {"field": "mamba_num_groups"},
    "mamba_state_dim": {"field": "mamba_state_dim"}
  },
  "prefixes": {"M": "", "HF": "model."},
  "sections": [
    {"stage": "embedding", "use": ["embedding"]},
    {
      "stage": "decoder",
      "over": {"i": "num_hidden_layers"},
      "rules": [
        {"kind": "mamba_in", "megatron": "{M}decoder.layers.{i}.mixer.in_proj.weight",
         "hf": {"x": "{HF}layers.{i}.in_proj.weight"},
         "axes": {"i": "mamba_num_heads * mamba_head_dim / t",
                  "s": "mamba_num_groups * mamba_state_dim / t", "m": "mamba_num_heads / t"},
         "rest": ["hidden_size"]}
      ],
      "constraints": [
        {"code": "E026", "divisor": "tp", "dividend": "mamba_num_groups", "of": "mixer.in_proj",
         "noun": "mamba groups"}
      ]
    }
  ]
})";

const std::string_view kGateFamily = R"({
  "schema": "bridge-family/1",
  "family": "own",
  "doc": "Separate gate rows of each head (Step-3.5).",
  "architectures": ["OwnForCausalLM"],
  "model_types": ["own"],
  "config": {"level": ""},
  "symbols": {
    "num_attention_heads": {"field": "num_attention_heads"},
    "num_query_groups": {"field": "num_key_value_heads"},
    "head_dim": {"field": "head_dim"}
  },
  "prefixes": {"M": "", "HF": "model."},
  "sections": [
    {"stage": "embedding", "use": ["embedding"]},
    {
      "stage": "decoder",
      "over": {"i": "num_hidden_layers"},
      "rules": [
        {"kind": "qkv_gate_rows", "megatron": "{M}decoder.layers.{i}.self_attention.linear_qkv.weight",
         "hf": {"q": "{HF}layers.{i}.q_proj.weight", "k": "{HF}layers.{i}.k_proj.weight",
                "v": "{HF}layers.{i}.v_proj.weight", "gate": "{HF}layers.{i}.g_proj.weight"},
         "axes": {"g": "num_query_groups", "n": "num_attention_heads / num_query_groups",
                  "d": "head_dim"},
         "rest": ["hidden_size"]}
      ]
    }
  ]
})";

std::string own_config() {
  return R"({"architectures": ["OwnForCausalLM"], "model_type": "own", "vocab_size": 8,
             "hidden_size": 4, "num_hidden_layers": 1, "num_attention_heads": 4,
             "num_key_value_heads": 2, "head_dim": 3, "mamba_num_heads": 4, "mamba_head_dim": 2,
             "mamba_num_groups": 2, "mamba_state_dim": 2})";
}

void write_gate_checkpoint(const std::filesystem::path& folder) {
  support::EditedCheckpoint source{nlohmann::ordered_json::parse(own_config()), {}};
  const auto add = [&source](const std::string& name, std::int64_t rows) {
    support::EditedTensor tensor{DType::BF16, {rows, 4}, {}};
    for (std::int64_t i = 0; i < rows * 8; ++i) {
      tensor.bytes.push_back(static_cast<std::byte>(i % 2 == 0 ? i : 0x3f));
    }
    source.tensors[name] = tensor;
  };
  add("model.embed_tokens.weight", 8);
  add("model.layers.0.q_proj.weight", 12);
  add("model.layers.0.k_proj.weight", 6);
  add("model.layers.0.v_proj.weight", 6);
  add("model.layers.0.g_proj.weight", 4);
  source.write(folder);
}

family::FamilyPtr own_family(std::string_view text) {
  auto family = family::parse_family(text, "own.json");
  EXPECT_TRUE(family.has_value()) << family.error().message << " " << family.error().found;
  return std::move(family).value();
}

model::Model own_model(std::string_view text) {
  checkpoint::OpenOptions options;
  options.resolve.config_only = true;
  auto opened =
      checkpoint::open_headers(own_config(), "config.json", {}, {own_family(text)}, options);
  EXPECT_TRUE(opened.has_value()) << opened.error().message;
  return std::move(opened).value().model;
}

}  // namespace bv::conditions

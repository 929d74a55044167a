#pragma once
// A right manifest of a small model, for tests to spoil.

#include <nlohmann/json.hpp>
#include <string>
#include <vector>

#include "core/checkpoint/manifest.hpp"
#include "core/checkpoint/open_model.hpp"
#include "tests/support/library.hpp"

namespace bv::checkpoint::testing {

inline constexpr std::string_view kSmallConfig = R"({"architectures": ["LlamaForCausalLM"],
  "model_type": "llama", "hidden_size": 8, "intermediate_size": 12, "num_attention_heads": 4,
  "num_hidden_layers": 2, "num_key_value_heads": 2, "head_dim": 4, "vocab_size": 15,
  "tie_word_embeddings": false})";

using support::catalogue;
using support::families;

inline nlohmann::json small_config() {
  return nlohmann::json::parse(kSmallConfig);
}

inline Headers small_headers() {
  Headers out;
  const auto add = [&out](const std::string& name, const Shape& shape) {
    out[name] = {name, DType::BF16, shape};
  };
  add("model.embed_tokens.weight", {15, 8});
  add("model.norm.weight", {8});
  add("lm_head.weight", {15, 8});
  for (const std::string layer : {"model.layers.0.", "model.layers.1."}) {
    add(layer + "input_layernorm.weight", {8});
    add(layer + "post_attention_layernorm.weight", {8});
    add(layer + "self_attn.q_proj.weight", {16, 8});
    add(layer + "self_attn.k_proj.weight", {8, 8});
    add(layer + "self_attn.v_proj.weight", {8, 8});
    add(layer + "self_attn.o_proj.weight", {8, 16});
    add(layer + "mlp.gate_proj.weight", {12, 8});
    add(layer + "mlp.up_proj.weight", {12, 8});
    add(layer + "mlp.down_proj.weight", {8, 12});
  }
  return out;
}

/// Two tensor-parallel ranks, a padded vocabulary, two weights files and two carried ones.
inline MegatronFolder small_folder() {
  const HfModel source =
      open_headers(std::string(kSmallConfig), "config.json", small_headers(), families(), {})
          .value();
  MegatronFolder out;
  out.layout.tp = 2;
  out.layout.vocab_divisor = 4;
  out.family = family::name(*source.base);
  out.hf_headers = source.headers;
  const std::vector<std::string> files = {"model-00001-of-00002.safetensors",
                                          "model-00002-of-00002.safetensors"};
  for (const auto& [name, spec] : source.headers) {
    out.hf_file_of[name] = files[name.starts_with("model.layers.1") ? 1 : 0];
  }
  for (const std::string& file : files) {
    out.hf_metadata[file] = {{"format", "pt"}};
  }
  out.left_out = {"model.rotary.inv_freq"};
  out.carried["config.json"] = io::print_of_text(kSmallConfig);
  out.carried["sub/tokenizer.json"] = io::print_of_text("{}");
  const auto plan = plan::Plan::make(source.model, catalogue(), out.layout).value();
  out.plan_digest = plan_digest(plan);
  for (const plan::ShardFile& file : plan.files()) {
    for (const plan::Target& target : file.targets) {
      out.digests[file.name][target.name] = io::print_of_text(target.name).digest;
    }
  }
  return out;
}

/// Read as far as there are no files: parsed, then held against config and rules.
inline Result<MegatronFolder> read_manifest(std::string_view text) {
  BV_TRY(folder, parse_manifest(text, "manifest.json"));
  BV_CHECK(fit_manifest(folder, small_config(), families(), catalogue(), {}, "manifest.json"));
  return std::move(folder);
}

/// hf.headers_digest made new, as one who changes hf.tensors can do.
inline void seal(nlohmann::ordered_json& manifest) {
  MegatronFolder folder;
  for (const auto& [name, row] : manifest["hf"]["tensors"].items()) {
    const auto dtype = dtype_from_name(row[0].get<std::string>());
    folder.hf_headers[name] = {name, dtype.value_or(DType::BF16), row[1].get<Shape>()};
    folder.hf_file_of[name] = row[2].get<std::string>();
  }
  manifest["hf"]["headers_digest"] = placed_headers_digest(folder);
}

}  // namespace bv::checkpoint::testing

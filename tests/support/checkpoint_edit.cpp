#include "tests/support/checkpoint_edit.hpp"

#include <fmt/format.h>
#include <gtest/gtest.h>

#include <fstream>

#include "core/base/arith.hpp"
#include "core/io/checkpoint.hpp"
#include "core/io/writer.hpp"
#include "tests/support/files.hpp"

namespace bv::support {
namespace fs = std::filesystem;

std::map<std::string, EditedTensor> read_tensors(const fs::path& path) {
  std::map<std::string, EditedTensor> out;
  const auto checkpoint = io::Checkpoint::open(path);
  EXPECT_TRUE(checkpoint.has_value()) << checkpoint.error().message;
  if (!checkpoint) {
    return out;
  }
  for (const auto& [name, stored] : checkpoint->tensors()) {
    const auto bytes = checkpoint->bytes(stored);
    out[name] = {stored.spec.dtype, stored.spec.shape, {bytes.begin(), bytes.end()}};
  }
  return out;
}

EditedCheckpoint EditedCheckpoint::read(const fs::path& folder) {
  EditedCheckpoint out;
  out.config = nlohmann::ordered_json::parse(file_text(folder / "config.json"));
  out.tensors = read_tensors(folder);
  return out;
}

EditedCheckpoint EditedCheckpoint::golden(const std::string& name) {
  return read(golden_hf(name));
}

void EditedCheckpoint::write(const fs::path& folder) const {
  fs::create_directories(folder);
  write_text(folder / "config.json", config.dump(2) + "\n");
  std::vector<TensorSpec> specs;
  for (const auto& [name, tensor] : tensors) {
    specs.push_back({name, tensor.dtype, tensor.shape});
  }
  const auto plan = io::plan_safetensors(std::move(specs), {{"format", "pt"}});
  ASSERT_TRUE(plan.has_value()) << plan.error().message;
  std::ofstream file(folder / "model.safetensors", std::ios::binary);
  file << plan->header;
  for (const TensorSpec& spec : plan->tensors) {
    const auto& bytes = tensors.at(spec.name).bytes;
    file.write(reinterpret_cast<const char*>(bytes.data()),
               static_cast<std::streamsize>(bytes.size()));
  }
  ASSERT_TRUE(file.good());
}

nlohmann::ordered_json& EditedCheckpoint::text_config() {
  return config.contains("text_config") ? config.at("text_config") : config;
}

EditedCheckpoint large_llama(std::int64_t hidden, std::int64_t layers) {
  EditedCheckpoint out = EditedCheckpoint::read(golden_hf("llama"));
  out.config["hidden_size"] = hidden;
  out.config["intermediate_size"] = 3 * hidden;
  out.config["num_hidden_layers"] = layers;
  out.config["num_attention_heads"] = 8;
  out.config["num_key_value_heads"] = 4;
  out.config["head_dim"] = hidden / 8;
  out.config["vocab_size"] = 256;
  out.tensors.clear();
  const auto add = [&](const std::string& name, Shape shape) {
    EditedTensor tensor{DType::BF16, std::move(shape), {}};
    tensor.bytes.resize(static_cast<std::size_t>(element_count(tensor.shape).value() * 2));
    for (std::size_t i = 0; i < tensor.bytes.size(); i += 2) {
      tensor.bytes[i] = static_cast<std::byte>((i / 2 + name.size() * 17) % 251);
      tensor.bytes[i + 1] = static_cast<std::byte>(0x3c + i / 512 % 3);
    }
    out.tensors[name] = std::move(tensor);
  };
  add("model.embed_tokens.weight", {256, hidden});
  add("lm_head.weight", {256, hidden});
  add("model.norm.weight", {hidden});
  for (std::int64_t i = 0; i < layers; ++i) {
    const std::string layer = fmt::format("model.layers.{}.", i);
    add(layer + "input_layernorm.weight", {hidden});
    add(layer + "post_attention_layernorm.weight", {hidden});
    add(layer + "self_attn.q_proj.weight", {hidden, hidden});
    add(layer + "self_attn.k_proj.weight", {hidden / 2, hidden});
    add(layer + "self_attn.v_proj.weight", {hidden / 2, hidden});
    add(layer + "self_attn.o_proj.weight", {hidden, hidden});
    add(layer + "mlp.gate_proj.weight", {3 * hidden, hidden});
    add(layer + "mlp.up_proj.weight", {3 * hidden, hidden});
    add(layer + "mlp.down_proj.weight", {hidden, 3 * hidden});
  }
  return out;
}

}  // namespace bv::support

#pragma once
// An adapter for large_llama.

#include <bit>
#include <cstdint>
#include <filesystem>
#include <set>
#include <string>
#include <utility>

#include "core/base/arith.hpp"
#include "tests/e2e/process.hpp"

namespace bv::e2e {

/// An adapter of PEFT on every projection: each element of each delta is 8 * 0.125 * 0.25.
inline void write_adapter(const std::filesystem::path& folder, std::int64_t hidden,
                          std::int64_t layers) {
  constexpr std::int64_t kRank = 8;
  EditedCheckpoint adapter;
  adapter.config = {{"peft_type", "LORA"}, {"r", kRank}, {"lora_alpha", kRank}};
  adapter.config["peft_version"] = "0.21.2";
  std::set<std::string> modules;
  for (const auto& [name, base] : large_llama(hidden, layers).tensors) {
    if (!name.ends_with("_proj.weight")) {
      continue;
    }
    const std::string module = name.substr(0, name.size() - std::string(".weight").size());
    modules.insert(module.substr(module.rfind('.') + 1));
    const auto add = [&](const char* factor, float value, Shape shape) {
      EditedTensor tensor{DType::BF16, std::move(shape), {}};
      tensor.bytes.resize(static_cast<std::size_t>(element_count(tensor.shape).value()) * 2);
      const auto bits = std::bit_cast<std::uint32_t>(value) >> 16U;
      for (std::size_t i = 0; i < tensor.bytes.size(); i += 2) {
        tensor.bytes[i] = static_cast<std::byte>(bits & 0xffU);
        tensor.bytes[i + 1] = static_cast<std::byte>(bits >> 8U);
      }
      adapter.tensors["base_model.model." + module + "." + factor + ".weight"] = std::move(tensor);
    };
    add("lora_A", 0.125F, {kRank, base.shape[1]});
    add("lora_B", 0.25F, {base.shape[0], kRank});
  }
  adapter.config["target_modules"] = modules;
  adapter.write(folder);
  std::filesystem::rename(folder / "config.json", folder / "adapter_config.json");
  std::filesystem::rename(folder / "model.safetensors", folder / "adapter_model.safetensors");
}

}  // namespace bv::e2e

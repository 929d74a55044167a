#pragma once
// Checkpoints of the file benchmarks: a family's config with larger numbers, elements from a
// generator.

#include <filesystem>
#include <string>

#include "core/base/result.hpp"
#include "core/convert/convert.hpp"

namespace bv::bench {

/// Where the benchmarks put their files when they are not told: memory, where there is such a
/// folder.
[[nodiscard]] std::filesystem::path default_folder();

/// A folder that goes away with the value.
class Scratch {
 public:
  Scratch(const std::filesystem::path& folder, const std::string& name);
  Scratch(const Scratch&) = delete;
  Scratch& operator=(const Scratch&) = delete;
  ~Scratch();
  [[nodiscard]] const std::filesystem::path& path() const { return path_; }

 private:
  std::filesystem::path path_;
};

/// The config of a mixture of experts with packed experts, attention with few key-value heads.
[[nodiscard]] std::string moe_config(std::int64_t layers, std::int64_t experts, std::int64_t hidden,
                                     std::int64_t expert_ffn);

/// Layers that make about so many bytes of bf16, and the config for them.
[[nodiscard]] std::string config_for_bytes(std::int64_t bytes);

/// The model of a config alone.
[[nodiscard]] Result<checkpoint::HfModel> model_of(const std::string& config);

/// Writes config.json and safetensors files of at most 512 MiB and an index.
[[nodiscard]] Status make_checkpoint(const std::filesystem::path& folder,
                                     const std::string& config);

[[nodiscard]] Result<checkpoint::HfModel> open_checkpoint(const std::filesystem::path& folder);

}  // namespace bv::bench

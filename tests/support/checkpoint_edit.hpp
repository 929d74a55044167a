#pragma once
// A checkpoint taken apart, changed and written again.

#include <cstddef>
#include <filesystem>
#include <map>
#include <nlohmann/json.hpp>
#include <string>
#include <vector>

#include "core/base/tensor_spec.hpp"

namespace bv::support {

struct EditedTensor {
  DType dtype = DType::BF16;
  Shape shape;
  std::vector<std::byte> bytes;
  bool operator==(const EditedTensor&) const = default;
};

struct EditedCheckpoint {
  nlohmann::ordered_json config;
  std::map<std::string, EditedTensor> tensors;

  static EditedCheckpoint read(const std::filesystem::path& folder);
  static EditedCheckpoint golden(const std::string& name);
  /// config.json and one model.safetensors.
  void write(const std::filesystem::path& folder) const;
  /// config, or its text_config.
  nlohmann::ordered_json& text_config();
};

/// Tensors of a checkpoint folder or of one file.
std::map<std::string, EditedTensor> read_tensors(const std::filesystem::path& path);

/// A llama of `layers` layers whose bytes are a fixed pattern.
EditedCheckpoint large_llama(std::int64_t hidden, std::int64_t layers);

}  // namespace bv::support

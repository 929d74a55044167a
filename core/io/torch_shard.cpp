#include "core/io/torch_shard.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <cstring>

#include "core/base/text.hpp"
#include "core/io/fault_text.hpp"
#include "core/io/weights_listing.hpp"
#include "core/pickle/state_dict.hpp"

namespace bv::io {
namespace {

constexpr std::string_view kTensorsSuffix = ".safetensors";

bool is_archive(std::span<const std::byte> bytes) {
  constexpr std::string_view kStart = "PK\x03\x04";
  return bytes.size() > kStart.size() &&
         std::memcmp(bytes.data(), kStart.data(), kStart.size()) == 0;
}

/// "model-00001-of-00002" of "pytorch_model-00001-of-00002".
std::string stem_of(std::string_view name) {
  constexpr std::string_view kTorch = "pytorch_";
  if (name.starts_with(kTorch)) {
    name.remove_prefix(kTorch.size());
  }
  return std::string(name);
}

}  // namespace

bool is_torch_name(std::string_view name) {
  return name.ends_with(".bin") || name.ends_with(".pt") || name.ends_with(".pth");
}

std::string safetensors_name(const std::string& name) {
  if (!is_torch_name(name)) {
    return name;
  }
  const std::filesystem::path path(name);
  return (path.parent_path() / (stem_of(path.stem().string()) + std::string(kTensorsSuffix)))
      .generic_string();
}

std::string safetensors_index_name(const std::string& name) {
  constexpr std::string_view kIndex = ".index.json";
  if (!name.ends_with(kIndex)) {
    return name;
  }
  const std::string weights = name.substr(0, name.size() - kIndex.size());
  return safetensors_name(weights) + std::string(kIndex);
}

Result<SafetensorsHeader> torch_header(std::span<const std::byte> bytes,
                                       const std::filesystem::path& path) {
  const std::string shown = printable_path(path);
  if (!is_archive(bytes)) {
    const bool conventional = path.filename().string().starts_with("pytorch_model");
    return pickle_error(conventional && path.has_parent_path() ? path.parent_path() : path,
                        {path.filename().string()});
  }
  BV_TRY(file, pickle::open_torch_file(bytes, shown));
  BV_TRY(dict, pickle::state_dict_of(file));
  SafetensorsHeader out;
  for (const pickle::NamedTensor& one : dict.tensors) {
    out.tensors.push_back({{one.name, one.tensor.dtype, one.tensor.shape},
                           0,
                           one.tensor.begin,
                           one.tensor.end,
                           one.tensor.strides});
  }
  std::stable_sort(out.tensors.begin(), out.tensors.end(),
                   [](const StoredTensor& a, const StoredTensor& b) { return a.begin < b.begin; });
  if (dict.left_out > 0) {
    out.findings.push_back({shown,
                            fmt::format("left out: {} that {}", counted(dict.left_out, "entry"),
                                        dict.left_out == 1 ? "is not a tensor" : "are not tensors"),
                            Code::PickleInvalid, false});
  }
  return out;
}

}  // namespace bv::io

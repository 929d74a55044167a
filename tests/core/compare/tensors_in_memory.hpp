#pragma once
// Checkpoints as values, to be damaged and written.

#include <gtest/gtest.h>

#include <algorithm>
#include <filesystem>
#include <fstream>
#include <map>
#include <string>
#include <vector>

#include "core/io/checkpoint.hpp"
#include "core/io/writer.hpp"

namespace bv::compare {

struct Tensor {
  TensorSpec spec;
  std::vector<std::byte> bytes;

  [[nodiscard]] std::size_t row_bytes() const {
    return bytes.size() / static_cast<std::size_t>(spec.shape[0]);
  }
  void swap_rows(std::size_t a, std::size_t b, std::size_t count) {
    const auto begin = bytes.begin();
    const auto at = [&](std::size_t row) {
      return begin + static_cast<std::ptrdiff_t>(row * row_bytes());
    };
    std::swap_ranges(at(a), at(a + count), at(b));
  }
};
using Tensors = std::map<std::string, Tensor>;

inline Tensors read(const io::Checkpoint& checkpoint) {
  Tensors out;
  for (const auto& [name, stored] : checkpoint.tensors()) {
    const auto bytes = checkpoint.bytes(stored);
    out[name] = {stored.spec, {bytes.begin(), bytes.end()}};
  }
  return out;
}

inline void write(const std::filesystem::path& file, const Tensors& tensors) {
  std::vector<TensorSpec> specs;
  for (const auto& [name, tensor] : tensors) {
    specs.push_back(tensor.spec);
    specs.back().name = name;
  }
  const auto plan = io::plan_safetensors(std::move(specs), {{"format", "pt"}}).value();
  std::ofstream out(file, std::ios::binary | std::ios::trunc);
  out << plan.header;
  for (const TensorSpec& spec : plan.tensors) {
    const auto& bytes = tensors.at(spec.name).bytes;
    out.write(reinterpret_cast<const char*>(bytes.data()),
              static_cast<std::streamsize>(bytes.size()));
  }
  ASSERT_TRUE(out.good());
}

/// The HF rows of `names` one after the other.
inline std::vector<std::byte> joined(const Tensors& hf, const std::vector<std::string>& names) {
  std::vector<std::byte> out;
  for (const std::string& name : names) {
    const auto& bytes = hf.at(name).bytes;
    out.insert(out.end(), bytes.begin(), bytes.end());
  }
  return out;
}

}  // namespace bv::compare

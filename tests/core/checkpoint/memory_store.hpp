#pragma once
// A store in memory whose tensors are cut into chunks as a test says.

#include <cstring>
#include <deque>
#include <map>

#include "core/io/tensor_store.hpp"

namespace bv::checkpoint {

class MemoryStore : public io::TensorStore {
 public:
  /// `bytes` are those of the whole tensor, row-major.
  void add(const TensorSpec& spec, const std::vector<io::ChunkPlace>& places,
           std::span<const std::byte> bytes) {
    specs_[spec.name] = spec;
    for (const io::ChunkPlace& place : places) {
      std::vector<std::byte>& held = held_.emplace_back();
      copy(spec, place, bytes, 0, 0, held);
      chunks_[spec.name].push_back({place.origin, place.extent, held});
    }
  }

  [[nodiscard]] const TensorSpec* find(std::string_view tensor) const override {
    const auto found = specs_.find(tensor);
    return found == specs_.end() ? nullptr : &found->second;
  }
  [[nodiscard]] Headers headers() const override { return specs_; }
  [[nodiscard]] std::vector<io::Chunk> chunks(const TensorSpec& tensor) const override {
    return chunks_.at(tensor.name);
  }
  [[nodiscard]] const std::vector<std::filesystem::path>& files() const override { return files_; }
  [[nodiscard]] std::uint64_t total_bytes() const override { return 0; }
  [[nodiscard]] Status unchanged() const override { return Done{}; }
  void release(std::span<const std::byte> /*range*/) const override {}

 private:
  static void copy(const TensorSpec& spec, const io::ChunkPlace& place,
                   std::span<const std::byte> bytes, std::size_t dim, std::int64_t row,
                   std::vector<std::byte>& out) {
    if (dim == spec.shape.size()) {
      const auto size = static_cast<std::size_t>(bv::bytes(spec.dtype));
      const auto element = bytes.subspan(static_cast<std::size_t>(row) * size, size);
      out.insert(out.end(), element.begin(), element.end());
      return;
    }
    for (std::int64_t i = 0; i < place.extent[dim]; ++i) {
      copy(spec, place, bytes, dim + 1, row * spec.shape[dim] + place.origin[dim] + i, out);
    }
  }

  Headers specs_;
  std::map<std::string, std::vector<io::Chunk>> chunks_;
  std::deque<std::vector<std::byte>> held_;
  std::vector<std::filesystem::path> files_;
};

}  // namespace bv::checkpoint

#pragma once
// Tensors whose bytes lie in memory, as a store.

#include <map>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "core/io/tensor_store.hpp"

namespace bv::io {

/// A tensor is one chunk. The bytes are the caller's and outlive the view; nothing can change under
/// it, and there is nothing to give back.
class MemoryView : public TensorStore {
 public:
  /// `bytes` are those of the whole tensor, row-major; the name is new.
  void add(TensorSpec spec, std::span<const std::byte> bytes);

  [[nodiscard]] const TensorSpec* find(std::string_view tensor) const override;
  [[nodiscard]] Headers headers() const override;
  [[nodiscard]] std::vector<Chunk> chunks(const TensorSpec& tensor) const override;
  [[nodiscard]] const std::vector<std::filesystem::path>& files() const override { return files_; }
  [[nodiscard]] std::uint64_t total_bytes() const override;
  [[nodiscard]] Status unchanged() const override { return Done{}; }
  void release(std::span<const std::byte> /*range*/) const override {}

 private:
  struct Held {
    TensorSpec spec;
    std::span<const std::byte> bytes;
  };
  std::map<std::string, Held, std::less<>> tensors_;
  std::vector<std::filesystem::path> files_;  // none
};

}  // namespace bv::io

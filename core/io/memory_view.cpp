#include "core/io/memory_view.hpp"

#include <utility>

#include "core/base/assert.hpp"

namespace bv::io {

void MemoryView::add(TensorSpec spec, std::span<const std::byte> bytes) {
  BV_ASSERT(tensor_bytes(spec) == bytes.size());
  std::string name = spec.name;
  const bool fresh = tensors_.try_emplace(std::move(name), Held{std::move(spec), bytes}).second;
  BV_ASSERT(fresh);
}

const TensorSpec* MemoryView::find(std::string_view tensor) const {
  const auto found = tensors_.find(tensor);
  return found == tensors_.end() ? nullptr : &found->second.spec;
}

Headers MemoryView::headers() const {
  Headers out;
  for (const auto& [name, held] : tensors_) {
    out[name] = held.spec;
  }
  return out;
}

std::vector<Chunk> MemoryView::chunks(const TensorSpec& tensor) const {
  const auto found = tensors_.find(tensor.name);
  BV_ASSERT(found != tensors_.end());
  const Shape& shape = found->second.spec.shape;
  return {{Shape(shape.size(), 0), shape, found->second.bytes}};
}

std::uint64_t MemoryView::total_bytes() const {
  std::uint64_t out = 0;
  for (const auto& [name, held] : tensors_) {
    out += held.bytes.size();
  }
  return out;
}

}  // namespace bv::io

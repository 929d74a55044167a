#include "core/checkpoint/source_tensor.hpp"

namespace bv::checkpoint {

std::vector<move::SourceBytes> bytes_of(std::span<const SourceTensor> sources) {
  std::vector<move::SourceBytes> out;
  for (const SourceTensor& source : sources) {
    const std::byte* first = source.checkpoint != nullptr
                                 ? source.checkpoint->bytes(*source.tensor).data()
                                 : source.memory;
    out.push_back({first, source.tensor->spec.dtype});
  }
  return out;
}

void release(std::span<const SourceTensor> sources) {
  for (const SourceTensor& source : sources) {
    if (source.checkpoint != nullptr) {
      source.checkpoint->release(source.checkpoint->bytes(*source.tensor));
    }
  }
}

}  // namespace bv::checkpoint

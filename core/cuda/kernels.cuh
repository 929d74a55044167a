#pragma once
// What the files of nvcc share: checked calls, memory that is given back, kernels by their launch.

#include <cuda_runtime.h>

#include <cstddef>

#include "core/cuda/merge_block.hpp"
#include "core/cuda/moves.hpp"

namespace bv::cuda {

[[nodiscard]] Status checked(cudaError_t code, const char* doing);
/// The same of memory of the host that the GPU reads: it is the host that has none.
[[nodiscard]] Status checked_pinned(cudaError_t code, const char* doing);

/// Memory of the device or of transfers, given back at the end.
template <class Release>
class Memory {
 public:
  Memory() = default;
  Memory(const Memory&) = delete;
  Memory& operator=(const Memory&) = delete;
  Memory(Memory&&) = delete;
  Memory& operator=(Memory&&) = delete;
  ~Memory() { reset(nullptr, 0); }
  void reset(void* first, std::size_t size) {
    if (first_ != nullptr) {
      Release()(first_);
    }
    first_ = first;
    size_ = size;
  }
  [[nodiscard]] std::byte* bytes() const { return static_cast<std::byte*>(first_); }
  [[nodiscard]] std::size_t size() const { return size_; }

 private:
  void* first_ = nullptr;
  std::size_t size_ = 0;
};
struct FreeDevice {
  void operator()(void* first) const { cudaFree(first); }
};
struct FreePinned {
  void operator()(void* first) const { cudaFreeHost(first); }
};

/// `moves` and `transposes`: those of the list, on the device.
[[nodiscard]] Status launch(const MoveList& list, const std::byte* moves,
                            const std::byte* transposes, cudaStream_t stream);
[[nodiscard]] Status launch(const MergeBlock& block, cudaStream_t stream);

}  // namespace bv::cuda

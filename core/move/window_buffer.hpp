#pragma once
// Memory for windows that outlives the tensors: a buffer of 256 KiB for each tensor would come from
// the system and go back to it each time, which costs more than moving a small tensor.

#include <cstddef>
#include <memory>
#include <mutex>
#include <span>
#include <vector>

#include "core/layout/box.hpp"
#include "core/move/executor.hpp"

namespace bv::move {

/// Grows to the largest window asked for, and keeps what else one window takes. One user at a time.
class WindowBuffer {
 public:
  [[nodiscard]] std::vector<layout::BoxPiece>& pieces() { return pieces_; }
  [[nodiscard]] CpuExecutor& processor() { return processor_; }
  /// Valid until the next call. What it holds is not set.
  [[nodiscard]] std::span<std::byte> of(std::size_t bytes) {
    if (memory_.size() < bytes) {
      memory_.resize(bytes);
    }
    return std::span(memory_).first(bytes);
  }

 private:
  std::vector<std::byte> memory_;
  std::vector<layout::BoxPiece> pieces_;
  CpuExecutor processor_;
};

/// Buffers for tasks that run beside each other: as many as ever ran at once. Must outlive its
/// leases.
class WindowPool {
 public:
  class Lease {
   public:
    explicit Lease(WindowPool& pool);
    Lease(const Lease&) = delete;
    Lease& operator=(const Lease&) = delete;
    ~Lease();
    [[nodiscard]] WindowBuffer& buffer() const { return *buffer_; }

   private:
    WindowPool& pool_;
    std::unique_ptr<WindowBuffer> buffer_;
  };

 private:
  std::mutex mutex_;
  std::vector<std::unique_ptr<WindowBuffer>> free_;
};

}  // namespace bv::move

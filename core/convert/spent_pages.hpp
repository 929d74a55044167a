#pragma once
// Mapped pages of sources that were read, given back many at once.

#include <cstdint>
#include <mutex>
#include <span>
#include <vector>

#include "core/checkpoint/source_tensor.hpp"

namespace bv::convert {

/// Each call that gives pages back also takes those of its neighbours, which are then mapped again:
/// for tensors of 64 KiB that costs as much as reading them. Thread-safe; gives the rest back when
/// it goes.
class SpentPages {
 public:
  explicit SpentPages(std::int64_t bytes_max) : bytes_max_(bytes_max) {}
  SpentPages(const SpentPages&) = delete;
  SpentPages& operator=(const SpentPages&) = delete;
  ~SpentPages() { checkpoint::release(sources_); }

  /// `bytes` of the sources were read and not given back.
  void add(std::span<const checkpoint::SourceTensor> sources, std::int64_t bytes);

 private:
  std::int64_t bytes_max_;
  std::mutex mutex_;
  std::int64_t bytes_ = 0;
  std::vector<checkpoint::SourceTensor> sources_;
};

}  // namespace bv::convert

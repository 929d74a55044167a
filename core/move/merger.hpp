#pragma once
// Who adds products of two factors to rows of a base in place of the processor: a device, which
// gives the same bits (docs/reference/semantics.md#lora-merges).

#include <cstddef>
#include <cstdint>

#include "core/base/dtype.hpp"
#include "core/base/result.hpp"

namespace bv::move {

/// out = base + scale * (left * right), row by row, in the memory of the host; the factors are
/// dense.
struct MergeTask {
  const float* left = nullptr;   // [rows, rank]
  const float* right = nullptr;  // [rank, columns]
  std::int64_t rows = 0;
  std::int64_t columns = 0;
  std::int64_t rank = 0;
  float scale = 0;
  DType dtype = DType::F32;  // of base and out: F32, BF16 or F16
  float limit = 0;           // from this magnitude on a sum does not fit it
  const std::byte* base = nullptr;
  std::byte* out = nullptr;    // may be the base
  std::int64_t base_step = 0;  // bytes from row to row
  std::int64_t out_step = 0;
};

class Merger {
 public:
  Merger() = default;
  Merger(const Merger&) = delete;
  Merger& operator=(const Merger&) = delete;
  Merger(Merger&&) = delete;
  Merger& operator=(Merger&&) = delete;
  virtual ~Merger() = default;
  /// May be called by many threads. True when an element that the product changes does not fit.
  /// Errors: those of a device; nothing of `out` counts then.
  [[nodiscard]] virtual Result<bool> merge(const MergeTask& task) = 0;
};

}  // namespace bv::move

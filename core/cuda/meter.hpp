#pragma once
// Times on a GPU, for benchmarks: what the kernels take, and what the same bytes or products take
// by the driver's own copies and by cuBLAS in the same run. Seconds of one round each, the best of
// all.

#include <memory>

#include "core/cuda/merge_block.hpp"
#include "core/cuda/moves.hpp"

namespace bv::cuda {

class Meter {
 public:
  Meter() = default;
  Meter(const Meter&) = delete;
  Meter& operator=(const Meter&) = delete;
  Meter(Meter&&) = delete;
  Meter& operator=(Meter&&) = delete;
  virtual ~Meter() = default;

  /// Memory of the device, with bytes that are no two equal numbers in a row; it lives as long as
  /// the meter, or until `release`.
  [[nodiscard]] virtual Result<std::byte*> allocate(std::size_t bytes) = 0;
  virtual void release() = 0;
  [[nodiscard]] virtual Result<double> moves(const MoveList& list, int rounds) = 0;
  [[nodiscard]] virtual Result<double> merge(const MergeBlock& block, int rounds) = 0;
  /// A copy on the device by the driver.
  [[nodiscard]] virtual Result<double> copy(std::byte* to, const std::byte* from, std::size_t bytes,
                                            int rounds) = 0;
  /// From pinned memory of the host.
  [[nodiscard]] virtual Result<double> upload(std::byte* to, std::size_t bytes, int rounds) = 0;
  /// [rows, rank] x [rank, columns] in float32 by cuBLAS, which is found when this is called.
  /// Errors: NoGpu that says what was looked for.
  [[nodiscard]] virtual Result<double> sgemm(std::int64_t rows, std::int64_t columns,
                                             std::int64_t rank, int rounds) = 0;
};

/// Errors: as open_device.
[[nodiscard]] Result<std::unique_ptr<Meter>> open_meter(int number);

}  // namespace bv::cuda

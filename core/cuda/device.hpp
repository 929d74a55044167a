#pragma once
// What an executor needs of a device. Two lanes work side by side: while one moves, the other is
// filled.

#include <cstddef>
#include <span>
#include <string>

#include "core/base/result.hpp"
#include "core/cuda/merge_block.hpp"
#include "core/cuda/moves.hpp"

namespace bv::cuda {

inline constexpr int kLanes = 2;

class Device {
 public:
  Device() = default;
  Device(const Device&) = delete;
  Device& operator=(const Device&) = delete;
  Device(Device&&) = delete;
  Device& operator=(Device&&) = delete;
  virtual ~Device() = default;

  /// Memory of a lane, on the device and for transfers, of `bytes` each; what it had is given back.
  /// Errors: OutOfMemory.
  [[nodiscard]] virtual Status reserve(int lane, std::size_t bytes) = 0;
  /// Of a lane on the device: aligned to 256 bytes.
  [[nodiscard]] virtual std::byte* memory(int lane) const = 0;
  /// Bytes of the host to `at` of the lane's memory; the source may go when this returns. The lane
  /// is idle: wait() came since its last run.
  [[nodiscard]] virtual Status upload(int lane, std::size_t at,
                                      std::span<const std::byte> bytes) = 0;
  /// Runs the moves behind the lane's uploads; they are copied.
  [[nodiscard]] virtual Status run(int lane, const MoveList& list) = 0;
  /// Adds a product to rows of a base, all of them on the device, behind the lane's uploads.
  [[nodiscard]] virtual Status merge(int lane, const MergeBlock& block) = 0;
  /// Brings bytes back behind the lane's moves; they are at `to` after wait().
  [[nodiscard]] virtual Status download(int lane, std::size_t at, std::span<std::byte> to) = 0;
  /// Until everything of the lane is done. Errors: those of the device.
  [[nodiscard]] virtual Status wait(int lane) = 0;
  /// After an error: what was begun ends, and nothing that was to come back is written any more.
  virtual void give_up() = 0;
};

}  // namespace bv::cuda

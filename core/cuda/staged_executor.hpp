#pragma once
// Moves tasks on a device, chunk by chunk: what a chunk reads goes there, is moved, and comes back
// while the next one is on its way.

#include <memory>
#include <mutex>
#include <optional>
#include <string>
#include <vector>

#include "core/cuda/device.hpp"
#include "core/cuda/moves.hpp"
#include "core/move/executor.hpp"

namespace bv::cuda {

/// May be shared by threads: their tasks go one after the other.
class StagedExecutor : public move::Executor {
 public:
  /// `lane_bytes`: most memory of a lane. When the device has less, it is halved, down to
  /// kLaneBytesMin, and a note says so.
  explicit StagedExecutor(std::unique_ptr<Device> device,
                          std::size_t lane_bytes = std::size_t{256} << 20);
  [[nodiscard]] Status run(std::span<const move::MoveTask> tasks) override;
  /// What was done otherwise than asked for, a sentence each.
  [[nodiscard]] std::vector<std::string> notes() const;

 private:
  struct Layout;
  [[nodiscard]] Status attempt(std::span<const move::MoveTask> tasks);
  [[nodiscard]] Status reserve();
  [[nodiscard]] Status make(const move::MoveTask& task);
  [[nodiscard]] Status halves(const move::MoveTask& task);
  [[nodiscard]] Status on_processor(const move::MoveTask& task);
  [[nodiscard]] Status stage(const move::MoveTask& task, const Layout& layout);

  std::unique_ptr<Device> device_;
  std::size_t lane_bytes_;
  bool reserved_ = false;
  int lane_ = 0;
  mutable std::mutex mutex_;
  MoveList moves_;
  std::vector<std::string> notes_;
  bool processor_noted_ = false;
};

inline constexpr std::size_t kLaneBytesMin = std::size_t{1} << 20;

}  // namespace bv::cuda

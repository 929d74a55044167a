#pragma once
// Moves tasks and merges products on a device, chunk by chunk: what a chunk reads goes there, is
// moved or merged, and comes back while the next one is on its way.

#include <array>
#include <functional>
#include <memory>
#include <mutex>
#include <optional>
#include <string>
#include <vector>

#include "core/cuda/device.hpp"
#include "core/cuda/moves.hpp"
#include "core/move/executor.hpp"
#include "core/move/merger.hpp"

namespace bv::cuda {

/// May be shared by threads: their tasks go one after the other.
class StagedExecutor : public move::Executor, public move::Merger {
 public:
  /// `lane_bytes`: most memory of a lane. When the device has less, it is halved, down to
  /// kLaneBytesMin, and a note says so.
  explicit StagedExecutor(std::unique_ptr<Device> device,
                          std::size_t lane_bytes = std::size_t{256} << 20);
  [[nodiscard]] Status run(std::span<const move::MoveTask> tasks) override;
  [[nodiscard]] Result<bool> merge(const move::MergeTask& task) override;
  /// What was done otherwise than asked for, a sentence each.
  [[nodiscard]] std::vector<std::string> notes() const;

 private:
  struct Layout;
  struct MergeCut;
  /// Rows and columns of a merge that are on their way back in a lane.
  struct Landing {
    std::byte* out = nullptr;      // where they go one by one; null: they go there at once
    std::vector<std::byte> bytes;  // of all of them, dense
    std::int64_t row_bytes = 0;
    std::int64_t out_step = 0;
    std::uint32_t unfit = 0;
  };
  /// Again and again with smaller lanes, as long as the device has no memory for them.
  [[nodiscard]] Status in_less_memory(const std::function<Status()>& attempt);
  [[nodiscard]] Status attempt(std::span<const move::MoveTask> tasks);
  [[nodiscard]] Status attempt(const move::MergeTask& task, bool& unfit);
  [[nodiscard]] Status merge_cut(const move::MergeTask& task, const MergeCut& cut);
  [[nodiscard]] Status land(int lane, bool& unfit);
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
  std::array<Landing, kLanes> landings_;
  std::vector<std::string> notes_;
  bool processor_noted_ = false;
};

inline constexpr std::size_t kLaneBytesMin = std::size_t{1} << 20;

}  // namespace bv::cuda

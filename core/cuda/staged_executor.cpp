#include "core/cuda/staged_executor.hpp"

#include <fmt/format.h>

#include <algorithm>

#include "core/base/text.hpp"

namespace bv::cuda {
namespace {

constexpr std::size_t kAlignment = 256;
/// A chunk that is not larger and reads more than a lane holds is spread over its source: cutting
/// it again would read the same again and again.
constexpr std::int64_t kChunkBytesMin = std::int64_t{1} << 16;

std::size_t aligned(std::size_t bytes) {
  return (bytes + kAlignment - 1) / kAlignment * kAlignment;
}

}  // namespace

/// Where sources and target of a chunk lie in a lane.
struct StagedExecutor::Layout {
  std::vector<Staged> staged;
  std::vector<std::size_t> at;  // of each source
  std::size_t target = 0;
  std::size_t target_bytes = 0;
  std::size_t bytes = 0;

  explicit Layout(const move::MoveTask& task)
      : staged(reads_of(task.pieces, task.sources.size())),
        target_bytes(static_cast<std::size_t>((task.end - task.begin) * bv::bytes(task.dtype))) {
    for (std::size_t i = 0; i < staged.size(); ++i) {
      at.push_back(bytes);
      bytes += aligned(static_cast<std::size_t>((staged[i].end - staged[i].begin) *
                                                bv::bytes(task.sources[i].dtype)));
    }
    target = bytes;
    bytes += aligned(target_bytes);
  }
};

StagedExecutor::StagedExecutor(std::unique_ptr<Device> device, std::size_t lane_bytes)
    : device_(std::move(device)), lane_bytes_(aligned(std::max(lane_bytes, std::size_t{1}))) {}

std::vector<std::string> StagedExecutor::notes() const {
  const std::lock_guard lock(mutex_);
  return notes_;
}

Status StagedExecutor::run(std::span<const move::MoveTask> tasks) {
  const std::lock_guard lock(mutex_);
  // What was made is made again: a task reads nothing that it writes.
  return in_less_memory([&] { return attempt(tasks); });
}

Status StagedExecutor::in_less_memory(const std::function<Status()>& attempt) {
  const std::size_t wanted = lane_bytes_;
  Status done = attempt();
  while (!done && done.error().code == Code::OutOfMemory && lane_bytes_ / 2 >= kLaneBytesMin) {
    lane_bytes_ = aligned(lane_bytes_ / 2);
    reserved_ = false;
    done = attempt();
  }
  if (done && lane_bytes_ != wanted) {
    notes_.push_back(fmt::format("the GPU has little memory left: chunks of {} in place of {}",
                                 human_bytes(lane_bytes_), human_bytes(wanted)));
  }
  return done;
}

Status StagedExecutor::attempt(std::span<const move::MoveTask> tasks) {
  Status done = reserved_ ? Status(Done{}) : reserve();
  for (std::size_t i = 0; done && i < tasks.size(); ++i) {
    done = make(tasks[i]);
  }
  for (int lane = 0; done && lane < kLanes; ++lane) {
    done = device_->wait(lane);
  }
  if (!done) {
    device_->give_up();
  }
  return done;
}

Status StagedExecutor::reserve() {
  for (int lane = 0; lane < kLanes; ++lane) {
    BV_CHECK(device_->reserve(lane, lane_bytes_));
  }
  reserved_ = true;
  return Done{};
}

Status StagedExecutor::make(const move::MoveTask& task) {
  if (task.begin >= task.end) {
    return Done{};
  }
  const Layout layout(task);
  if (layout.bytes <= lane_bytes_) {
    return stage(task, layout);
  }
  const bool is_small = static_cast<std::int64_t>(layout.target_bytes) <= kChunkBytesMin &&
                        layout.target_bytes * 4 <= lane_bytes_;
  return is_small || task.end - task.begin == 1 ? on_processor(task) : halves(task);
}

Status StagedExecutor::halves(const move::MoveTask& task) {
  const std::int64_t middle = task.begin + (task.end - task.begin) / 2;
  for (const auto& [begin, end] : {std::pair(task.begin, middle), std::pair(middle, task.end)}) {
    std::vector<layout::Box> boxes;  // the pieces view them
    boxes.reserve(task.pieces.size());
    for (const layout::BoxPiece& piece : task.pieces) {
      layout::Box box;
      box.source = piece.source;
      box.source_offset = piece.source_offset;
      box.target_offset = piece.target_offset;
      for (std::size_t i = 0; i < piece.axes.size(); ++i) {
        const layout::BoxAxis& axis = piece.axes[i];
        box.axes.push_back(
            {i == 0 ? piece.extent : axis.extent, axis.source_stride, axis.target_stride});
      }
      boxes.push_back(box);
    }
    std::vector<layout::BoxPiece> pieces;
    for (const layout::Box& box : boxes) {
      if (box.elements() > 0) {
        layout::pieces_in(box, begin, end, pieces);
      }
    }
    move::MoveTask half = task;
    half.pieces = pieces;
    half.begin = begin;
    half.end = end;
    half.target = task.target + (begin - task.begin) * bytes(task.dtype);
    BV_CHECK(make(half));
  }
  return Done{};
}

Status StagedExecutor::on_processor(const move::MoveTask& task) {
  if (!processor_noted_) {
    processor_noted_ = true;
    notes_.push_back(
        fmt::format("some rows are spread over more of their source than the {} of a chunk: the "
                    "processor moved "
                    "those",
                    human_bytes(lane_bytes_)));
  }
  move::CpuExecutor processor;
  return processor.run({&task, 1});
}

Status StagedExecutor::stage(const move::MoveTask& task, const Layout& layout) {
  lane_ = (lane_ + 1) % kLanes;
  BV_CHECK(device_->wait(lane_));
  std::byte* const memory = device_->memory(lane_);
  std::vector<Staged> staged = layout.staged;
  for (std::size_t i = 0; i < staged.size(); ++i) {
    const std::int64_t size = bytes(task.sources[i].dtype);
    const auto count = static_cast<std::size_t>((staged[i].end - staged[i].begin) * size);
    staged[i].first = memory + layout.at[i];
    if (count > 0) {
      BV_CHECK(device_->upload(lane_, layout.at[i],
                               {task.sources[i].first + staged[i].begin * size, count}));
    }
  }
  std::int64_t covered = 0;
  for (const layout::BoxPiece& piece : task.pieces) {
    covered += piece.elements();
  }
  if (covered < task.end - task.begin) {  // what no piece writes keeps what the target holds
    BV_CHECK(device_->upload(lane_, layout.target, {task.target, layout.target_bytes}));
  }
  moves_.clear();
  moves_of(task, staged, memory + layout.target, moves_);
  BV_CHECK(device_->run(lane_, moves_));
  return device_->download(lane_, layout.target, {task.target, layout.target_bytes});
}

}  // namespace bv::cuda

// Merges of a StagedExecutor: a task is cut into rows, and into columns where a factor is too large
// for a lane.

#include <fmt/format.h>

#include <algorithm>
#include <cstring>

#include "core/cuda/staged_executor.hpp"

namespace bv::cuda {
namespace {

using move::MergeTask;

constexpr std::size_t kPartAlignment = 256;
constexpr std::int64_t kFloatBytes = sizeof(float);
/// A merge of more is cut, so that one part is on its way while another one is merged.
constexpr std::int64_t kPartBytesMin = std::int64_t{4} << 20;
constexpr std::int64_t kPartsMin = 4;

std::size_t part_bytes(std::int64_t bytes) {
  return (static_cast<std::size_t>(bytes) + kPartAlignment - 1) / kPartAlignment * kPartAlignment;
}

std::span<const std::byte> floats(const float* first, std::int64_t count) {
  return {reinterpret_cast<const std::byte*>(first), static_cast<std::size_t>(count * kFloatBytes)};
}

/// Rows that lie apart, one after another.
std::vector<std::byte> gathered(const std::byte* first, std::int64_t step, std::int64_t rows,
                                std::int64_t row_bytes) {
  std::vector<std::byte> out(static_cast<std::size_t>(rows * row_bytes));
  for (std::int64_t i = 0; i < rows; ++i) {
    std::memcpy(out.data() + i * row_bytes, first + i * step, static_cast<std::size_t>(row_bytes));
  }
  return out;
}

std::int64_t rounded_up(std::int64_t number, std::int64_t to) {
  return (number + to - 1) / to * to;
}

}  // namespace

/// Some rows and columns of a task, and where their parts lie in a lane: the flag first.
struct StagedExecutor::MergeCut {
  std::int64_t row = 0, rows = 0;
  std::int64_t column = 0, columns = 0;
  std::size_t left = kPartAlignment, right = 0, base = 0, end = 0;

  void place(const MergeTask& task) {
    right = left + part_bytes(rows * task.rank * kFloatBytes);
    base = right + part_bytes(task.rank * columns * kFloatBytes);
    end = base + part_bytes(rows * columns * bytes(task.dtype));
  }
  [[nodiscard]] bool fits(const MergeTask& task, std::size_t lane_bytes) {
    place(task);
    return end <= lane_bytes;
  }

  /// The largest one. Errors: OutOfMemory where not even one element has room.
  static Result<MergeCut> largest(const MergeTask& task, std::size_t lane_bytes) {
    MergeCut out;
    out.columns = task.columns;
    out.rows = 1;
    while (!out.fits(task, lane_bytes) && out.columns > 1) {
      out.columns = (out.columns + 1) / 2;
    }
    if (!out.fits(task, lane_bytes)) {
      return fail(Code::OutOfMemory,
                  fmt::format("a merge of rank {} is too large for the GPU", task.rank))
          .advise("use --device cpu");
    }
    const std::int64_t each = task.rank * kFloatBytes + out.columns * bytes(task.dtype);
    const auto room = static_cast<std::int64_t>(lane_bytes - out.end);
    out.rows = std::clamp<std::int64_t>(room / std::max<std::int64_t>(each, 1), 1, task.rows);
    if (out.rows * out.columns * bytes(task.dtype) > kPartBytesMin) {
      const std::int64_t share = rounded_up((task.rows + kPartsMin - 1) / kPartsMin, kMergeTile);
      out.rows = std::min(out.rows, share);
    }
    while (!out.fits(task, lane_bytes)) {  // parts begin at multiples of 256
      out.rows = std::max<std::int64_t>(1, out.rows - 1);
    }
    return out;
  }
};

Result<bool> StagedExecutor::merge(const MergeTask& task) {
  const std::lock_guard lock(mutex_);
  const std::int64_t row_bytes = task.columns * bytes(task.dtype);
  MergeTask one = task;
  std::vector<std::byte> kept;
  if (task.base == task.out) {  // a second attempt reads what the first one read
    kept = gathered(task.base, task.base_step, task.rows, row_bytes);
    one.base = kept.data();
    one.base_step = row_bytes;
  }
  bool unfit = false;
  BV_CHECK(in_less_memory([&] {
    unfit = false;
    return attempt(one, unfit);
  }));
  return unfit;
}

Status StagedExecutor::attempt(const MergeTask& task, bool& unfit) {
  landings_ = {};
  Status done = reserved_ ? Status(Done{}) : reserve();
  if (done && task.rows * task.columns > 0) {
    done = [&]() -> Status {
      BV_TRY(cut, MergeCut::largest(task, lane_bytes_));
      const std::int64_t rows = cut.rows;
      const std::int64_t columns = cut.columns;
      for (cut.column = 0; cut.column < task.columns; cut.column += columns) {
        cut.columns = std::min(columns, task.columns - cut.column);
        for (cut.row = 0; cut.row < task.rows; cut.row += rows) {
          cut.rows = std::min(rows, task.rows - cut.row);
          cut.place(task);
          lane_ = (lane_ + 1) % kLanes;
          BV_CHECK(land(lane_, unfit));
          BV_CHECK(merge_cut(task, cut));
        }
      }
      for (int lane = 0; lane < kLanes; ++lane) {
        BV_CHECK(land(lane, unfit));
      }
      return Done{};
    }();
  }
  if (!done) {
    device_->give_up();
    landings_ = {};
  }
  return done;
}

/// Sends a part to the lane of now, which is idle, and begins everything that is done there.
Status StagedExecutor::merge_cut(const MergeTask& task, const MergeCut& cut) {
  const std::int64_t size = bytes(task.dtype);
  const std::int64_t row_bytes = cut.columns * size;
  const auto dense = static_cast<std::size_t>(cut.rows * row_bytes);
  Landing& landing = landings_[static_cast<std::size_t>(lane_)];
  landing.unfit = 0;
  BV_CHECK(device_->upload(lane_, 0, std::as_bytes(std::span(&landing.unfit, 1))));
  if (task.rank > 0) {
    BV_CHECK(device_->upload(lane_, cut.left,
                             floats(task.left + cut.row * task.rank, cut.rows * task.rank)));
    const auto* const right = reinterpret_cast<const std::byte*>(task.right + cut.column);
    BV_CHECK(device_->upload(
        lane_, cut.right,
        gathered(right, task.columns * kFloatBytes, task.rank, cut.columns * kFloatBytes)));
  }
  const std::byte* const base = task.base + cut.row * task.base_step + cut.column * size;
  if (task.base_step == row_bytes) {
    BV_CHECK(device_->upload(lane_, cut.base, {base, dense}));
  } else {
    BV_CHECK(device_->upload(lane_, cut.base, gathered(base, task.base_step, cut.rows, row_bytes)));
  }
  std::byte* const memory = device_->memory(lane_);
  MergeBlock block{memory + cut.left, memory + cut.right, memory + cut.base, memory + cut.base,
                   cut.rows,          cut.columns,        task.rank,         DType::F32,
                   task.dtype,        task.scale};
  block.unfit = reinterpret_cast<std::uint32_t*>(memory);
  block.limit = task.limit;
  BV_CHECK(device_->merge(lane_, block));
  std::byte* const out = task.out + cut.row * task.out_step + cut.column * size;
  landing.out = nullptr;
  if (task.out_step == row_bytes) {
    BV_CHECK(device_->download(lane_, cut.base, {out, dense}));
  } else {
    landing.out = out;
    landing.row_bytes = row_bytes;
    landing.out_step = task.out_step;
    landing.bytes.resize(dense);
    BV_CHECK(device_->download(lane_, cut.base, landing.bytes));
  }
  return device_->download(lane_, 0, std::as_writable_bytes(std::span(&landing.unfit, 1)));
}

/// What the lane began comes to where it goes.
Status StagedExecutor::land(int lane, bool& unfit) {
  BV_CHECK(device_->wait(lane));
  Landing& landing = landings_[static_cast<std::size_t>(lane)];
  if (landing.out != nullptr) {
    const std::int64_t rows = std::ssize(landing.bytes) / landing.row_bytes;
    for (std::int64_t i = 0; i < rows; ++i) {
      std::memcpy(landing.out + i * landing.out_step, landing.bytes.data() + i * landing.row_bytes,
                  static_cast<std::size_t>(landing.row_bytes));
    }
    landing.out = nullptr;
  }
  unfit = unfit || landing.unfit != 0;
  landing.unfit = 0;
  return Done{};
}

}  // namespace bv::cuda

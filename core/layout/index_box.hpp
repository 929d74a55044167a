#pragma once
// A part on concrete sizes is one strided box: where each element of a target tensor comes from. A
// plain value of fixed size, the same on the host and on a GPU.
//
// Example: rows 2 and 3 of source [4, 3] become columns 0 and 1 of target [3, 2]:
//   source_offset 6, target_offset 0, axes {{3, 1, 2}, {2, 3, 1}} (extent, source and target
//   stride) source_of(box, 3) == 10: element [1, 1] of the target is element [3, 1] of the source.

#include <cstddef>
#include <cstdint>
#include <initializer_list>
#include <type_traits>

#include "core/base/assert.hpp"
#include "core/base/host_device.hpp"

namespace bv::layout {

/// One axis of a box, in elements. `target` strides are those of a mixed radix: when sorted, each
/// covers the axes inside it. A source stride of 0 repeats.
struct BoxAxis {
  std::int64_t extent = 1;
  std::int64_t source_stride = 0;
  std::int64_t target_stride = 0;
  bool operator==(const BoxAxis&) const = default;
};

/// After collapsing; a line of notation that needs more is refused when it is bound.
inline constexpr std::size_t kBoxAxesMax = 8;

/// At most kBoxAxesMax axes, by descending target stride.
class BoxAxes {
 public:
  BoxAxes() = default;
  BoxAxes(std::initializer_list<BoxAxis> axes) {
    for (const BoxAxis& axis : axes) {
      push_back(axis);
    }
  }

  [[nodiscard]] BV_HOST_DEVICE constexpr std::size_t size() const { return size_; }
  [[nodiscard]] BV_HOST_DEVICE constexpr bool empty() const { return size_ == 0; }
  [[nodiscard]] BV_HOST_DEVICE constexpr const BoxAxis* begin() const { return axes_; }
  [[nodiscard]] BV_HOST_DEVICE constexpr const BoxAxis* end() const { return axes_ + size_; }
  [[nodiscard]] BV_HOST_DEVICE constexpr BoxAxis* begin() { return axes_; }
  [[nodiscard]] BV_HOST_DEVICE constexpr BoxAxis* end() { return axes_ + size_; }
  [[nodiscard]] BV_HOST_DEVICE constexpr const BoxAxis* data() const { return axes_; }
  [[nodiscard]] BV_HOST_DEVICE constexpr const BoxAxis& operator[](std::size_t i) const {
    return axes_[i];
  }
  [[nodiscard]] BV_HOST_DEVICE constexpr BoxAxis& operator[](std::size_t i) { return axes_[i]; }
  [[nodiscard]] const BoxAxis& front() const { return axes_[0]; }
  [[nodiscard]] BoxAxis& front() { return axes_[0]; }
  [[nodiscard]] const BoxAxis& back() const { return axes_[size_ - 1]; }
  [[nodiscard]] BoxAxis& back() { return axes_[size_ - 1]; }

  void push_back(const BoxAxis& axis) {
    BV_ASSERT(size_ < kBoxAxesMax);
    axes_[size_++] = axis;
  }
  void pop_back() { --size_; }
  void pop_front() {
    for (std::size_t i = 1; i < size_; ++i) {
      axes_[i - 1] = axes_[i];
    }
    --size_;
  }
  void clear() { size_ = 0; }
  /// Keeps the first `count` axes.
  void shrink(std::size_t count) { size_ = static_cast<std::uint32_t>(count); }

  bool operator==(const BoxAxes& other) const {
    for (std::size_t i = 0; i < size_; ++i) {
      if (i >= other.size_ || !(axes_[i] == other.axes_[i])) {
        return false;
      }
    }
    return size_ == other.size_;
  }

 private:
  BoxAxis axes_[kBoxAxesMax];
  std::uint32_t size_ = 0;
};

/// Copies a strided set of elements of source tensor `source` into one target tensor. Axes are
/// ordered by descending target stride, collapsed to the fewest. A box without a source (`source <
/// 0`) is zero-filled.
struct Box {
  std::int32_t source = 0;
  std::int64_t source_offset = 0;
  std::int64_t target_offset = 0;
  BoxAxes axes = {};
  std::int32_t part = -1;  // index into BoundRule::part_names(); -1 outside a rule
  [[nodiscard]] BV_HOST_DEVICE constexpr std::int64_t elements() const {
    std::int64_t count = 1;
    for (const BoxAxis& axis : axes) {
      if (axis.extent == 0) {
        return 0;  // the extents beside it are bounded by nothing
      }
    }
    for (const BoxAxis& axis : axes) {
      count *= axis.extent;
    }
    return count;
  }
  bool operator==(const Box&) const = default;
};
static_assert(std::is_trivially_copyable_v<Box>);

inline constexpr std::int64_t kNowhere = -1;

/// The source offset of the element that `box` puts at `target`; kNowhere when it does not touch
/// it. Every device and every window of every size agrees with this function
/// (tests/core/layout/index_box_test.cpp walks all small boxes).
[[nodiscard]] BV_HOST_DEVICE constexpr std::int64_t source_of(const Box& box, std::int64_t target) {
  std::int64_t left = target - box.target_offset;
  std::int64_t source = box.source_offset;
  for (const BoxAxis& axis : box.axes) {
    if (left < 0 || axis.target_stride <= 0) {
      return kNowhere;
    }
    const std::int64_t last = axis.extent - 1;
    const std::int64_t steps = left / axis.target_stride;
    const std::int64_t index = steps < last ? steps : last;
    left -= index * axis.target_stride;
    source += index * axis.source_stride;
  }
  return left == 0 ? source : kNowhere;
}

/// The place of element `number` of a box, counted in target order: 0 <= number < elements().
struct BoxPlace {
  std::int64_t source = 0;
  std::int64_t target = 0;
};
[[nodiscard]] BV_HOST_DEVICE constexpr BoxPlace place_of(const Box& box, std::int64_t number) {
  BoxPlace out{box.source_offset, box.target_offset};
  for (std::size_t i = box.axes.size(); i-- > 0;) {
    const BoxAxis& axis = box.axes[i];
    const std::int64_t index = number % axis.extent;
    number /= axis.extent;
    out.source += index * axis.source_stride;
    out.target += index * axis.target_stride;
  }
  return out;
}

}  // namespace bv::layout

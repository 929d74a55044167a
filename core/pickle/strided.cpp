#include "core/pickle/strided.hpp"

#include <algorithm>
#include <cstring>

#include "core/base/arith.hpp"
#include "core/base/assert.hpp"

namespace bv::pickle {
namespace {

/// An axis of a block: how far one index leads, at both ends, in bytes.
struct Step {
  std::int64_t extent = 1;
  std::int64_t source = 0;
  std::int64_t target = 0;
};

template <std::size_t kSize>
void copy_run(const Step& step, const std::byte* source, std::byte* out) {
  for (std::int64_t i = 0; i < step.extent; ++i, source += step.source, out += step.target) {
    std::memcpy(out, source, kSize);
  }
}

void copy_run(std::int64_t size, const Step& step, const std::byte* source, std::byte* out) {
  if (step.source == size && step.target == size) {
    std::memcpy(out, source, static_cast<std::size_t>(step.extent * size));
    return;
  }
  switch (size) {
    case 1:
      return copy_run<1>(step, source, out);
    case 2:
      return copy_run<2>(step, source, out);
    case 4:
      return copy_run<4>(step, source, out);
    default:
      BV_ASSERT(size == 8);
      return copy_run<8>(step, source, out);
  }
}

}  // namespace

StridedElements::StridedElements(std::span<const std::byte> bytes, std::int64_t element_bytes,
                                 const Shape& shape, const Shape& strides)
    : bytes_(bytes), size_(element_bytes), elements_(element_count(shape).value_or(0)) {
  BV_ASSERT(shape.size() == strides.size());
  for (std::size_t i = 0; i < shape.size() && elements_ > 0; ++i) {
    if (shape[i] == 1) {
      continue;
    }
    const std::int64_t stride = strides[i] * size_;
    if (!axes_.empty() && axes_.back().stride == stride * shape[i]) {  // one axis, in fact
      axes_.back().extent *= shape[i];
      axes_.back().stride = stride;
      continue;
    }
    axes_.push_back({shape[i], stride, 1});
  }
  std::int64_t inner = 1;
  for (auto axis = axes_.rbegin(); axis != axes_.rend(); ++axis) {
    axis->inner = inner;
    inner *= axis->extent;
  }
}

/// `count` whole indices of an axis. What lies close together at the source is read together.
void StridedElements::copy_block(std::size_t axis, std::int64_t count, const std::byte* source,
                                 std::byte* out) const {
  std::vector<Step> steps;
  for (std::size_t i = axis; i < axes_.size(); ++i) {
    steps.push_back({i == axis ? count : axes_[i].extent, axes_[i].stride, axes_[i].inner * size_});
  }
  std::stable_sort(steps.begin(), steps.end(),
                   [](const Step& a, const Step& b) { return a.source > b.source; });
  const Step run = steps.back();
  steps.pop_back();
  std::vector<std::int64_t> index(steps.size(), 0);
  for (bool more = true; more;) {
    copy_run(size_, run, source, out);
    more = false;
    for (std::size_t i = steps.size(); i-- > 0 && !more;) {  // the next index
      more = ++index[i] < steps[i].extent;
      const std::int64_t by = more ? 1 : 1 - steps[i].extent;
      index[i] = more ? index[i] : 0;
      source += by * steps[i].source;
      out += by * steps[i].target;
    }
  }
}

/// Elements [begin, end) of what one index before `axis` holds: whole indices, and at most two that
/// are not whole.
void StridedElements::copy_range(std::size_t axis, std::int64_t begin, std::int64_t end,
                                 const std::byte* source, std::byte* out) const {
  const Axis& at = axes_[axis];
  std::int64_t first = begin / at.inner;
  const auto part = [&](std::int64_t index, std::int64_t from, std::int64_t to) {
    copy_range(axis + 1, from - index * at.inner, to - index * at.inner, source + index * at.stride,
               out + (from - begin) * size_);
  };
  if (begin % at.inner != 0) {
    part(first, begin, std::min(end, (first + 1) * at.inner));
    ++first;
  }
  const std::int64_t last = end / at.inner;
  if (first < last) {
    copy_block(axis, last - first, source + first * at.stride,
               out + (first * at.inner - begin) * size_);
  }
  if (first <= last && last * at.inner < end) {
    part(last, last * at.inner, end);
  }
}

Status StridedElements::make(std::int64_t begin, std::int64_t end, std::byte* out) const {
  BV_ASSERT(begin >= 0 && begin <= end && end <= elements_);
  if (begin == end) {
    return Done{};
  }
  if (axes_.empty()) {
    std::memcpy(out, bytes_.data(), static_cast<std::size_t>(size_));
    return Done{};
  }
  copy_range(0, begin, end, bytes_.data(), out);
  return Done{};
}

}  // namespace bv::pickle

#include "core/move/box_windows.hpp"

#include <algorithm>

namespace bv::move {

BoxWindows::BoxWindows(std::span<const layout::Box> boxes) {
  spans_.reserve(boxes.size());
  for (const layout::Box& box : boxes) {
    if (box.elements() == 0) {
      continue;
    }
    std::int64_t last = box.target_offset;
    for (const layout::BoxAxis& axis : box.axes) {
      last += (axis.extent - 1) * axis.target_stride;
    }
    spans_.push_back({box.target_offset, last + 1, &box});
    least_ = std::min(least_, box.target_offset);
    most_ = std::max(most_, last + 1);
  }
  const auto before = [](const Span& a, const Span& b) { return a.begin < b.begin; };
  if (!std::is_sorted(spans_.begin(), spans_.end(), before)) {
    std::stable_sort(spans_.begin(), spans_.end(), before);
  }
}

void BoxWindows::list(std::int64_t begin, std::int64_t end, std::vector<layout::BoxPiece>& out) {
  if (begin <= least_ && end >= most_) {  // all of it, and nothing to keep for the next window
    for (const Span& span : spans_) {
      layout::pieces_in(*span.box, begin, end, out);
    }
    return;
  }
  if (begin < last_) {
    active_.clear();
    next_ = 0;
  }
  last_ = begin;
  std::erase_if(active_, [begin](const Span& span) { return span.end <= begin; });
  for (; next_ < spans_.size() && spans_[next_].begin < end; ++next_) {
    if (spans_[next_].end > begin) {
      active_.push_back(spans_[next_]);
    }
  }
  for (const Span& span : active_) {
    layout::pieces_in(*span.box, begin, end, out);
  }
}

}  // namespace bv::move

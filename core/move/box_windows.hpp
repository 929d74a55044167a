#pragma once
// The boxes of one target, walked window by window: a target of thousands of boxes costs a window
// no more than the boxes that lie in it.

#include <cstdint>
#include <span>
#include <vector>

#include "core/layout/box.hpp"

namespace bv::move {

class BoxWindows {
 public:
  BoxWindows() = default;
  /// Views `boxes`.
  explicit BoxWindows(std::span<const layout::Box> boxes);
  /// The pieces in [begin, end), by ascending offset of their boxes, appended to `out`. Ascending
  /// windows cost the least.
  void list(std::int64_t begin, std::int64_t end, std::vector<layout::BoxPiece>& out);

 private:
  struct Span {
    std::int64_t begin = 0;
    std::int64_t end = 0;
    const layout::Box* box = nullptr;
  };
  std::vector<Span> spans_;   // ascending begin
  std::vector<Span> active_;  // those that reach into the window, in the same order
  std::size_t next_ = 0;
  std::int64_t last_ = 0;   // begin of the last window
  std::int64_t least_ = 0;  // begin of the first span
  std::int64_t most_ = 0;   // end of the last one to end
};

}  // namespace bv::move

// Do boxes cover a tensor exactly once? Decided on the boxes where they are regular, on their runs
// where they are not.

#include <fmt/format.h>

#include <algorithm>
#include <iterator>
#include <map>

#include "core/base/arith.hpp"
#include "core/base/text.hpp"
#include "core/layout/box.hpp"

namespace bv::layout {
namespace {

void list_runs(const Box& box, std::size_t axis, std::int64_t at, std::vector<Run>& runs) {
  if (axis == box.axes.size()) {
    runs.push_back({at, at + 1});
    return;
  }
  const BoxAxis& current = box.axes[axis];
  if (axis + 1 == box.axes.size() && current.target_stride == 1) {
    runs.push_back({at, at + current.extent});
    return;
  }
  for (std::int64_t i = 0; i < current.extent; ++i) {
    list_runs(box, axis + 1, at + i * current.target_stride, runs);
  }
}

/// An outermost axis that all boxes share and that tiles [0, elements) by itself: dropped, so that
/// a regular map costs its boxes and not its rows.
bool drop_common_axis(std::vector<Box>& boxes, std::int64_t& elements) {
  if (boxes.empty() || boxes.front().axes.empty()) {
    return false;
  }
  const std::int64_t stride = boxes.front().axes.front().target_stride;
  const std::int64_t extent = boxes.front().axes.front().extent;
  if (stride <= 0 || extent < 2 || stride * extent != elements) {
    return false;
  }
  for (const Box& box : boxes) {
    const bool same = !box.axes.empty() && box.axes.front().target_stride == stride &&
                      box.axes.front().extent == extent;
    if (!same || box.target_offset < 0 || box.target_offset + span_of(box, 1) > stride) {
      return false;
    }
  }
  for (Box& box : boxes) {
    box.axes.pop_front();
  }
  elements = stride;
  return true;
}

/// The mirror image: an innermost axis that all boxes share, contiguous from 0; dropped by counting
/// in its rows.
bool drop_common_inner(std::vector<Box>& boxes, std::int64_t& elements) {
  std::int64_t unit = elements;
  for (const Box& box : boxes) {
    if (box.axes.empty() || box.axes.back().target_stride != 1) {
      return false;
    }
    unit = std::min(unit, box.axes.back().extent);
  }
  if (unit < 2 || elements % unit != 0) {
    return false;
  }
  for (const Box& box : boxes) {
    bool fits = box.target_offset % unit == 0 && box.axes.back().extent % unit == 0;
    for (std::size_t i = 0; i + 1 < box.axes.size(); ++i) {
      fits = fits && box.axes[i].target_stride % unit == 0;
    }
    if (!fits) {
      return false;
    }
  }
  for (Box& box : boxes) {
    box.target_offset /= unit;
    for (std::size_t i = 0; i + 1 < box.axes.size(); ++i) {
      box.axes[i].target_stride /= unit;
    }
    box.axes.back().extent /= unit;
    if (box.axes.back().extent == 1) {
      box.axes.pop_back();
    }
  }
  elements /= unit;
  return true;
}

}  // namespace

void target_runs(const Box& box, std::vector<Run>& out) {
  list_runs(box, 0, box.target_offset, out);
}

namespace {

/// Elements that were seen, as runs that touch no other: begin -> end.
class SeenRuns {
 public:
  /// What of a run was not seen, appended to `out`; all of it is seen from now on.
  void add(Run run, std::vector<Run>& out) {
    auto at = ends_.upper_bound(run.begin);
    if (at != ends_.begin() && std::prev(at)->second >= run.begin) {
      --at;
    }
    Run joined = run;
    while (at != ends_.end() && at->first <= run.end) {
      if (run.begin < at->first) {
        out.push_back({run.begin, at->first});
      }
      run.begin = std::max(run.begin, at->second);
      joined = {std::min(joined.begin, at->first), std::max(joined.end, at->second)};
      at = ends_.erase(at);
    }
    if (run.begin < run.end) {
      out.push_back(run);
    }
    ends_.emplace(joined.begin, joined.end);
  }

 private:
  std::map<std::int64_t, std::int64_t> ends_;
};

}  // namespace

std::vector<Box> first_copies(std::vector<Box> boxes) {
  SeenRuns seen;
  std::vector<Box> out;
  for (Box& box : boxes) {
    std::vector<Run> runs;
    std::vector<Run> left;
    target_runs(box, runs);
    for (const Run& run : runs) {
      seen.add(run, left);
    }
    if (left == runs) {
      out.push_back(std::move(box));
      continue;
    }
    for (const Run& run : left) {
      clip_to_target(box, run.begin, run.end, out);
    }
  }
  return out;
}

namespace {

/// Runs that `boxes` write; capped.
std::int64_t runs_of(std::span<const Box> boxes) {
  std::int64_t all = 0;
  for (const Box& box : boxes) {
    std::int64_t runs = 1;
    for (std::size_t i = 0; i < box.axes.size(); ++i) {
      const bool run = i + 1 == box.axes.size() && box.axes[i].target_stride == 1;
      runs *= run ? 1 : box.axes[i].extent;  // at most the elements of the box
    }
    all = capped_add(all, runs);
  }
  return all;
}

/// Does it write neighbouring elements, each once? Each axis then steps over all that is inside it.
bool is_run(const Box& box) {
  std::int64_t inside = 1;
  for (std::size_t i = box.axes.size(); i-- > 0;) {
    if (box.axes[i].target_stride != inside) {
      return false;
    }
    inside *= box.axes[i].extent;
  }
  return true;
}

/// Are the boxes, none of them empty, runs that lie one behind the other and fill [0, size)?
bool are_runs_in_order(std::span<const Box> boxes, std::int64_t size) {
  std::int64_t cursor = 0;
  for (const Box& box : boxes) {
    const std::int64_t elements = box.elements();
    if (box.target_offset != cursor || elements == 0 || !is_run(box)) {
      return false;
    }
    cursor += elements;
  }
  return cursor == size;
}

/// Where a part of a target lies in the whole: its first element, and elements of one of its
/// positions.
struct Frame {
  std::int64_t begin = 0;
  std::int64_t unit = 1;
  [[nodiscard]] std::string text(std::int64_t at) const { return thousands(begin + at * unit); }
  [[nodiscard]] std::string before(std::int64_t at) const {
    return thousands(begin + at * unit - 1);
  }
};

class Tiling {
 public:
  explicit Tiling(Cover cover) : cover_(cover) {}

  /// `boxes`, none of them empty, against positions [0, size). Regular maps cost their boxes: what
  /// all boxes share is dropped, and boxes that lie apart are looked at apart.
  Status check(std::vector<Box> boxes, std::int64_t size, Frame frame) {
    for (;;) {
      const std::int64_t before = size;
      if (drop_common_inner(boxes, size)) {
        frame.unit *= before / size;
      } else if (!drop_common_axis(boxes, size)) {
        break;
      }
    }
    const auto before = [](const Box& a, const Box& b) {
      return a.target_offset < b.target_offset;
    };
    if (!std::is_sorted(boxes.begin(), boxes.end(), before)) {
      std::sort(boxes.begin(), boxes.end(), before);
    }
    std::int64_t cursor = 0;
    for (std::size_t first = 0; first < boxes.size();) {
      const std::int64_t begin = boxes[first].target_offset;
      std::int64_t end = begin;
      std::size_t last = first;
      for (; last < boxes.size() && (last == first || boxes[last].target_offset < end); ++last) {
        end = std::max(end, boxes[last].target_offset + span_of(boxes[last], 0));
      }
      if (begin != cursor) {
        return gap(cursor, begin, frame);
      }
      const std::span<const Box> apart = std::span(boxes).subspan(first, last - first);
      if (last - first == boxes.size()) {
        BV_CHECK(sweep(apart, end, frame));
      } else if (apart.size() > 1 || !is_run(apart.front())) {
        BV_CHECK(inside({apart.begin(), apart.end()}, begin, end, frame));
      }
      cursor = end;
      first = last;
    }
    return cursor == size ? Status(Done{}) : wrong_end(cursor, size, frame);
  }

 private:
  Status inside(std::vector<Box> boxes, std::int64_t begin, std::int64_t end, Frame frame) {
    for (Box& box : boxes) {
      box.target_offset -= begin;
    }
    return check(std::move(boxes), end - begin, {frame.begin + begin * frame.unit, frame.unit});
  }

  /// Boxes that lie within each other, run by run, against [their first position, end).
  Status sweep(std::span<const Box> boxes, std::int64_t end, const Frame& frame) {
    runs_listed_ = capped_add(runs_listed_, runs_of(boxes));
    if (runs_listed_ > kTilingRunsMax) {
      return fail(Code::TooLargeToCheck, "the pieces of a tensor are more than can be listed")
          .pair(fmt::format("{} runs of elements", thousands(runs_listed_)),
                fmt::format("at most {}", thousands(kTilingRunsMax)))
          .advise("check the sizes in config.json and the headers");
    }
    std::vector<Run> runs;
    for (const Box& box : boxes) {
      target_runs(box, runs);
    }
    std::sort(runs.begin(), runs.end(),
              [](const Run& a, const Run& b) { return a.begin < b.begin; });
    std::int64_t cursor = runs.front().begin;
    for (const Run& run : runs) {
      if (run.begin > cursor) {
        return gap(cursor, run.begin, frame);
      }
      if (run.begin < cursor && cover_ == Cover::Once) {
        return fail(Code::Overlap,
                    fmt::format("element {} is written twice", frame.text(run.begin)));
      }
      cursor = std::max(cursor, run.end);
    }
    BV_ASSERT(cursor == end);
    return Done{};
  }

  /// Boxes may also reach before the first element: then nothing is missing, and that is the fault.
  static Error gap(std::int64_t from, std::int64_t to, const Frame& frame) {
    if (to < from) {
      return fail(Code::Gap, fmt::format("elements before the tensor are written, {} positions",
                                         thousands(from - to)));
    }
    return fail(Code::Gap, not_written(frame.text(from), frame.before(to)));
  }

  /// "element 4 is not written"
  static std::string not_written(const std::string& first, const std::string& last) {
    return first == last ? fmt::format("element {} is not written", first)
                         : fmt::format("elements {} to {} are not written", first, last);
  }

  static Error wrong_end(std::int64_t cursor, std::int64_t size, const Frame& frame) {
    const std::string first = frame.text(std::min(cursor, size));
    const std::string last = frame.before(std::max(cursor, size));
    return fail(Code::Gap, cursor < size ? not_written(first, last)
                                         : fmt::format("elements {} to {} are beyond the tensor",
                                                       first, last));
  }

  Cover cover_;
  std::int64_t runs_listed_ = 0;
};

}  // namespace

Status check_tiling(std::span<const Box> boxes, std::int64_t elements, Cover cover) {
  if (are_runs_in_order(boxes, elements)) {
    return Done{};
  }
  std::vector<Box> left;
  left.reserve(boxes.size());
  for (const Box& box : boxes) {
    if (box.elements() > 0) {
      left.push_back(box);
    }
  }
  return Tiling(cover).check(std::move(left), elements, {});
}

}  // namespace bv::layout

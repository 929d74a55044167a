#include "core/move/made_sources.hpp"

#include <algorithm>
#include <cstdlib>
#include <cstring>
#include <utility>

namespace bv::move {
namespace {

using layout::BoxAxis;
using layout::BoxPiece;

/// Axes of a piece along which its elements stay close together at the source, and those that lead
/// from one such group to the next.
struct Split {
  std::vector<BoxAxis> inner;
  std::vector<BoxAxis> outer;
  std::int64_t low = 0;  // elements of a group, relative to its offset: [low, high)
  std::int64_t high = 1;
};

/// Elements are close where the next index lies no further than what a maker makes together.
Split split_of(const BoxPiece& piece, std::int64_t granule) {
  std::vector<BoxAxis> axes(piece.axes.begin(), piece.axes.end());
  if (!axes.empty()) {
    axes.front().extent = piece.extent;
  }
  std::vector<std::size_t> order(axes.size());
  for (std::size_t i = 0; i < order.size(); ++i) {
    order[i] = i;
  }
  std::stable_sort(order.begin(), order.end(), [&](std::size_t a, std::size_t b) {
    return std::abs(axes[a].source_stride) < std::abs(axes[b].source_stride);
  });
  Split out;
  std::vector<bool> is_inner(axes.size(), true);
  for (const std::size_t i : order) {
    const BoxAxis& axis = axes[i];
    const std::int64_t reach = (axis.extent - 1) * axis.source_stride;
    const bool near = std::abs(axis.source_stride) <= std::max(out.high - out.low, granule);
    is_inner[i] = axis.extent == 1 || near;
    if (is_inner[i]) {
      (reach < 0 ? out.low : out.high) += reach;
    }
  }
  for (std::size_t i = 0; i < axes.size(); ++i) {
    (is_inner[i] ? out.inner : out.outer).push_back(axes[i]);
  }
  return out;
}

}  // namespace

/// The groups of a piece, each a piece of its own, and what it wants of the source.
void MadeSources::split(const BoxPiece& piece, const ElementMaker& maker) {
  if (piece.elements() == 0) {
    return;
  }
  const std::int64_t granule = maker.granule();
  Split split = split_of(piece, granule);
  axes_.push_back(std::move(split.inner));
  const std::vector<BoxAxis>& inner = axes_.back();
  std::vector<std::int64_t> index(split.outer.size(), 0);
  BoxPiece group = piece;
  group.axes = inner;
  group.extent = inner.empty() ? 1 : inner.front().extent;
  for (bool more = true; more;) {
    const std::int64_t first = group.source_offset + split.low;
    const std::int64_t last = group.source_offset + split.high;
    wanted_.push_back({piece.source, first / granule * granule,
                       std::min((last + granule - 1) / granule * granule, maker.elements()), 0});
    pieces_.push_back(group);
    more = false;
    for (std::size_t i = split.outer.size(); i-- > 0 && !more;) {  // the next index
      const BoxAxis& axis = split.outer[i];
      more = ++index[i] < axis.extent;
      const std::int64_t step = more ? 1 : 1 - axis.extent;
      index[i] = more ? index[i] : 0;
      group.source_offset += step * axis.source_stride;
      group.target_offset += step * axis.target_stride;
    }
  }
}

/// Ranges that touch become one.
void MadeSources::join_wanted() {
  std::sort(wanted_.begin(), wanted_.end(), [](const Range& a, const Range& b) {
    return std::pair(a.source, a.begin) < std::pair(b.source, b.begin);
  });
  std::size_t kept = 0;
  for (const Range& range : wanted_) {
    Range* last = kept > 0 ? &wanted_[kept - 1] : nullptr;
    if (last != nullptr && last->source == range.source && range.begin <= last->end) {
      last->end = std::max(last->end, range.end);
    } else {
      wanted_[kept++] = range;
    }
  }
  wanted_.resize(kept);
}

/// The range that holds an element; ranges_.size() when none does.
std::size_t MadeSources::holder(int source, std::int64_t element) const {
  const auto after =
      std::upper_bound(ranges_.begin(), ranges_.end(), std::pair(source, element),
                       [](const std::pair<int, std::int64_t>& key, const Range& range) {
                         return key < std::pair(range.source, range.begin);
                       });
  if (after == ranges_.begin() || std::prev(after)->source != source ||
      std::prev(after)->end <= element) {
    return ranges_.size();
  }
  return static_cast<std::size_t>(std::prev(after) - ranges_.begin());
}

bool MadeSources::has(const Range& range) const {
  const std::size_t at = holder(range.source, range.begin);
  return at < ranges_.size() && range.end <= ranges_[at].end;
}

/// What an earlier window made is not made again where a wanted range begins in it.
Status MadeSources::make_wanted(std::span<const SourceBytes> sources) {
  std::size_t size = 0;
  for (Range& range : wanted_) {
    range.at = size;
    const DType dtype = sources[static_cast<std::size_t>(range.source)].dtype;
    size += static_cast<std::size_t>((range.end - range.begin) * bytes(dtype));
  }
  std::vector<std::byte> made(size);
  for (const Range& range : wanted_) {
    const SourceBytes& source = sources[static_cast<std::size_t>(range.source)];
    const std::int64_t width = bytes(source.dtype);
    std::byte* out = made.data() + range.at;
    std::int64_t begin = range.begin;
    if (const std::size_t at = holder(range.source, begin); at < ranges_.size()) {
      const Range& old = ranges_[at];
      const std::int64_t end = std::min(range.end, old.end);
      std::memcpy(out, bytes_.data() + old.at + (begin - old.begin) * width,
                  static_cast<std::size_t>((end - begin) * width));
      begin = end;
    }
    if (begin < range.end) {
      BV_CHECK(source.made->make(begin, range.end, out + (begin - range.begin) * width));
    }
  }
  ranges_.swap(wanted_);
  bytes_ = std::move(made);
  return Done{};
}

Status MadeSources::make(std::span<const BoxPiece> pieces, std::span<const SourceBytes> sources) {
  pieces_.clear();
  axes_.clear();
  wanted_.clear();
  const auto is_made = [&](int source) {
    return source >= 0 && sources[static_cast<std::size_t>(source)].made != nullptr;
  };
  for (const BoxPiece& piece : pieces) {
    if (is_made(piece.source)) {
      split(piece, *sources[static_cast<std::size_t>(piece.source)].made);
    } else {
      pieces_.push_back(piece);
    }
  }
  join_wanted();
  if (!std::all_of(wanted_.begin(), wanted_.end(), [&](const Range& one) { return has(one); })) {
    BV_CHECK(make_wanted(sources));
  }
  sources_.assign(sources.begin(), sources.end());
  for (const Range& range : ranges_) {
    sources_.push_back(
        {bytes_.data() + range.at, sources[static_cast<std::size_t>(range.source)].dtype});
  }
  for (BoxPiece& piece : pieces_) {
    if (is_made(piece.source)) {
      const std::size_t at = holder(piece.source, piece.source_offset);
      piece.source_offset -= ranges_[at].begin;
      piece.source = static_cast<int>(sources.size() + at);
    }
  }
  return Done{};
}

}  // namespace bv::move

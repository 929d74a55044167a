// Boxes as pairs of slices: each axis is cut where it crosses a dimension of either side; the
// innermost axis of each dimension becomes a range, the others are listed.

#include <fmt/format.h>

#include <algorithm>

#include "core/base/arith.hpp"
#include "core/base/text.hpp"
#include "core/trace/trace.hpp"

namespace bv::trace {
namespace {

constexpr std::size_t kNoDim = static_cast<std::size_t>(-1);

struct Strides {
  explicit Strides(const Shape& wanted) : shape(wanted), stride(wanted.size(), 1) {
    for (std::size_t d = shape.size(); d-- > 1;) {
      // Only a tensor without elements leaves 63 bits here, and nothing is traced in it.
      stride[d - 1] = checked_mul(stride[d], std::max<std::int64_t>(shape[d], 1)).value_or(1);
    }
  }
  /// The dimension in which steps of `step` elements move; kNoDim for none.
  [[nodiscard]] std::size_t dim_of(std::int64_t step) const {
    for (std::size_t d = 0; d < shape.size(); ++d) {
      if (step > 0 && stride[d] <= step && step < stride[d] * shape[d]) {
        return step % stride[d] == 0 ? d : kNoDim;
      }
    }
    return kNoDim;
  }
  /// How many steps stay inside that dimension.
  [[nodiscard]] std::int64_t room(std::int64_t step) const {
    const std::size_t d = dim_of(step);
    return d == kNoDim ? 0 : stride[d] * shape[d] / step;
  }
  [[nodiscard]] Slice at(std::int64_t offset) const {
    Slice out(shape.size());
    for (std::size_t d = 0; d < shape.size(); ++d) {
      out[d].begin = offset / stride[d] % std::max<std::int64_t>(shape[d], 1);
    }
    return out;
  }

  Shape shape;
  std::vector<std::int64_t> stride;
};

/// Cuts `axis` so that no piece crosses a dimension of `side`; outermost piece first.
void cut_axis(layout::BoxAxis axis, const Strides& side, std::int64_t layout::BoxAxis::*step,
              std::vector<layout::BoxAxis>& out) {
  std::vector<layout::BoxAxis> inner_first;
  while (true) {
    const std::int64_t room = axis.*step == 0 ? 0 : side.room(axis.*step);
    if (room <= 1 || axis.extent <= room || axis.extent % room != 0) {
      break;
    }
    layout::BoxAxis inner = axis;
    inner.extent = room;
    inner_first.push_back(inner);
    axis.extent /= room;
    axis.source_stride *= room;
    axis.target_stride *= room;
  }
  out.push_back(axis);
  out.insert(out.end(), inner_first.rbegin(), inner_first.rend());
}

std::vector<layout::BoxAxis> cut_axes(std::span<const layout::BoxAxis> axes, const Strides& target,
                                      const Strides* source) {
  std::vector<layout::BoxAxis> by_target;
  for (const layout::BoxAxis& axis : axes) {
    cut_axis(axis, target, &layout::BoxAxis::target_stride, by_target);
  }
  if (source == nullptr) {
    return by_target;
  }
  std::vector<layout::BoxAxis> out;
  for (const layout::BoxAxis& axis : by_target) {
    cut_axis(axis, *source, &layout::BoxAxis::source_stride, out);
  }
  return out;
}

/// Axes that become ranges, and those that are listed.
struct Chosen {
  struct Kept {
    layout::BoxAxis axis;
    std::size_t target_dim = 0;
    std::size_t source_dim = kNoDim;
  };
  std::vector<Kept> kept;  // innermost first
  std::vector<layout::BoxAxis> listed;
};

Chosen choose(const std::vector<layout::BoxAxis>& axes, const Strides& target,
              const Strides* source) {
  Chosen out;
  for (auto axis = axes.rbegin(); axis != axes.rend(); ++axis) {
    const std::size_t target_dim = target.dim_of(axis->target_stride);
    const bool moves = source != nullptr && axis->source_stride != 0;
    const std::size_t source_dim = moves ? source->dim_of(axis->source_stride) : kNoDim;
    const bool taken = std::any_of(out.kept.begin(), out.kept.end(), [&](const Chosen::Kept& one) {
      return one.target_dim == target_dim || (moves && one.source_dim == source_dim);
    });
    if (target_dim == kNoDim || (moves && source_dim == kNoDim) || taken) {
      out.listed.insert(out.listed.begin(), *axis);
    } else {
      out.kept.push_back({*axis, target_dim, source_dim});
    }
  }
  return out;
}

bool fits(const Slice& slice, const Shape& shape) {
  for (std::size_t d = 0; d < shape.size(); ++d) {
    if (slice[d].begin + (slice[d].count - 1) * slice[d].step >=
        std::max<std::int64_t>(shape[d], 1)) {
      return false;
    }
  }
  return true;
}

bool is_transposed(const Chosen& chosen) {
  std::size_t last = kNoDim;  // innermost first: source dimensions must fall with the target's
  for (auto one = chosen.kept.rbegin(); one != chosen.kept.rend(); ++one) {
    if (one->source_dim == kNoDim) {
      continue;
    }
    if (last != kNoDim && one->source_dim < last) {
      return true;
    }
    last = one->source_dim;
  }
  return false;
}

/// One box on the way to its blocks.
class BoxBlocks {
 public:
  BoxBlocks(const layout::Box& box, const Strides& target, const Strides* source)
      : box_(box), target_(target), source_(source) {
    chosen_ = choose(cut_axes({box.axes.begin(), box.axes.end()}, target, source), target, source);
    if (!whole(chosen_)) {
      chosen_.listed.assign(box.axes.begin(), box.axes.end());
      chosen_.kept.clear();
    }
  }

  [[nodiscard]] std::int64_t count() const {
    std::int64_t out = 1;
    for (const layout::BoxAxis& axis : chosen_.listed) {
      out *= axis.extent;
    }
    return out;
  }

  void list(std::size_t blocks_max, std::vector<Block>& out) const {
    list(0, box_.target_offset, box_.source_offset, blocks_max, out);
  }

 private:
  [[nodiscard]] Block block_at(std::int64_t target_offset, std::int64_t source_offset) const {
    Block out;
    out.source = box_.source;
    out.megatron = target_.at(target_offset);
    if (source_ != nullptr) {
      out.hf = source_->at(source_offset);
    }
    for (const Chosen::Kept& one : chosen_.kept) {
      out.megatron[one.target_dim].count = one.axis.extent;
      out.megatron[one.target_dim].step = one.axis.target_stride / target_.stride[one.target_dim];
      if (one.source_dim != kNoDim) {
        out.hf[one.source_dim].count = one.axis.extent;
        out.hf[one.source_dim].step = one.axis.source_stride / source_->stride[one.source_dim];
      }
    }
    out.transposed = is_transposed(chosen_);
    return out;
  }

  /// Does the last block, which reaches furthest, stay inside both shapes?
  [[nodiscard]] bool whole(const Chosen& chosen) const {
    std::int64_t target = box_.target_offset;
    std::int64_t source = box_.source_offset;
    for (const layout::BoxAxis& axis : chosen.listed) {
      target += (axis.extent - 1) * axis.target_stride;
      source += (axis.extent - 1) * axis.source_stride;
    }
    for (const auto& [t, s] :
         {std::pair(box_.target_offset, box_.source_offset), {target, source}}) {
      const Block block = block_at(t, s);
      if (!fits(block.megatron, target_.shape) ||
          (source_ != nullptr && !fits(block.hf, source_->shape))) {
        return false;
      }
    }
    return true;
  }

  void list(std::size_t axis, std::int64_t target, std::int64_t source, std::size_t blocks_max,
            std::vector<Block>& out) const {
    if (out.size() >= blocks_max) {
      return;
    }
    if (axis == chosen_.listed.size()) {
      out.push_back(block_at(target, source));
      return;
    }
    const layout::BoxAxis& current = chosen_.listed[axis];
    for (std::int64_t i = 0; i < current.extent && out.size() < blocks_max; ++i) {
      list(axis + 1, target + i * current.target_stride, source + i * current.source_stride,
           blocks_max, out);
    }
  }

  const layout::Box& box_;
  const Strides& target_;
  const Strides* source_;
  Chosen chosen_;
};

bool earlier(const Block& a, const Block& b) {
  return std::lexicographical_compare(
      a.megatron.begin(), a.megatron.end(), b.megatron.begin(), b.megatron.end(),
      [](const Range& x, const Range& y) { return x.begin < y.begin; });
}

}  // namespace

std::string slice_text(const Slice& slice, const Shape& shape) {
  std::vector<std::string> parts;
  for (std::size_t d = 0; d < slice.size(); ++d) {
    const Range& one = slice[d];
    const std::int64_t end = one.begin + (one.count - 1) * one.step + 1;
    if (one.begin == 0 && one.count == shape[d] && (one.step == 1 || one.count == 1)) {
      parts.emplace_back(":");
    } else if (one.count == 1) {
      parts.push_back(std::to_string(one.begin));
    } else if (one.step == 1) {
      parts.push_back(fmt::format("{}:{}", one.begin, end));
    } else {
      parts.push_back(fmt::format("{}:{}:{}", one.begin, end, one.step));
    }
  }
  return "[" + join(parts, ", ") + "]";
}

Blocks blocks_of(const layout::Shard& shard, const std::vector<Shape>& hf_shapes,
                 std::size_t blocks_max) {
  const Strides target(shard.shape);
  std::vector<Strides> sources(hf_shapes.begin(), hf_shapes.end());
  Blocks out;
  std::int64_t total = 0;
  for (const layout::Box& box : shard.boxes) {
    if (box.elements() == 0) {
      continue;
    }
    const Strides* source =
        box.source < 0 ? nullptr : &sources[static_cast<std::size_t>(box.source)];
    const BoxBlocks blocks(box, target, source);
    std::vector<Block> list;
    blocks.list(blocks_max, list);
    std::move(list.begin(), list.end(), std::back_inserter(out.list));
    total += blocks.count();
  }
  std::stable_sort(out.list.begin(), out.list.end(), earlier);
  out.list.resize(std::min(out.list.size(), blocks_max));
  out.left_out = total - static_cast<std::int64_t>(out.list.size());
  return out;
}

}  // namespace bv::trace

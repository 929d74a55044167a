#include "properties/attacks/lines/line_run.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <cstring>

#include "core/base/arith.hpp"
#include "core/move/move.hpp"
#include "core/move/tensor_maker.hpp"
#include "properties/attacks/generators/random.hpp"

namespace bv::lines {
namespace {

constexpr std::size_t kPatternBytes = std::size_t{1} << 20;
constexpr std::byte kPoison{0xA5};
constexpr std::byte kPoisonBack{0x5A};

std::size_t count_of(const Shape& shape) {
  return static_cast<std::size_t>(element_count(shape).value());
}

bool repeats(const layout::Product& product) {
  return std::any_of(product.begin(), product.end(), [](const layout::Factor& factor) {
    return factor.replica ||
           std::any_of(factor.choices.begin(), factor.choices.end(),
                       [](const layout::Choice& choice) { return repeats(choice.product); });
  });
}

/// Marks `extent` elements from `at` on; false when one lies outside.
bool mark_run(std::int64_t at, std::int64_t extent, std::int64_t stride,
              std::span<std::uint8_t> reached) {
  const auto inside = [&](std::int64_t one) {
    return one >= 0 && one < static_cast<std::int64_t>(reached.size());
  };
  const bool whole = inside(at) && inside(at + (extent - 1) * stride);
  if (whole && stride == 1) {
    std::memset(reached.data() + at, 1, static_cast<std::size_t>(extent));
    return true;
  }
  for (std::int64_t i = 0; i < extent; ++i) {
    if (const std::int64_t one = at + i * stride; whole || inside(one)) {
      reached[static_cast<std::size_t>(one)] = 1;
    }
  }
  return whole;
}

/// Marks the target elements of axes [axis, end) of a box that is not empty; false when one lies
/// outside.
bool mark(const layout::Box& box, std::size_t axis, std::int64_t at,
          std::span<std::uint8_t> reached) {
  if (axis == box.axes.size()) {
    return mark_run(at, 1, 1, reached);
  }
  const layout::BoxAxis& current = box.axes[axis];
  if (axis + 1 == box.axes.size()) {
    return mark_run(at, current.extent, current.target_stride, reached);
  }
  bool inside = true;
  for (std::int64_t i = 0; i < current.extent; ++i) {
    inside = mark(box, axis + 1, at + i * current.target_stride, reached) && inside;
  }
  return inside;
}

/// Does every source element stand in some box? A line that declares copies reads one twice where
/// the cut parts them.
Status check_reached(std::span<const layout::Box> boxes, std::size_t elements,
                     std::vector<std::uint8_t>& reached) {
  reached.assign(elements, 0);
  bool inside = true;
  for (const layout::Box& box : boxes) {
    inside = mark(box, 0, box.target_offset, reached) && inside;
  }
  const void* missing = std::memchr(reached.data(), 0, reached.size());
  if (inside && missing == nullptr) {
    return Done{};
  }
  const std::int64_t at = missing == nullptr
                              ? static_cast<std::int64_t>(elements)
                              : static_cast<const std::uint8_t*>(missing) - reached.data();
  return fail(inside ? Code::Gap : Code::Overlap,
              fmt::format("element {} of a source is read by nobody", at));
}

}  // namespace

LineRunner::LineRunner(std::uint64_t seed) {
  generators::Random random(seed);
  pattern_.resize(kPatternBytes);
  for (std::size_t i = 0; i < pattern_.size(); i += sizeof(std::uint64_t)) {
    const std::uint64_t word = random.next();
    std::memcpy(pattern_.data() + i, &word, sizeof word);
  }
}

bool has_copies(const layout::Rule& rule) {
  return std::any_of(
      rule.targets.begin(), rule.targets.end(), [](const layout::TensorExpr& target) {
        return std::any_of(target.dims.begin(), target.dims.end(),
                           [](const layout::Dim& dim) { return repeats(dim.product); });
      });
}

/// Sources lie one behind the other in the pattern, so that no two begin alike.
const std::byte* LineRunner::source(std::size_t index, std::size_t bytes) {
  return pattern_.data() + read_[index].start * bytes;
}

Status LineRunner::move_there(const layout::Shard& shard, std::size_t size) {
  const std::size_t elements = count_of(shard.shape);
  BV_CHECK(layout::check_tiling(shard.boxes, static_cast<std::int64_t>(elements)));
  const std::size_t bytes = elements * size;
  shard_.resize(std::max(shard_.size(), bytes));
  std::memset(shard_.data(), std::to_integer<int>(kPoison), bytes);
  move::make_whole(shard.boxes, sources_, size, shard_.data());
  return Done{};
}

/// Every element of the shard says where it came from: pads are zero, copies are equal, and the
/// rest goes back.
Status LineRunner::move_back(const layout::Shard& shard, std::size_t size) {
  const std::byte* whole = shard_.data();
  for (const layout::Box& box : shard.boxes) {
    const bool pad = box.source < 0;
    const std::byte* from = pad ? nullptr : sources_[static_cast<std::size_t>(box.source)];
    if (const auto at = move::first_difference(box, from, whole, 0, size)) {
      return fail(Code::BytesDiffer, fmt::format("element {} of a shard differs: {}", *at,
                                                 pad ? "padding is not zero" : "not its source"));
    }
    if (pad) {
      continue;
    }
    Source& read = read_[static_cast<std::size_t>(box.source)];
    read.inverse.resize(std::max(read.inverse.size(), ++read.inverses));
    layout::Box& back = read.inverse[read.inverses - 1];
    layout::inverse(layout::whole(box), 0, back);
    move::make_whole({&back, 1}, {&whole, 1}, size, read.came_back.data());
  }
  return Done{};
}

Status LineRunner::check_sources(const layout::BoundRule& bound, std::size_t size, bool copied) {
  for (std::size_t i = 0; i < sources_.size(); ++i) {
    const Source& read = read_[i];
    const std::span boxes = std::span(read.inverse).first(read.inverses);
    BV_CHECK(copied ? check_reached(boxes, read.elements, reached_)
                    : layout::check_tiling(boxes, static_cast<std::int64_t>(read.elements)));
    const std::size_t bytes = read.elements * size;
    if (std::memcmp(read.came_back.data(), sources_[i], bytes) != 0) {
      return fail(Code::InverseNotIdentity, bound.rule().sources[i].name + " does not come back");
    }
    bytes_ += bytes;
  }
  return Done{};
}

Status LineRunner::run(const layout::BoundRule& bound, std::size_t size, bool copied) {
  const std::size_t sources = bound.source_shapes().size();
  read_.resize(std::max(read_.size(), sources));
  sources_.resize(sources);
  std::size_t total = 0;
  for (std::size_t i = 0; i < sources; ++i) {
    Source& read = read_[i];
    read.start = total;
    read.elements = count_of(bound.source_shapes()[i]);
    read.inverses = 0;
    total += read.elements;
    sources_[i] = source(i, size);
    const std::size_t bytes = read.elements * size;
    read.came_back.resize(std::max(read.came_back.size(), bytes));
    std::memset(read.came_back.data(), std::to_integer<int>(kPoisonBack), bytes);
  }
  if (total * size > kPatternBytes) {
    return fail(Code::BadValue, fmt::format("{} elements are more than a small case has", total));
  }
  const auto move = [&](const GridPlace& place) -> Status {
    bound.shard(place.target, place.grid, boxes_);
    if (there_) {
      layout::Shard there = boxes_;
      there_(there);
      BV_CHECK(move_there(there, size));
    } else {
      BV_CHECK(move_there(boxes_, size));
    }
    if (back_) {
      back_(boxes_);
    }
    return move_back(boxes_, size);
  };
  BV_CHECK(for_each_place(bound, move, walk_));
  return check_sources(bound, size, copied);
}

}  // namespace bv::lines

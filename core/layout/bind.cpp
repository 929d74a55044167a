#include <fmt/format.h>

#include <algorithm>
#include <span>

#include "core/base/arith.hpp"
#include "core/base/text.hpp"
#include "core/layout/box.hpp"
#include "core/layout/outline.hpp"

namespace bv::layout {
namespace {

using Sizes = std::map<std::string, std::int64_t, std::less<>>;
using Value = Outline::Value;

/// The shape of one shard of a target: its rows cut as the rule says.
Status cut_rows(const Rule& rule, const TensorExpr& tensor, std::int64_t ways, Shape& shape) {
  if (!rule.cut) {
    return Done{};
  }
  if (shape.empty()) {
    return fail(Code::IndivisibleDim,
                fmt::format("{} has no rows that {} could cut", tensor.name, rule.cut->axis))
        .pair("no dimension", "rows")
        .advise("use a kind without a cut for a single number");
  }
  const auto rows = ways == 0 ? std::nullopt : div_exact(shape[0], ways);
  if (!rows) {
    return fail(Code::IndivisibleDim,
                fmt::format("{} rows of {} do not divide by {}={}", thousands(shape[0]),
                            tensor.name, rule.cut->axis, ways))
        .pair(thousands(shape[0]) + " rows", fmt::format("a multiple of {}", ways))
        .advise(fmt::format("choose a {} that divides {}", rule.cut->axis, shape[0]));
  }
  shape[0] = *rows;
  return Done{};
}

std::int64_t at(const std::vector<std::int64_t>& values, Value value) {
  return values[static_cast<std::size_t>(value)];
}

/// The box that fills a part of a target from the part of that name at the sources, at grid
/// coordinate 0, before the cut.
Status make_box(const Rule& rule, const Outline& outline, std::size_t index,
                const std::vector<std::int64_t>& values, std::vector<BoxAxis>& axes, Box& out) {
  const Outline::Part& part = outline.parts()[index];
  out.source = part.source;
  out.source_offset = at(values, part.source_offset);
  out.target_offset = at(values, part.target_offset);
  out.part = static_cast<std::int32_t>(index);
  axes.clear();
  for (const Outline::Axis& axis : part.axes) {
    axes.push_back(
        {at(values, axis.extent), at(values, axis.source_stride), at(values, axis.target_stride)});
  }
  axes.resize(collapse(axes));
  if (axes.size() > kBoxAxesMax) {
    return fail(Code::BadValue, fmt::format("part {} of {} has {} axes that do not join",
                                            outline.names()[index], rule.name, axes.size()))
        .pair(std::to_string(axes.size()), fmt::format("at most {}", kBoxAxesMax))
        .advise("write the line with fewer axes");
  }
  out.axes.clear();
  for (const BoxAxis& axis : axes) {
    out.axes.push_back(axis);
  }
  return Done{};
}

void fill(const std::vector<std::vector<Value>>& dims, const std::vector<std::int64_t>& values,
          std::vector<Shape>& out) {
  out.resize(dims.size());
  for (std::size_t i = 0; i < dims.size(); ++i) {
    out[i].clear();
    for (const Value dim : dims[i]) {
      out[i].push_back(at(values, dim));
    }
  }
}

/// Names of axes are a letter mostly.
bool is_same(const std::string& a, const std::string& b) {
  return a.size() == b.size() && (a.empty() || a[0] == b[0]) && (a.size() < 2 || a == b);
}

/// Takes the sizes of the same axes, and picks those whose numbers are `taken`, in ascending order;
/// false, and some of them taken, when the names differ.
bool take_sizes(const Sizes& from, Sizes& to, std::span<const std::size_t> taken,
                std::vector<std::int64_t>& picked) {
  picked.clear();
  if (from.size() != to.size()) {
    return false;
  }
  auto size = from.begin();
  std::size_t number = 0;
  for (auto& [name, own] : to) {
    if (!is_same(size->first, name)) {
      return false;
    }
    own = size->second;
    if (picked.size() < taken.size() && taken[picked.size()] == number) {
      picked.push_back(own);
    }
    ++size;
    ++number;
  }
  return true;
}

}  // namespace

/// Both sides placed and paired once: what a grid coordinate adds is an offset.
struct BoundRule::Placed {
  std::shared_ptr<const Outline> outline;
  std::vector<std::size_t> taken;   // of each axis: the number of its size in the binding
  std::vector<std::int64_t> sizes;  // of each axis
  std::vector<std::int64_t> values;
  std::vector<Box> boxes;     // of the parts, at coordinate 0, normalised, before the cut
  std::vector<BoxAxis> axes;  // of one box while it is made

  Status take(Binding& binding) {
    BV_TRY(numbers, outline->sizes_in(binding));
    taken = std::move(numbers);
    take_sizes(binding.axes, binding.axes, taken, sizes);
    return Done{};
  }
};

Result<BoundRule> BoundRule::bind(const Rule& rule, Binding binding) {
  BoundRule out;
  out.rule_ = &rule;
  out.placed_ = std::make_shared<Placed>();
  out.placed_->outline = std::make_shared<const Outline>(rule, binding.rest.size());
  out.binding_ = std::move(binding);
  BV_CHECK(out.placed_->take(out.binding_));
  BV_CHECK(out.place());
  return out;
}

Status BoundRule::bind_again(const Binding& binding) {
  BV_ASSERT(binding.rest.size() == binding_.rest.size());
  if (placed_.use_count() > 1) {  // a copy has other sizes from now on
    placed_ = std::make_shared<Placed>(*placed_);
  }
  binding_.rest = binding.rest;
  if (!take_sizes(binding.axes, binding_.axes, placed_->taken, placed_->sizes)) {
    binding_.axes = binding.axes;
    BV_CHECK(placed_->take(binding_));
  }
  return place();
}

Status BoundRule::place() {
  const Outline& outline = *placed_->outline;
  std::vector<std::int64_t>& values = placed_->values;
  BV_CHECK(outline.evaluate(placed_->sizes, binding_.rest, values));
  fill(outline.source_shapes(), values, source_shapes_);
  fill(outline.target_shapes(), values, target_shapes_);
  for (std::size_t i = 0; i < target_shapes_.size(); ++i) {
    BV_CHECK(cut_rows(*rule_, rule_->targets[i], at(values, outline.ways()), target_shapes_[i]));
  }
  placed_->boxes.resize(outline.parts().size());
  for (std::size_t i = 0; i < placed_->boxes.size(); ++i) {
    BV_CHECK(make_box(*rule_, outline, i, values, placed_->axes, placed_->boxes[i]));
  }
  return Done{};
}

std::int64_t BoundRule::size(std::string_view axis) const {
  const auto found = binding_.axes.find(axis);
  return found == binding_.axes.end() ? 1 : found->second;
}

const std::vector<std::string>& BoundRule::part_names() const {
  return placed_->outline->names();
}

Shard BoundRule::shard(std::size_t target, const Sizes& grid) const {
  Shard out;
  shard(target, grid, out);
  return out;
}

void BoundRule::shard(std::size_t target, const Sizes& grid, Shard& out) const {
  out.boxes.clear();
  out.target = target;
  out.shape = target_shapes_[target];
  const bool cut = rule_->cut.has_value();
  const std::int64_t window = cut ? element_count(out.shape).value() : 0;
  const auto rank = cut ? grid.find(rule_->cut->axis) : grid.end();
  const std::int64_t begin = rank == grid.end() ? 0 : rank->second * window;
  const std::vector<Outline::Part>& parts = placed_->outline->parts();
  out.boxes.reserve(parts.size());
  for (std::size_t i = 0; i < parts.size(); ++i) {
    const Box& box = placed_->boxes[i];
    if (parts[i].target != target || box.elements() == 0) {
      continue;
    }
    std::int64_t offset = 0;
    for (const Outline::Coordinate& axis : parts[i].grid) {
      const auto coordinate = grid.find(axis.axis);
      offset +=
          coordinate == grid.end() ? 0 : coordinate->second * at(placed_->values, axis.stride);
    }
    const std::size_t first_new = out.boxes.size();
    const bool whole = !cut || (box.target_offset >= begin &&
                                box.target_offset + span_of(box, 0) <= begin + window);
    if (whole) {
      out.boxes.push_back(box);
    } else {
      clip_to_target(box, begin, begin + window, out.boxes);
    }
    for (std::size_t k = first_new; k < out.boxes.size(); ++k) {
      out.boxes[k].target_offset -= begin;
      out.boxes[k].source_offset += offset;
    }
  }
  const auto before = [](const Box& a, const Box& b) { return a.target_offset < b.target_offset; };
  if (!std::is_sorted(out.boxes.begin(), out.boxes.end(), before)) {
    std::stable_sort(out.boxes.begin(), out.boxes.end(), before);
  }
}

}  // namespace bv::layout

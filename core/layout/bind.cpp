#include <fmt/format.h>

#include <algorithm>
#include <span>

#include "core/base/arith.hpp"
#include "core/base/text.hpp"
#include "core/layout/box.hpp"

namespace bv::layout {
namespace {

using Sizes = std::map<std::string, std::int64_t, std::less<>>;

/// One axis of a part: where its size stands in the binding, which is what tells axes apart, and
/// elements from one position to the next.
struct Step {
  const std::int64_t* extent = nullptr;
  std::int64_t stride = 0;
};

/// One part on concrete sizes, on one side: where each of its axes steps in the tensor.
struct PlacedPart {
  std::string name;
  std::size_t tensor = 0;
  std::int64_t offset = 0;
  std::vector<Step> steps;  // innermost first, then outermost first
};

class Placer {
 public:
  explicit Placer(const Binding& binding) : binding_(binding) {}

  Result<const std::int64_t*> size(const std::string& axis) const {
    const auto found = binding_.axes.find(axis);
    if (found == binding_.axes.end()) {
      return fail(Code::RulesInvalid, fmt::format("axis {} has no size", axis))
          .advise(fmt::format("bind {} under \"axes\" of the rule in the family file", axis));
    }
    if (found->second < 0) {
      return fail(Code::BadValue, fmt::format("axis {} has size {}", axis, found->second))
          .advise("sizes are 0 or more");
    }
    return &found->second;
  }

  /// The parts of all tensors, whose shapes are appended to `shapes`.
  Result<std::vector<PlacedPart>> place(const std::vector<TensorExpr>& tensors,
                                        std::vector<Shape>& shapes) const {
    std::vector<PlacedPart> out;
    for (std::size_t i = 0; i < tensors.size(); ++i) {
      std::vector<PlacedPart> parts(1);
      Shape& shape = shapes.emplace_back();
      std::int64_t unit = 1;
      for (auto dim = tensors[i].dims.rbegin(); dim != tensors[i].dims.rend(); ++dim) {
        if (!dim->rest) {
          BV_TRY(rows, place(std::span<const Factor>(dim->product), parts, unit));
          shape.push_back(rows);
          continue;
        }
        for (auto extent = binding_.rest.rbegin(); extent != binding_.rest.rend(); ++extent) {
          BV_CHECK(step(*extent, parts, unit));
          shape.push_back(*extent);
        }
      }
      std::reverse(shape.begin(), shape.end());
      BV_CHECK(countable(shape));
      for (PlacedPart& part : parts) {
        if (part.name.empty()) {
          part.name = tensors[i].name;
        }
        part.tensor = i;
        std::reverse(part.steps.begin(), part.steps.end());
        out.push_back(std::move(part));
      }
    }
    return out;
  }

 private:
  /// A part that stands 0 times would be lost on the way back.
  static Status repeats(const std::string& axis, std::int64_t times) {
    if (times > 0) {
      return Done{};
    }
    return fail(Code::BadValue, fmt::format("axis {} repeats its part 0 times", axis))
        .pair(fmt::format("{}=0", axis), "1 or more")
        .advise("correct the sizes in config.json");
  }

  static Error overflow() {
    return fail(Code::BadValue, "a tensor has more elements than 63 bits count")
        .advise("check the sizes in config.json");
  }

  static Status countable(const Shape& shape) {
    return element_count(shape) ? Status(Done{}) : Status(overflow());
  }

  /// An axis is done with: what stands before it steps over all of it. A 0 further out does not
  /// make the strides inside it small.
  static Status grow(std::int64_t& unit, std::int64_t rows) {
    const auto next = checked_mul(unit, rows);
    if (!next) {
      return overflow();
    }
    unit = *next;
    return Done{};
  }

  static Status step(const std::int64_t& extent, std::vector<PlacedPart>& parts,
                     std::int64_t& unit) {
    for (PlacedPart& part : parts) {
      part.steps.push_back({&extent, unit});
    }
    return grow(unit, extent);
  }

  /// Walks a product from its innermost factor outwards: `unit`, the stride of the innermost, grows
  /// to that of what stands before the product, whose extent is returned.
  Result<std::int64_t> place(std::span<const Factor> product, std::vector<PlacedPart>& parts,
                             std::int64_t& unit) const {
    std::int64_t total = 1;
    for (auto factor = product.rbegin(); factor != product.rend(); ++factor) {
      std::int64_t rows = 1;
      if (factor->kind == Factor::Kind::Axis) {
        BV_TRY(extent, size(factor->axis));
        if (factor->replica) {
          BV_CHECK(repeats(factor->axis, *extent));
        }
        BV_CHECK(step(*extent, parts, unit));
        rows = *extent;
      } else if (factor->kind == Factor::Kind::Sum) {
        BV_TRY(sum, place_choices(*factor, parts, unit));
        BV_CHECK(grow(unit, sum));
        rows = sum;
      }
      BV_CHECK(grow(total, rows));
    }
    return total;
  }

  Result<std::int64_t> place_choices(const Factor& sum, std::vector<PlacedPart>& parts,
                                     std::int64_t unit) const {
    const std::vector<PlacedPart> inner_parts = std::move(parts);
    parts.clear();
    parts.reserve(inner_parts.size() * sum.choices.size());
    std::int64_t rows = 0;   // of the choices so far
    std::int64_t start = 0;  // their elements
    for (const Choice& choice : sum.choices) {
      std::vector<PlacedPart> heads(1);
      std::int64_t end = unit;
      BV_TRY(own, place(std::span<const Factor>(choice.product), heads, end));
      for (const PlacedPart& inner : inner_parts) {
        for (const PlacedPart& head : heads) {
          PlacedPart& joined = parts.emplace_back();
          joined.name = head.name.empty() ? choice.name : head.name;
          if (!inner.name.empty()) {
            joined.name += "." + inner.name;
          }
          joined.offset = inner.offset + start + head.offset;
          joined.steps.reserve(inner.steps.size() + head.steps.size() + 4);
          joined.steps = inner.steps;
          joined.steps.insert(joined.steps.end(), head.steps.begin(), head.steps.end());
        }
      }
      const auto so_far = checked_add(rows, own);
      const auto next = so_far ? checked_mul(*so_far, unit) : std::nullopt;
      if (!next) {
        return overflow();
      }
      rows = *so_far;
      start = *next;
    }
    return rows;
  }

  const Binding& binding_;
};

std::int64_t stride_of(const PlacedPart& part, const std::int64_t* axis) {
  for (const Step& step : part.steps) {
    if (step.extent == axis) {
      return step.stride;
    }
  }
  return 0;
}

/// The shape of one shard of a target: its rows cut as the rule says.
Result<Shape> shard_shape(const Placer& placer, const Rule& rule, const TensorExpr& tensor,
                          Shape shape) {
  for (const GridAxis& axis : tensor.grid) {
    BV_TRY(known, placer.size(axis.axis));
    static_cast<void>(known);
  }
  if (!rule.cut) {
    return shape;
  }
  if (shape.empty()) {
    return fail(Code::IndivisibleDim,
                fmt::format("{} has no rows that {} could cut", tensor.name, rule.cut->axis))
        .pair("no dimension", "rows")
        .advise("use a kind without a cut for a single number");
  }
  BV_TRY(size, placer.size(rule.cut->axis));
  const std::int64_t ways = *size;
  const auto rows = ways == 0 ? std::nullopt : div_exact(shape[0], ways);
  if (!rows) {
    return fail(Code::IndivisibleDim,
                fmt::format("{} rows of {} do not divide by {}={}", thousands(shape[0]),
                            tensor.name, rule.cut->axis, ways))
        .pair(thousands(shape[0]) + " rows", fmt::format("a multiple of {}", ways))
        .advise(fmt::format("choose a {} that divides {}", rule.cut->axis, shape[0]));
  }
  shape[0] = *rows;
  return shape;
}

/// The box that fills a part of a target from the part of that name at the sources; zeros without
/// one. At grid coordinate 0, before the cut.
Result<Box> box_of(const Rule& rule, const PlacedPart& part, const PlacedPart* source) {
  Box out;
  out.target_offset = part.offset;
  out.source = source == nullptr ? -1 : static_cast<int>(source->tensor);
  out.source_offset = source == nullptr ? 0 : source->offset;
  std::vector<BoxAxis> axes;
  axes.reserve(part.steps.size());
  for (const Step& step : part.steps) {
    axes.push_back(
        {*step.extent, source == nullptr ? 0 : stride_of(*source, step.extent), step.stride});
  }
  axes.resize(collapse(axes));
  if (axes.size() > kBoxAxesMax) {
    return fail(Code::BadValue, fmt::format("part {} of {} has {} axes that do not join", part.name,
                                            rule.name, axes.size()))
        .pair(std::to_string(axes.size()), fmt::format("at most {}", kBoxAxesMax))
        .advise("write the line with fewer axes");
  }
  for (const BoxAxis& axis : axes) {
    out.axes.push_back(axis);
  }
  return out;
}

}  // namespace

/// Both sides placed and paired once: what a grid coordinate adds is an offset.
struct BoundRule::Placed {
  struct Part {
    std::size_t target = 0;
    Box box;  // at coordinate 0, normalised, before the cut
    std::vector<std::pair<std::string, std::int64_t>> grid;  // axis -> elements of the source
  };
  std::vector<Part> parts;
  std::vector<std::string> names;  // of parts; Box::part is the index
};

Result<BoundRule> BoundRule::bind(const Rule& rule, Binding binding) {
  BoundRule out;
  out.rule_ = &rule;
  out.binding_ = std::move(binding);
  const Placer placer(out.binding_);
  BV_TRY(sources, placer.place(rule.sources, out.source_shapes_));
  BV_TRY(targets, placer.place(rule.targets, out.target_shapes_));
  for (std::size_t i = 0; i < rule.targets.size(); ++i) {
    Shape& shape = out.target_shapes_[i];
    BV_TRY(cut, shard_shape(placer, rule, rule.targets[i], std::move(shape)));
    shape = std::move(cut);
  }
  auto placed = std::make_shared<Placed>();
  placed->parts.reserve(targets.size());
  placed->names.reserve(targets.size());
  for (const PlacedPart& part : targets) {
    const auto found = std::find_if(sources.begin(), sources.end(), [&](const PlacedPart& other) {
      return other.name == part.name;
    });
    const PlacedPart* source = found == sources.end() ? nullptr : &*found;
    Placed::Part pair;
    pair.target = part.tensor;
    BV_TRY(box, box_of(rule, part, source));
    pair.box = box;
    pair.box.part = static_cast<std::int32_t>(placed->parts.size());
    placed->names.push_back(part.name);
    for (const GridAxis& axis : rule.targets[part.tensor].grid) {
      if (source != nullptr && !axis.replica) {
        BV_TRY(size, placer.size(axis.axis));
        pair.grid.emplace_back(axis.axis, stride_of(*source, size));
      }
    }
    placed->parts.push_back(std::move(pair));
  }
  out.placed_ = std::move(placed);
  return out;
}

std::int64_t BoundRule::size(std::string_view axis) const {
  const auto found = binding_.axes.find(axis);
  return found == binding_.axes.end() ? 1 : found->second;
}

const std::vector<std::string>& BoundRule::part_names() const {
  return placed_->names;
}

Shard BoundRule::shard(std::size_t target, const Sizes& grid) const {
  Shard out;
  out.target = target;
  out.shape = target_shapes_[target];
  const bool cut = rule_->cut.has_value();
  const std::int64_t window = cut ? element_count(out.shape).value() : 0;
  const auto rank = cut ? grid.find(rule_->cut->axis) : grid.end();
  const std::int64_t begin = rank == grid.end() ? 0 : rank->second * window;
  out.boxes.reserve(placed_->parts.size());
  for (const Placed::Part& part : placed_->parts) {
    if (part.target != target || part.box.elements() == 0) {
      continue;
    }
    std::int64_t offset = 0;
    for (const auto& [axis, stride] : part.grid) {
      const auto at = grid.find(axis);
      offset += at == grid.end() ? 0 : at->second * stride;
    }
    const std::size_t first_new = out.boxes.size();
    const bool whole = !cut || (part.box.target_offset >= begin &&
                                part.box.target_offset + span_of(part.box, 0) <= begin + window);
    if (!whole) {
      clip_to_target(part.box, begin, begin + window, out.boxes);
    } else {
      out.boxes.push_back(part.box);
    }
    for (std::size_t i = first_new; i < out.boxes.size(); ++i) {
      out.boxes[i].target_offset -= begin;
      out.boxes[i].source_offset += offset;
    }
  }
  const auto before = [](const Box& a, const Box& b) { return a.target_offset < b.target_offset; };
  if (!std::is_sorted(out.boxes.begin(), out.boxes.end(), before)) {
    std::stable_sort(out.boxes.begin(), out.boxes.end(), before);
  }
  return out;
}

}  // namespace bv::layout

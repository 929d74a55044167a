#include <fmt/format.h>

#include <algorithm>
#include <span>

#include "core/base/arith.hpp"
#include "core/base/text.hpp"
#include "core/layout/box.hpp"

namespace bv::layout {
namespace {

using Sizes = std::map<std::string, std::int64_t, std::less<>>;

/// One axis of a part: its name (of the rule's text), size, and elements from one position to the
/// next.
struct Step {
  std::string_view axis;
  std::int64_t extent = 1;
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
  explicit Placer(const Binding& binding) : binding_(binding) {
    for (std::size_t i = 0; i < binding.rest.size(); ++i) {
      Factor factor;
      factor.kind = Factor::Kind::Axis;
      factor.axis = rest_axis(i);
      rest_.push_back(std::move(factor));
    }
  }
  Placer(const Placer&) = delete;  // steps view its axes
  Placer& operator=(const Placer&) = delete;

  /// Axes of "...": ".0", ".1", ...; no name of the notation starts with a dot.
  static std::string rest_axis(std::size_t index) { return fmt::format(".{}", index); }

  Result<std::int64_t> size(const std::string& axis) const {
    if (axis.starts_with('.')) {
      return binding_.rest[std::stoul(axis.substr(1))];
    }
    const auto found = binding_.axes.find(axis);
    if (found == binding_.axes.end()) {
      return fail(Code::RulesInvalid, fmt::format("axis {} has no size", axis))
          .advise(fmt::format("bind {} under \"axes\" of the rule in the family file", axis));
    }
    if (found->second < 0) {
      return fail(Code::BadValue, fmt::format("axis {} has size {}", axis, found->second))
          .advise("sizes are 0 or more");
    }
    return found->second;
  }

  Result<std::int64_t> extent(const Factor& factor) const {
    if (factor.kind == Factor::Kind::Axis) {
      return size(factor.axis);
    }
    if (factor.kind == Factor::Kind::One) {
      return std::int64_t{1};
    }
    std::int64_t total = 0;
    for (const Choice& choice : factor.choices) {
      BV_TRY(part, extent(choice.product));
      const auto sum = checked_add(total, part);
      if (!sum) {
        return overflow();
      }
      total = *sum;
    }
    return total;
  }

  Result<std::int64_t> extent(std::span<const Factor> product) const {
    std::int64_t total = 1;
    for (const Factor& factor : product) {
      BV_TRY(one, extent(factor));
      const auto product_so_far = checked_mul(total, one);
      if (!product_so_far) {
        return overflow();
      }
      total = *product_so_far;
    }
    return total;
  }

  /// Dimensions with "..." replaced by one axis each.
  std::vector<std::span<const Factor>> dims(const TensorExpr& tensor) const {
    std::vector<std::span<const Factor>> out;
    for (const Dim& dim : tensor.dims) {
      if (!dim.rest) {
        out.emplace_back(dim.product);
        continue;
      }
      for (const Factor& factor : rest_) {
        out.emplace_back(&factor, 1);
      }
    }
    return out;
  }

  Result<Shape> shape(const TensorExpr& tensor) const {
    Shape out;
    std::int64_t elements = 1;
    for (const std::span<const Factor> product : dims(tensor)) {
      BV_TRY(rows, extent(product));
      const auto total = checked_mul(elements, rows);
      if (!total) {
        return overflow();
      }
      elements = *total;
      out.push_back(rows);
    }
    return out;
  }

  Result<std::vector<PlacedPart>> place(const std::vector<TensorExpr>& tensors) const {
    std::vector<PlacedPart> out;
    for (std::size_t i = 0; i < tensors.size(); ++i) {
      const auto products = dims(tensors[i]);
      std::vector<PlacedPart> parts(1);
      std::int64_t unit = 1;
      for (auto product = products.rbegin(); product != products.rend(); ++product) {
        BV_CHECK(place(*product, parts, unit));
      }
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

  /// Walks a product from its innermost factor outwards: `unit`, the stride of the innermost, grows
  /// to that of what stands before the product.
  Status place(std::span<const Factor> product, std::vector<PlacedPart>& parts,
               std::int64_t& unit) const {
    for (auto factor = product.rbegin(); factor != product.rend(); ++factor) {
      BV_TRY(rows, extent(*factor));
      // A 0 further out does not make the strides inside it small.
      const auto next = checked_mul(unit, rows);
      if (!next) {
        return overflow();
      }
      if (factor->kind == Factor::Kind::Axis) {
        if (factor->replica) {
          BV_CHECK(repeats(factor->axis, rows));
        }
        for (PlacedPart& part : parts) {
          part.steps.push_back({factor->axis, rows, unit});
        }
      } else if (factor->kind == Factor::Kind::Sum) {
        BV_CHECK(place_choices(*factor, parts, unit));
      }
      unit = *next;
    }
    return Done{};
  }

  Status place_choices(const Factor& sum, std::vector<PlacedPart>& parts, std::int64_t unit) const {
    const std::vector<PlacedPart> inner_parts = std::move(parts);
    parts.clear();
    std::int64_t start = 0;
    for (const Choice& choice : sum.choices) {
      std::vector<PlacedPart> heads(1);
      std::int64_t end = unit;
      BV_CHECK(place(std::span<const Factor>(choice.product), heads, end));
      for (const PlacedPart& inner : inner_parts) {
        for (const PlacedPart& head : heads) {
          PlacedPart joined = inner;
          joined.name = head.name.empty() ? choice.name : head.name;
          joined.name += inner.name.empty() ? "" : "." + inner.name;
          joined.offset += start + head.offset;
          joined.steps.insert(joined.steps.end(), head.steps.begin(), head.steps.end());
          parts.push_back(std::move(joined));
        }
      }
      BV_TRY(rows, extent(std::span<const Factor>(choice.product)));
      start += rows * unit;  // at most the whole sum, which the caller has checked
    }
    return Done{};
  }

  const Binding& binding_;
  std::vector<Factor> rest_;
};

std::int64_t stride_of(const PlacedPart& part, std::string_view axis) {
  for (const Step& step : part.steps) {
    if (step.axis == axis) {
      return step.stride;
    }
  }
  return 0;
}

/// The shape of one shard of a target: its rows cut as the rule says.
Result<Shape> shard_shape(const Placer& placer, const Rule& rule, const TensorExpr& tensor) {
  for (const GridAxis& axis : tensor.grid) {
    BV_TRY(known, placer.size(axis.axis));
    static_cast<void>(known);
  }
  BV_TRY(shape, placer.shape(tensor));
  if (!rule.cut) {
    return shape;
  }
  if (shape.empty()) {
    return fail(Code::IndivisibleDim,
                fmt::format("{} has no rows that {} could cut", tensor.name, rule.cut->axis))
        .pair("no dimension", "rows")
        .advise("use a kind without a cut for a single number");
  }
  BV_TRY(ways, placer.size(rule.cut->axis));
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
  for (const Step& step : part.steps) {
    axes.push_back(
        {step.extent, source == nullptr ? 0 : stride_of(*source, step.axis), step.stride});
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
  for (const TensorExpr& tensor : rule.sources) {
    BV_TRY(shape, placer.shape(tensor));
    out.source_shapes_.push_back(shape);
  }
  for (const TensorExpr& tensor : rule.targets) {
    BV_TRY(shape, shard_shape(placer, rule, tensor));
    out.target_shapes_.push_back(shape);
  }
  BV_TRY(sources, placer.place(rule.sources));
  BV_TRY(targets, placer.place(rule.targets));
  auto placed = std::make_shared<Placed>();
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
        pair.grid.emplace_back(axis.axis, stride_of(*source, axis.axis));
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
    if (cut) {
      clip_to_target(part.box, begin, begin + window, out.boxes);
    } else {
      out.boxes.push_back(part.box);
    }
    for (std::size_t i = first_new; i < out.boxes.size(); ++i) {
      out.boxes[i].target_offset -= begin;
      out.boxes[i].source_offset += offset;
    }
  }
  std::stable_sort(out.boxes.begin(), out.boxes.end(),
                   [](const Box& a, const Box& b) { return a.target_offset < b.target_offset; });
  return out;
}

}  // namespace bv::layout

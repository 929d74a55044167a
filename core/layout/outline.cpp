#include "core/layout/outline.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <optional>

#include "core/base/arith.hpp"

namespace bv::layout {
namespace {

using Value = Outline::Value;

struct Step {
  Value extent = Outline::kOne;
  Value stride = Outline::kZero;
};

/// One part on one side: where each of its axes steps in the tensor.
struct PlacedPart {
  std::string name;
  std::size_t tensor = 0;
  Value offset = Outline::kZero;
  std::vector<Step> steps;  // innermost first, then outermost first
};

Value stride_of(const PlacedPart& part, Value extent) {
  const auto found = std::find_if(part.steps.begin(), part.steps.end(),
                                  [&](const Step& step) { return step.extent == extent; });
  return found == part.steps.end() ? Outline::kZero : found->stride;
}

}  // namespace

/// Walks both sides of a rule, from the innermost factor of each tensor outwards.
class Outliner {
 public:
  Outliner(Outline& out, std::size_t rest) : out_(out) {
    using Kind = Outline::Formula::Kind;
    add({Kind::Constant, 0, 0});
    add({Kind::Constant, 1, 0});
    for (std::size_t i = 0; i < rest; ++i) {
      rest_.push_back(add({Kind::Rest, static_cast<std::int32_t>(i), 0}));
    }
  }

  Value size(const std::string& name, bool repeats = false) {
    auto found = std::find_if(out_.axes_.begin(), out_.axes_.end(),
                              [&](const auto& axis) { return axis.name == name; });
    if (found == out_.axes_.end()) {
      out_.axes_.push_back({name, add({Outline::Formula::Kind::Axis, 0, 0}), false});
      found = out_.axes_.end() - 1;
    }
    found->repeats = found->repeats || repeats;
    return found->value;
  }

  std::vector<PlacedPart> place(const std::vector<TensorExpr>& tensors,
                                std::vector<std::vector<Value>>& shapes) {
    std::vector<PlacedPart> out;
    for (std::size_t i = 0; i < tensors.size(); ++i) {
      std::vector<PlacedPart> parts(1);
      std::vector<Value>& shape = shapes.emplace_back();
      Value unit = Outline::kOne;
      for (auto dim = tensors[i].dims.rbegin(); dim != tensors[i].dims.rend(); ++dim) {
        if (!dim->rest) {
          shape.push_back(place(dim->product, parts, unit));
          continue;
        }
        for (auto extent = rest_.rbegin(); extent != rest_.rend(); ++extent) {
          step(*extent, parts, unit);
          shape.push_back(*extent);
        }
      }
      std::reverse(shape.begin(), shape.end());
      for (PlacedPart& part : parts) {
        part.name = part.name.empty() ? tensors[i].name : part.name;
        part.tensor = i;
        std::reverse(part.steps.begin(), part.steps.end());
        out.push_back(std::move(part));
      }
    }
    return out;
  }

 private:
  Value add(Outline::Formula formula) {
    out_.formulas_.push_back(formula);
    return static_cast<Value>(out_.formulas_.size() - 1);
  }
  Value product(Value a, Value b) {
    return a == Outline::kOne   ? b
           : b == Outline::kOne ? a
                                : add({Outline::Formula::Kind::Times, a, b});
  }
  Value sum(Value a, Value b) {
    return a == Outline::kZero   ? b
           : b == Outline::kZero ? a
                                 : add({Outline::Formula::Kind::Plus, a, b});
  }

  /// What stands before an axis steps over all of it. A size of 0 further out does not make the
  /// strides inside it small.
  void step(Value extent, std::vector<PlacedPart>& parts, Value& unit) {
    for (PlacedPart& part : parts) {
      part.steps.push_back({extent, unit});
    }
    unit = product(unit, extent);
  }

  /// `unit`, the stride of the innermost factor, grows to that of what stands before the product,
  /// whose extent is returned.
  Value place(const Product& factors, std::vector<PlacedPart>& parts, Value& unit) {
    Value total = Outline::kOne;
    for (auto factor = factors.rbegin(); factor != factors.rend(); ++factor) {
      Value rows = Outline::kOne;
      if (factor->kind == Factor::Kind::Axis) {
        rows = size(factor->axis, factor->replica);
        step(rows, parts, unit);
      } else if (factor->kind == Factor::Kind::Sum) {
        rows = place_choices(*factor, parts, unit);
        unit = product(unit, rows);
      }
      total = product(total, rows);
    }
    return total;
  }

  Value place_choices(const Factor& choices, std::vector<PlacedPart>& parts, Value unit) {
    const std::vector<PlacedPart> inner_parts = std::move(parts);
    parts.clear();
    Value rows = Outline::kZero;  // of the choices so far
    for (const Choice& choice : choices.choices) {
      std::vector<PlacedPart> heads(1);
      Value end = unit;
      const Value own = place(choice.product, heads, end);
      const Value start = rows == Outline::kZero ? rows : product(rows, unit);
      for (const PlacedPart& inner : inner_parts) {
        for (const PlacedPart& head : heads) {
          PlacedPart joined = inner;
          joined.name = head.name.empty() ? choice.name : head.name;
          joined.name += inner.name.empty() ? "" : "." + inner.name;
          joined.offset = sum(sum(inner.offset, start), head.offset);
          joined.steps.insert(joined.steps.end(), head.steps.begin(), head.steps.end());
          parts.push_back(std::move(joined));
        }
      }
      rows = sum(rows, own);
    }
    return rows;
  }

  Outline& out_;
  std::vector<Value> rest_;
};

Outline::Outline(const Rule& rule, std::size_t rest) {
  Outliner outliner(*this, rest);
  const std::vector<PlacedPart> sources = outliner.place(rule.sources, source_shapes_);
  for (const PlacedPart& part : outliner.place(rule.targets, target_shapes_)) {
    const auto found = std::find_if(sources.begin(), sources.end(), [&](const PlacedPart& other) {
      return other.name == part.name;
    });
    const PlacedPart* source = found == sources.end() ? nullptr : &*found;
    Part pair;
    pair.target = part.tensor;
    pair.target_offset = part.offset;
    if (source != nullptr) {
      pair.source = static_cast<int>(source->tensor);
      pair.source_offset = source->offset;
    }
    for (const Step& step : part.steps) {
      pair.axes.push_back(
          {step.extent, source == nullptr ? kZero : stride_of(*source, step.extent), step.stride});
    }
    for (const GridAxis& axis : rule.targets[part.tensor].grid) {
      if (source != nullptr && !axis.replica) {
        pair.grid.push_back({axis.axis, stride_of(*source, outliner.size(axis.axis))});
      }
    }
    parts_.push_back(std::move(pair));
    names_.push_back(part.name);
  }
  for (const TensorExpr& tensor : rule.targets) {
    for (const GridAxis& axis : tensor.grid) {
      outliner.size(axis.axis);
    }
  }
  ways_ = rule.cut ? outliner.size(rule.cut->axis) : kOne;
  std::sort(axes_.begin(), axes_.end(),
            [](const NamedAxis& a, const NamedAxis& b) { return a.name < b.name; });
}

Status Outline::check_size(const NamedAxis& axis, std::int64_t size) {
  if (size < 0) {
    return fail(Code::BadValue, fmt::format("axis {} has size {}", axis.name, size))
        .advise("sizes are 0 or more");
  }
  if (axis.repeats && size == 0) {  // the part would be lost on the way back
    return fail(Code::BadValue, fmt::format("axis {} repeats its part 0 times", axis.name))
        .pair(fmt::format("{}=0", axis.name), "1 or more")
        .advise("correct the sizes in config.json");
  }
  return Done{};
}

/// Axes and binding are both sorted by name, so that one pass meets each.
Result<std::vector<std::size_t>> Outline::sizes_in(const Binding& binding) const {
  std::vector<std::size_t> out;
  auto size = binding.axes.begin();
  std::size_t number = 0;
  for (const NamedAxis& axis : axes_) {
    int order = -1;
    while (size != binding.axes.end() && (order = size->first.compare(axis.name)) < 0) {
      ++size;
      ++number;
    }
    if (size == binding.axes.end() || order != 0) {
      return fail(Code::RulesInvalid, fmt::format("axis {} has no size", axis.name))
          .advise(fmt::format("bind {} under \"axes\" of the rule in the family file", axis.name));
    }
    out.push_back(number);
  }
  return out;
}

Status Outline::evaluate(std::span<const std::int64_t> sizes, std::span<const std::int64_t> rest,
                         std::vector<std::int64_t>& values) const {
  values.resize(formulas_.size());
  for (std::size_t i = 0; i < axes_.size(); ++i) {
    BV_CHECK(check_size(axes_[i], sizes[i]));
    values[static_cast<std::size_t>(axes_[i].value)] = sizes[i];
  }
  const auto at = [&](std::int32_t value) { return values[static_cast<std::size_t>(value)]; };
  for (std::size_t i = 0; i < formulas_.size(); ++i) {
    const Formula& formula = formulas_[i];
    std::optional<std::int64_t> value;
    switch (formula.kind) {
      case Formula::Kind::Axis:
        continue;
      case Formula::Kind::Constant:
        values[i] = formula.a;
        continue;
      case Formula::Kind::Rest:
        values[i] = rest[static_cast<std::size_t>(formula.a)];
        continue;
      case Formula::Kind::Times:
        value = checked_mul(at(formula.a), at(formula.b));
        break;
      case Formula::Kind::Plus:
        value = checked_add(at(formula.a), at(formula.b));
        break;
    }
    if (!value) {
      return fail(Code::BadValue, "a tensor has more elements than 63 bits count")
          .advise("check the sizes in config.json");
    }
    values[i] = *value;
  }
  return Done{};
}

}  // namespace bv::layout

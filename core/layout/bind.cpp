#include <fmt/format.h>

#include <algorithm>

#include "core/base/arith.hpp"
#include "core/base/text.hpp"
#include "core/layout/box.hpp"

namespace bv::layout {
namespace {

using Sizes = std::map<std::string, std::int64_t, std::less<>>;

/// One part on concrete sizes, on one side: where each of its axes steps in the tensor.
struct PlacedPart {
  std::string name;
  std::size_t tensor = 0;
  std::int64_t offset = 0;
  std::vector<std::pair<std::string, std::int64_t>> strides;  // axis -> elements, outermost first
  std::vector<std::string> replicas;
};

class Placer {
 public:
  explicit Placer(const Binding& binding) : binding_(binding) {}

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

  Result<std::int64_t> extent(const Product& product) const {
    std::int64_t total = 1;
    for (const Factor& factor : product) {
      std::int64_t one = 1;
      if (factor.kind == Factor::Kind::Axis) {
        BV_TRY(bound, size(factor.axis));
        one = bound;
      } else if (factor.kind == Factor::Kind::Sum) {
        one = 0;
        for (const Choice& choice : factor.choices) {
          BV_TRY(part, extent(choice.product));
          const auto sum = checked_add(one, part);
          if (!sum) {
            return overflow();
          }
          one = *sum;
        }
      }
      const auto product_so_far = checked_mul(total, one);
      if (!product_so_far) {
        return overflow();
      }
      total = *product_so_far;
    }
    return total;
  }

  /// Dimensions with "..." replaced by one axis each.
  std::vector<Product> dims(const TensorExpr& tensor) const {
    std::vector<Product> out;
    for (const Dim& dim : tensor.dims) {
      if (!dim.rest) {
        out.push_back(dim.product);
        continue;
      }
      for (std::size_t i = 0; i < binding_.rest.size(); ++i) {
        Factor factor;
        factor.kind = Factor::Kind::Axis;
        factor.axis = rest_axis(i);
        out.push_back({factor});
      }
    }
    return out;
  }

  Result<Shape> shape(const TensorExpr& tensor) const {
    Shape out;
    std::int64_t elements = 1;
    for (const Product& product : dims(tensor)) {
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
      Product whole;
      for (const Product& product : dims(tensors[i])) {
        whole.insert(whole.end(), product.begin(), product.end());
      }
      BV_TRY(parts, place(whole, 1));
      for (PlacedPart& part : parts) {
        if (part.name.empty()) {
          part.name = tensors[i].name;
        }
        part.tensor = i;
        std::reverse(part.strides.begin(), part.strides.end());
        out.push_back(std::move(part));
      }
    }
    return out;
  }

 private:
  static Error overflow() {
    return fail(Code::BadValue, "a tensor has more elements than 63 bits count")
        .advise("check the sizes in config.json");
  }

  /// Walks a product from its innermost factor outwards; `unit` is the stride of the innermost.
  Result<std::vector<PlacedPart>> place(const Product& product, std::int64_t unit) const {
    std::vector<PlacedPart> parts(1);
    for (auto factor = product.rbegin(); factor != product.rend(); ++factor) {
      if (factor->kind == Factor::Kind::Axis) {
        for (PlacedPart& part : parts) {
          part.strides.emplace_back(factor->axis, unit);
          if (factor->replica) {
            part.replicas.push_back(factor->axis);
          }
        }
      } else if (factor->kind == Factor::Kind::Sum) {
        BV_TRY(longer, place_choices(*factor, parts, unit));
        parts = std::move(longer);
      }
      BV_TRY(rows, extent({*factor}));
      unit *= rows;
    }
    return parts;
  }

  Result<std::vector<PlacedPart>> place_choices(const Factor& sum,
                                                const std::vector<PlacedPart>& inner_parts,
                                                std::int64_t unit) const {
    std::vector<PlacedPart> out;
    std::int64_t start = 0;
    for (const Choice& choice : sum.choices) {
      BV_TRY(heads, place(choice.product, unit));
      for (const PlacedPart& inner : inner_parts) {
        for (const PlacedPart& head : heads) {
          PlacedPart joined = inner;
          const std::string own = head.name.empty() ? choice.name : head.name;
          joined.name = own + (inner.name.empty() ? "" : "." + inner.name);
          joined.offset += start * unit + head.offset;
          joined.strides.insert(joined.strides.end(), head.strides.begin(), head.strides.end());
          joined.replicas.insert(joined.replicas.end(), head.replicas.begin(), head.replicas.end());
          out.push_back(std::move(joined));
        }
      }
      BV_TRY(rows, extent(choice.product));
      start += rows;
    }
    return out;
  }

  const Binding& binding_;
};

std::int64_t stride_of(const PlacedPart& part, std::string_view axis) {
  for (const auto& [name, stride] : part.strides) {
    if (name == axis) {
      return stride;
    }
  }
  return 0;
}

}  // namespace

/// Both sides placed once; shards only add grid offsets.
struct BoundRule::Placed {
  std::vector<PlacedPart> sources;
  std::vector<PlacedPart> targets;
};

Result<BoundRule> BoundRule::bind(const Rule& rule, Binding binding) {
  BoundRule out;
  out.rule_ = &rule;
  out.binding_ = std::move(binding);
  const Placer placer(out.binding_);
  auto placed = std::make_shared<Placed>();
  for (const TensorExpr& tensor : rule.sources) {
    BV_TRY(shape, placer.shape(tensor));
    out.source_shapes_.push_back(shape);
  }
  for (const TensorExpr& tensor : rule.targets) {
    for (const GridAxis& axis : tensor.grid) {
      BV_TRY(known, placer.size(axis.axis));
      static_cast<void>(known);
    }
    BV_TRY(shape, placer.shape(tensor));
    if (rule.cut && !shape.empty()) {
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
    }
    out.target_shapes_.push_back(shape);
  }
  BV_TRY(sources, placer.place(rule.sources));
  placed->sources = std::move(sources);
  BV_TRY(targets, placer.place(rule.targets));
  placed->targets = std::move(targets);
  out.placed_ = std::move(placed);
  return out;
}

std::int64_t BoundRule::size(std::string_view axis) const {
  const auto found = binding_.axes.find(axis);
  return found == binding_.axes.end() ? 1 : found->second;
}

Shard BoundRule::shard(std::size_t target, const Sizes& grid) const {
  Shard out;
  out.target = target;
  out.shape = target_shapes_[target];
  const TensorExpr& tensor = rule_->targets[target];
  const Placer placer(binding_);
  for (const PlacedPart& part : placed_->targets) {
    if (part.tensor != target) {
      continue;
    }
    Box box;
    box.part = part.name;
    box.target_offset = part.offset;
    const auto source =
        std::find_if(placed_->sources.begin(), placed_->sources.end(),
                     [&](const PlacedPart& other) { return other.name == part.name; });
    box.source = source == placed_->sources.end() ? -1 : static_cast<int>(source->tensor);
    if (box.source >= 0) {
      box.source_offset = source->offset;
      for (const GridAxis& axis : tensor.grid) {
        const auto at = grid.find(axis.axis);
        if (!axis.replica && at != grid.end()) {
          box.source_offset += at->second * stride_of(*source, axis.axis);
        }
      }
    }
    for (const auto& [axis, stride] : part.strides) {
      const auto extent = placer.size(axis);
      const std::int64_t source_stride = box.source < 0 ? 0 : stride_of(*source, axis);
      box.axes.push_back(BoxAxis{extent.value(), source_stride, stride});
    }
    normalise(box);
    if (rule_->cut && !out.shape.empty()) {
      const std::int64_t window = element_count(out.shape).value();
      const auto at = grid.find(rule_->cut->axis);
      const std::int64_t begin = (at == grid.end() ? 0 : at->second) * window;
      const std::size_t first_new = out.boxes.size();
      clip_to_target(box, begin, begin + window, out.boxes);
      for (std::size_t i = first_new; i < out.boxes.size(); ++i) {
        out.boxes[i].target_offset -= begin;
      }
    } else if (box.elements() > 0) {
      out.boxes.push_back(std::move(box));
    }
  }
  std::stable_sort(out.boxes.begin(), out.boxes.end(),
                   [](const Box& a, const Box& b) { return a.target_offset < b.target_offset; });
  return out;
}

}  // namespace bv::layout

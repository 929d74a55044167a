#include "core/plan/bind_rule.hpp"

#include <fmt/format.h>

#include "core/base/arith.hpp"
#include "core/family/expression.hpp"

namespace bv::plan {
namespace {

/// Axes of the rule and its trailing dimensions, as `rebinding` has them.
Status rebind(const family::Rule& rule, const Rebinding& rebinding, layout::Binding& out) {
  for (const auto& [axis, size] : rebinding.axes) {
    const auto bound = out.axes.find(axis);
    if (bound == out.axes.end()) {
      return fail(Code::RulesInvalid,
                  fmt::format("kind {} has no axis {} to bind again", rule.kind, axis))
          .at(rule.source)
          .pair(axis, "an axis of the rule");
    }
    bound->second = size;
  }
  if (rebinding.rest) {
    out.rest = *rebinding.rest;
  }
  return Done{};
}

Error no_matrix(const family::Rule& rule, const std::string& why) {
  return fail(Code::RulesInvalid, fmt::format("{} has no rows and columns: {}", rule.megatron, why))
      .at(rule.source)
      .advise("an adapter needs a weight of two dimensions");
}

/// One side of `line`. Where the whole tensor is "..." the side takes its dimension of the binding.
Result<const layout::Rule*> side_line(const kinds::Catalogue& kinds, const family::Rule& rule,
                                      const layout::Rule& line, layout::Side side,
                                      layout::Binding& binding) {
  const layout::Rule* out = kinds.find(rule.kind, side);
  if (out == nullptr) {
    return no_matrix(rule, fmt::format("kind {} makes no matrix", rule.kind));
  }
  const bool unnamed = layout::is_unnamed(line.targets.front());
  const std::size_t wanted = unnamed ? 2 : 1;
  const bool rest = unnamed || line.targets.front().dims.back().rest;
  if (rest && binding.rest.size() != wanted) {
    return no_matrix(rule, fmt::format("it has {} dimensions", binding.rest.size() + 2 - wanted));
  }
  if (unnamed) {
    binding.rest = {binding.rest[side == layout::Side::Rows ? 0 : 1]};
  }
  return out;
}

}  // namespace

Result<std::int64_t> padded_rows(std::int64_t rows, const parallel::Layout& layout) {
  if (!layout.vocab_divisor) {
    return rows;
  }
  const auto multiple = checked_mul(*layout.vocab_divisor, layout.tp);
  const bool positive = *layout.vocab_divisor > 0 && layout.tp > 0;
  const auto padded =
      positive && multiple ? checked_mul(div_ceil(rows, *multiple), *multiple) : std::nullopt;
  if (!padded) {
    return fail(Code::SizeOutOfBounds,
                fmt::format("a vocabulary of {} rows cannot be padded to a multiple of {} x TP {}",
                            rows, *layout.vocab_divisor, layout.tp))
        .pair(std::to_string(*layout.vocab_divisor), "a positive number of rows")
        .advise("correct --make-vocab-size-divisible-by, or the manifest");
  }
  return *padded;
}

Result<layout::Binding> binding_of(const model::Geometry& geometry, const family::Rule& rule,
                                   const parallel::Layout& layout, const Rebinding& rebinding) {
  auto symbols = geometry.with(rule.sizes);
  for (const auto& [symbol, size] : rebinding.symbols) {
    symbols[symbol] = size;
  }
  const std::int64_t t = rule.expert ? layout.etp : layout.tp;
  symbols["t"] = t;
  layout::Binding out;
  for (const auto& [axis, expression] : rule.axes) {
    auto size = family::evaluate(expression, symbols);
    if (!size) {
      return std::move(size)
          .error()
          .at(rule.source)
          .fact(fmt::format("kind {}, axis {} = {}", rule.kind, axis, expression));
    }
    out.axes[axis] = *size;
  }
  out.axes["t"] = t;
  if (rule.vocabulary) {
    const auto rows = out.axes.find("v");
    BV_ASSERT(rows != out.axes.end());
    BV_TRY(padded, padded_rows(rows->second, layout));
    out.axes["p"] = padded - rows->second;
  }
  for (const std::string& expression : rule.rest) {
    auto size = family::evaluate(expression, symbols);
    if (!size) {
      return std::move(size)
          .error()
          .at(rule.source)
          .fact(fmt::format("kind {}, trailing dimension {}", rule.kind, expression));
    }
    out.rest.push_back(*size);
  }
  BV_CHECK(rebind(rule, rebinding, out));
  return out;
}

Result<layout::BoundRule> bind_rule(const kinds::Catalogue& kinds, const model::Geometry& geometry,
                                    const family::Rule& rule, const parallel::Layout& layout,
                                    const Rebinding& rebinding) {
  const layout::Rule* line = kinds.find(rule.kind);
  if (line == nullptr) {
    return fail(Code::RulesInvalid, fmt::format("kind {} is not in the catalogue", rule.kind))
        .at(rule.source)
        .advise("bridge-verify rules show lists the kinds");
  }
  BV_TRY(binding, binding_of(geometry, rule, layout, rebinding));
  if (rebinding.side) {
    BV_TRY(side, side_line(kinds, rule, *line, *rebinding.side, binding));
    line = side;
  }
  auto bound = layout::BoundRule::bind(*line, std::move(binding));
  return bound ? std::move(bound)
               : Result<layout::BoundRule>(std::move(bound).error().at(rule.source));
}

}  // namespace bv::plan

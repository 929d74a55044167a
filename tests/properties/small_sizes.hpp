#pragma once
// Every binding of a line at small sizes.

#include <gtest/gtest.h>

#include <set>
#include <string>

#include "core/layout/box.hpp"
#include "core/layout/notation.hpp"

namespace bv::lines {

inline constexpr std::int64_t kSizeMax = 3;
inline constexpr std::int64_t kRanksMax = 4;

inline void add_axes(const layout::Product& product, std::set<std::string>& out) {
  for (const layout::Factor& factor : product) {
    if (factor.kind == layout::Factor::Kind::Axis) {
      out.insert(factor.axis);
    }
    for (const layout::Choice& choice : factor.choices) {
      add_axes(choice.product, out);
    }
  }
}

inline std::set<std::string> axes_of(const layout::Rule& rule) {
  std::set<std::string> out;
  for (const auto* side : {&rule.sources, &rule.targets}) {
    for (const layout::TensorExpr& tensor : *side) {
      for (const layout::Dim& dim : tensor.dims) {
        add_axes(dim.product, out);
      }
    }
  }
  out.erase("t");
  return out;
}

/// Every axis through 1..3 (a pad through 0..3), t through 1..4, "..." as nothing and as one
/// dimension of 2. `visit` gets the bindings that the cut allows.
template <class Visit>
int for_each_size(const layout::Rule& rule, const Visit& visit) {
  const std::set<std::string> axes = axes_of(rule);
  int cases = 0;
  layout::Binding binding;
  for (const std::string& axis : axes) {
    binding.axes[axis] = axis == "p" ? 0 : 1;
  }
  for (bool more = true; more;) {
    for (std::int64_t t = 1; t <= kRanksMax; ++t) {
      binding.axes["t"] = t;
      for (const std::size_t rest : {0U, 1U}) {
        binding.rest.assign(rest, 2);
        const auto bound = layout::BoundRule::bind(rule, binding);
        if (bound) {
          visit(*bound, binding);
          ++cases;
        } else {
          EXPECT_EQ(bound.error().code, Code::IndivisibleDim) << layout::print(rule);
        }
      }
    }
    more = false;
    for (const std::string& axis : axes) {
      std::int64_t& size = binding.axes[axis];
      more = ++size <= kSizeMax;
      if (more) {
        break;
      }
      size = axis == "p" ? 0 : 1;
    }
  }
  return cases;
}

}  // namespace bv::lines

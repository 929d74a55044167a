// libFuzzer entry for the layout notation (tests/fuzz/run.sh). Properties: what is accepted prints
// to text that means the same; what is proved on the text tiles every shard and every source at
// small sizes, and what is refuted says why.
#include <cstddef>
#include <cstdint>
#include <set>
#include <string_view>

#include "core/base/arith.hpp"
#include "core/base/assert.hpp"
#include "core/layout/notation.hpp"
#include "properties/attacks/lines/tilings.hpp"

namespace {

constexpr std::int64_t kElementsMax = 4096;
constexpr std::size_t kAxesMax = 8;

/// Every axis with a size from 0 to 3 that depends on `salt` alone.
void bind_axes(const bv::layout::Product& product, unsigned salt, bv::layout::Binding& binding) {
  for (const bv::layout::Factor& factor : product) {
    if (factor.kind == bv::layout::Factor::Kind::Axis) {
      const unsigned letter = static_cast<unsigned char>(factor.axis.front());
      binding.axes[factor.axis] = (letter * 7U + salt) % 13U == 0 ? 0 : 1 + (letter + salt) % 3U;
    }
    for (const bv::layout::Choice& choice : factor.choices) {
      bind_axes(choice.product, salt, binding);
    }
  }
}

bv::layout::Binding binding_of(const bv::layout::Rule& rule, unsigned salt) {
  bv::layout::Binding out;
  for (const auto* side : {&rule.sources, &rule.targets}) {
    for (const bv::layout::TensorExpr& tensor : *side) {
      for (const bv::layout::Dim& dim : tensor.dims) {
        bind_axes(dim.product, salt, out);
      }
      for (const bv::layout::GridAxis& axis : tensor.grid) {
        out.axes.try_emplace(axis.axis, 1 + salt % 3U);
      }
    }
  }
  if (rule.cut) {
    out.axes.try_emplace(rule.cut->axis, 1 + salt % 3U);
  }
  for (unsigned i = 0; i < salt % 3U; ++i) {
    out.rest.push_back(1 + (salt + i) % 3U);
  }
  return out;
}

/// Small enough to count every element.
bool is_small(const bv::layout::BoundRule& bound) {
  std::int64_t total = 0;
  for (const auto* shapes : {&bound.source_shapes(), &bound.target_shapes()}) {
    for (const bv::Shape& shape : *shapes) {
      total += bv::element_count(shape).value();
    }
  }
  std::int64_t places = 1;
  for (const bv::layout::TensorExpr& tensor : bound.rule().targets) {
    for (const bv::layout::GridAxis& axis : tensor.grid) {
      places *= bound.size(axis.axis);
    }
  }
  return total <= kElementsMax && places * total <= kElementsMax;
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  const auto rules = bv::layout::parse_rules({reinterpret_cast<const char*>(data), size}, "fuzz");
  if (!rules) {
    BV_ASSERT(!rules.error().message.empty() && !rules.error().where.empty());
    return 0;
  }
  for (const bv::layout::Rule& rule : *rules) {
    const std::string text = bv::layout::print(rule);
    const auto again = bv::layout::parse_rule(text, "printed");
    BV_ASSERT(again && *again == rule && bv::layout::print(*again) == text);
    const auto proof = bv::layout::prove_bijection(rule);
    if (!proof) {
      BV_ASSERT(!proof.error().message.empty() && !proof.error().help.empty());
      continue;
    }
    for (unsigned salt = 0; salt < 6; ++salt) {
      const bv::layout::Binding binding = binding_of(rule, salt);
      if (binding.axes.size() > kAxesMax) {
        break;
      }
      const auto bound = bv::layout::BoundRule::bind(rule, binding);
      if (bound && is_small(*bound)) {
        BV_ASSERT(bv::lines::check_line(*bound));
      }
    }
  }
  return 0;
}

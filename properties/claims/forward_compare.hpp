#pragma once
// Two runs of one model, output by output in the order in which a forward pass makes them.

#include <optional>
#include <string>
#include <vector>

#include "oracles/forward/forward.hpp"

namespace bv::claims {

/// Differences up to this times the largest absolute value of the output (at least 1) are rounding:
/// both forms compute in float64, in another order.
inline constexpr double kForwardTolerance = 1e-9;

/// What stops a model by itself is a fault of its shards; every other error leaves the claim open.
[[nodiscard]] bool blames_shards(Code code);

struct NamedOutput {
  std::string name;  // "layer_output.2"
  const oracle::forward::Tensor* tensor = nullptr;
};
/// vision, deepstack, layers, final norm, logits, MTP.
[[nodiscard]] std::vector<NamedOutput> outputs_in_order(const oracle::forward::Outputs& outputs);

struct FirstDifference {
  std::size_t position = 0;  // in outputs_in_order of `wanted`
  std::string output;
  std::vector<std::int64_t> index;
  double wanted = 0.0;
  double found = 0.0;
  double largest = 0.0;  // over the whole output; infinity where a value is not finite
  std::int64_t wrong = 0;
  std::int64_t elements = 0;
};
struct Compared {
  std::optional<FirstDifference> first;
  double largest = 0.0;  // of all outputs, relative to their tolerances' scale
};
[[nodiscard]] Compared compared(const oracle::forward::Outputs& wanted,
                                const oracle::forward::Outputs& found);

}  // namespace bv::claims

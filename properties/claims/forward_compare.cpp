#include "properties/claims/forward_compare.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <limits>

#include "core/base/arith.hpp"

namespace bv::claims {
namespace {

namespace fw = oracle::forward;

double largest_value(const fw::Tensor& tensor) {
  double out = 1.0;
  for (const double value : tensor.values) {
    out = std::max(out, std::abs(value));
  }
  return out;
}

/// The first element beyond the tolerance, or nullopt. `relative` takes the largest difference.
std::optional<FirstDifference> difference(const fw::Tensor& wanted, const fw::Tensor& found,
                                          double& relative) {
  const double unbounded = std::numeric_limits<double>::infinity();
  if (wanted.shape != found.shape || wanted.values.size() != found.values.size()) {
    relative = unbounded;
    return FirstDifference{0, "", {}, 0.0, 0.0, unbounded, 0, 0};
  }
  const double scale = largest_value(wanted);
  std::optional<FirstDifference> out;
  double largest = 0.0;
  std::int64_t wrong = 0;
  for (std::size_t i = 0; i < wanted.values.size(); ++i) {
    const double distance = std::abs(wanted.values[i] - found.values[i]);
    const bool finite = std::isfinite(distance);
    largest = std::max(largest, finite ? distance : unbounded);
    if (finite && distance <= kForwardTolerance * scale) {
      continue;
    }
    ++wrong;
    if (!out) {
      out.emplace();
      out->index = index_of(static_cast<std::int64_t>(i), wanted.shape);
      out->wanted = wanted.values[i];
      out->found = found.values[i];
    }
  }
  relative = std::max(relative, largest / scale);
  if (out) {
    out->largest = largest;
    out->wrong = wrong;
    out->elements = static_cast<std::int64_t>(wanted.values.size());
  }
  return out;
}

}  // namespace

bool blames_shards(Code code) {
  return code == Code::ShapeMismatch || code == Code::MegatronParamUnfilled ||
         code == Code::ReplicasDiffer || code == Code::LayerOnNoStage ||
         code == Code::IndivisibleDim;
}

std::vector<NamedOutput> outputs_in_order(const fw::Outputs& outputs) {
  std::vector<NamedOutput> out;
  const auto list = [&out](const char* stem, const std::vector<fw::Tensor>& tensors) {
    for (std::size_t i = 0; i < tensors.size(); ++i) {
      out.push_back({fmt::format("{}.{}", stem, i), &tensors[i]});
    }
  };
  if (outputs.vision_output) {
    out.push_back({"vision_output", &*outputs.vision_output});
  }
  list("deepstack_output", outputs.deepstack_outputs);
  list("layer_output", outputs.layer_outputs);
  out.push_back({"final_norm_output", &outputs.final_norm_output});
  out.push_back({"logits", &outputs.logits});
  list("mtp_output", outputs.mtp_outputs);
  list("mtp_logits", outputs.mtp_logits);
  return out;
}

Compared compared(const fw::Outputs& wanted, const fw::Outputs& found) {
  const auto left = outputs_in_order(wanted);
  const auto right = outputs_in_order(found);
  Compared out;
  for (std::size_t i = 0; i < std::max(left.size(), right.size()); ++i) {
    const bool both = i < left.size() && i < right.size() && left[i].name == right[i].name;
    std::optional<FirstDifference> here;
    if (both) {
      here = difference(*left[i].tensor, *right[i].tensor, out.largest);
    } else {  // one form has an output that the other lacks
      out.largest = std::numeric_limits<double>::infinity();
      here = FirstDifference{0, "", {}, 0.0, 0.0, out.largest, 0, 0};
    }
    if (here && !out.first) {
      out.first = std::move(here);
      out.first->position = i;
      out.first->output = i < left.size() ? left[i].name : right[i].name;
    }
    if (!both) {
      break;
    }
  }
  return out;
}

}  // namespace bv::claims

#pragma once
// The numbers of a config against what the headers hold, before anything is made of them.

#include "core/base/tensor_spec.hpp"
#include "core/model/model.hpp"

namespace bv::plan {

/// The largest size that a config may state without headers: no dimension of a model comes near.
inline constexpr std::int64_t kSizeMax = std::int64_t{1} << 30;

/// Every size that a rule of the model uses (widths, heads, experts, rows) is at most the elements
/// of the whole checkpoint. Where those are not known (no headers, tensors without elements,
/// tensors of absent shards) it is at most kSizeMax. Error: SizeOutOfBounds naming the config
/// field.
[[nodiscard]] Status check_size_bounds(const model::Model& model, const Headers& headers);

}  // namespace bv::plan

#pragma once
// In which dtype a Megatron image stores its tensors.

#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "core/base/dtype.hpp"
#include "core/base/result.hpp"
#include "core/base/tensor_spec.hpp"
#include "core/model/model.hpp"

namespace bv::plan {

/// What a Megatron image stores: the HF dtype of each tensor, or one params_dtype for all float
/// tensors.
struct DtypePolicy {
  std::optional<DType> params;  // unset: preserve
};
[[nodiscard]] Result<DtypePolicy> dtype_policy(
    std::string_view text);  // preserve, float32, bfloat16, float16
[[nodiscard]] std::string name(const DtypePolicy& policy);
/// The dtype of a Megatron tensor made of these HF tensors. Mixed inputs are stored in the widest
/// of them.
[[nodiscard]] DType target_dtype(const family::Rule& rule, std::span<const DType> hf,
                                 const DtypePolicy& policy);

/// The dtypes of the HF tensors of a mapping, in its order.
[[nodiscard]] std::vector<DType> dtypes_of(const Headers& headers, const model::Mapping& mapping);

}  // namespace bv::plan

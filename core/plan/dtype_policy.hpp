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
/// "preserve", "float32", "bfloat16" or "float16". Errors: BadValue.
[[nodiscard]] Result<DtypePolicy> dtype_policy(std::string_view text);
/// The way back.
[[nodiscard]] std::string name(const DtypePolicy& policy);
/// The dtype of a Megatron tensor made of these HF tensors. Mixed inputs are stored in the widest
/// of them.
[[nodiscard]] DType target_dtype(const family::Rule& rule, std::span<const DType> hf,
                                 const DtypePolicy& policy);

/// The least dtype that keeps every value of both.
[[nodiscard]] DType widest_of(DType one, DType other);

/// The dtypes of the HF tensors of a mapping, in its order.
[[nodiscard]] std::vector<DType> dtypes_of(const Headers& headers, const model::Mapping& mapping);

/// F16, BF16, F32 and F64: what a Megatron parameter can be. Integers, booleans, complex numbers
/// and numbers of 8 bits or fewer are buffers or quantised values: no rule makes a parameter of
/// them, and no policy casts them.
[[nodiscard]] bool is_parameter_dtype(DType dtype);
/// A counter or a table of positions of a module that Megatron takes from HF as it is: an integer
/// of 64 bits goes as it is too, whatever --dtype says.
[[nodiscard]] bool is_buffer_dtype(const family::Rule& rule, DType dtype);
/// Is a tensor of the mapping of another dtype? Tensors that are not there are not.
[[nodiscard]] bool has_odd_dtype(const Headers& headers, const model::Mapping& mapping);
/// Done when every parameter is made of parameter dtypes. Error: DtypeUnsupported, once for all of
/// them, with dtypes, counts and names.
[[nodiscard]] Status check_dtypes(const model::Model& model, const Headers& headers);

}  // namespace bv::plan

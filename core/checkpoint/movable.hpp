#pragma once
// Whether the tensors of a mapping can be moved between the two sides.

#include "core/base/result.hpp"
#include "core/base/tensor_spec.hpp"
#include "core/plan/dtype_policy.hpp"

namespace bv::checkpoint {

/// Tensors that go as bits must have whole bytes an element; those that are cast or added to must
/// be of a type that can be computed with, and so must their target.
/// Errors: DtypeUnknown naming the tensor.
[[nodiscard]] Status check_movable(const Headers& headers, const model::Mapping& mapping,
                                   const plan::DtypePolicy& policy);

}  // namespace bv::checkpoint

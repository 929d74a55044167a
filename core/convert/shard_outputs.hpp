#pragma once
// One parameter of a rank as it is made of an HF model.

#include "core/checkpoint/hf_model.hpp"
#include "core/convert/stream.hpp"
#include "core/plan/dtype_policy.hpp"
#include "core/plan/plan.hpp"

namespace bv::convert {

/// All arguments must outlive the result.
[[nodiscard]] OutputTensor output_of(const checkpoint::HfModel& source, const plan::Plan& plan,
                                     const plan::Target& target, const plan::DtypePolicy& policy);

}  // namespace bv::convert

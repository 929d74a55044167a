#pragma once
// Which tensors lose bits when they are added to or cast.

#include <string>
#include <vector>

#include "core/checkpoint/hf_model.hpp"
#include "core/kinds/values.hpp"
#include "core/plan/dtype_policy.hpp"

namespace bv::convert {

/// A conversion that did not keep every bit of one HF tensor.
struct ValueLoss {
  std::string hf;
  std::string megatron;
  const family::Rule* rule = nullptr;
  DType hf_dtype = DType::BF16;
  DType megatron_dtype = DType::BF16;
  kinds::Exactness exactness;
};

/// Every HF tensor that loses bits under `policy` (reads only tensors that change dtype or
/// value). Errors: OutOfMemory; those of computed tensors.
[[nodiscard]] Result<std::vector<ValueLoss>> find_losses(const checkpoint::HfModel& source,
                                                         const plan::DtypePolicy& policy, int jobs);

}  // namespace bv::convert

#pragma once
// In which types a torch_dist checkpoint stores parameters that share a key.

#include <string>
#include <vector>

#include "core/checkpoint/global_keys.hpp"
#include "core/checkpoint/hf_model.hpp"
#include "core/plan/dtype_policy.hpp"

namespace bv::convert {

struct KeyDtypes {
  std::vector<DType> types;        // of each of keys.targets, as it is stored
  std::vector<std::string> notes;  // a sentence for each key that made one wider
};

/// A tensor of torch_dist has one type, and a key holds a parameter of all layers and experts:
/// where their types differ, all of them are stored in the widest, which keeps every value.
[[nodiscard]] KeyDtypes key_dtypes(const checkpoint::HfModel& source, const plan::Plan& plan,
                                   const plan::DtypePolicy& policy,
                                   const checkpoint::GlobalKeys& keys);

}  // namespace bv::convert

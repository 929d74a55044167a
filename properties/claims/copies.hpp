#pragma once
// Tensors that a checkpoint holds twice.

#include <string>
#include <utility>
#include <vector>

#include "core/io/tensor_store.hpp"
#include "core/verdict/verdict.hpp"

namespace bv::claims {

/// Each stored copy has the type, the shape and the bytes of the tensor that it repeats: a verdict
/// of claim "values" for each pair (copy, original) of Model::must_equal, whose tensors `store`
/// holds. Without a store there are no bytes: Inconclusive.
[[nodiscard]] std::vector<Verdict> judge_copies(
    const io::TensorStore* store,
    const std::vector<std::pair<std::string, std::string>>& must_equal);

}  // namespace bv::claims

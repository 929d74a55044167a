#pragma once
// The formulas of oracles/ compiled a second time, over LibTorch's at::Tensor: what the small
// tensor of the product does is what LibTorch does.

#include <optional>

#include "oracles/oracle.hpp"

namespace bv::oracle {

/// False in a build without LibTorch.
[[nodiscard]] bool has_aten();
/// As wanted_shard.
[[nodiscard]] std::optional<TaggedTensor> aten_shard(const Question& question);

}  // namespace bv::oracle

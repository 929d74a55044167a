#pragma once
// The extra states of a checkpoint: what Transformer Engine keeps beside the weights of a module.

#include <string>
#include <vector>

#include "core/torch_dist/metadata.hpp"

namespace bv::torch_dist {

/// Names of extra states that are not there, although others like them are: a part of one that was
/// saved in several ("KEY/shard_2_4": the third of four), or that of a module whose like, but for
/// numbers in its name, have one (all norms called *layernorm are alike). Sorted. What no module
/// has is not missed: it depends on how the model was built.
[[nodiscard]] std::vector<std::string> absent_states(const Metadata& metadata);

}  // namespace bv::torch_dist

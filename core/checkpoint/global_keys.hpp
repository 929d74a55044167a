#pragma once
// The keys that Megatron-Core gives to the parameters of a model in a torch_dist checkpoint, and
// what of each parameter lies under which key.

#include <map>
#include <string>
#include <string_view>
#include <vector>

#include "core/base/tensor_spec.hpp"
#include "core/base/units.hpp"
#include "core/plan/plan.hpp"

namespace bv::checkpoint {

/// Elements [begin, end) of a parameter, which are the chunk [origin, origin + extent) of `key`.
struct KeyedChunk {
  std::string key;
  Shape origin;
  Shape extent;
  ElementOffset begin;
  ElementOffset end;
};

struct KeyedTarget {
  const plan::Target* target = nullptr;
  std::vector<KeyedChunk> chunks;  // by ascending begin; they tile the parameter
};

struct GlobalKeys {
  std::vector<KeyedTarget> targets;  // of the plan's one rank, in its order, copies left out
  std::map<std::string, Shape, std::less<>> shapes;  // of the whole tensor of a key
  std::vector<std::string> extra_states;  // keys of `_extra_state` objects, in byte order
};

/// `plan` has one rank and must outlive the result. Layers that are alike in every parameter share
/// keys with a leading axis, as those of a block of Megatron-Core do that is homogeneous; layers of
/// multi-token prediction and of hybrid stacks never do.
/// Errors: RulesInvalid for a rule that fuses other rows than Megatron-Core stores apart;
/// MegatronParamUnfilled where layers that share keys by their class do not hold the same.
/// Source: Megatron-LM transformer/transformer_block.py, ssm/utils.py, transformer/mlp.py.
[[nodiscard]] Result<GlobalKeys> global_keys(const plan::Plan& plan);

}  // namespace bv::checkpoint

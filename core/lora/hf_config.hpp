#pragma once
// adapter_config.json for pairs that are at hand: ranks, alphas and targets that make PEFT wrap
// exactly these modules.

#include <string>
#include <vector>

#include "core/lora/adapter_config.hpp"

namespace bv::lora {

/// One target: a module, or a parameter of one.
struct HfTarget {
  std::string
      path;  // "model.layers.0.self_attn.q_proj", or with the parameter: "….mlp.gate.weight"
  bool parameter = false;  // packed experts and routers: target_parameters
  std::int64_t rank = 0;
  double alpha = 0;
  bool router = false;  // which may be a linear layer of the class, or a parameter of a module
};

/// `modules` are all modules of the class with a weight: a bare last component is written only
/// where every module of that name is a target, else full paths are; what those take beside them is
/// excluded. Ranks and alphas that are not the most frequent ones become patterns of full paths,
/// each for one target. There must be a target.
[[nodiscard]] AdapterConfig config_for(const std::vector<HfTarget>& targets,
                                       const std::vector<std::string>& modules);
/// The shortest list of names that wraps these modules and no others.
[[nodiscard]] std::vector<std::string> target_names(const std::vector<std::string>& wanted,
                                                    const std::vector<std::string>& modules);

}  // namespace bv::lora

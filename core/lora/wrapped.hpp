#pragma once
// Which modules PEFT wraps for a config, against the pairs that an adapter has: PEFT leaves a pair
// out without an error, and wraps a module that has none with fresh factors.

#include <set>
#include <string>
#include <string_view>
#include <vector>

#include "core/lora/adapter.hpp"

namespace bv::lora {

/// Classes of transformers leave MTP layers of a checkpoint out; those that models bring along may
/// build them.
enum class MtpLayers { LeftOut, Built };

/// The modules of the base's class that have a weight of two dimensions or more, by full path.
[[nodiscard]] Result<std::vector<std::string>> class_modules(const checkpoint::HfModel& base,
                                                             MtpLayers mtp);
/// Whether any of these HF tensors belongs to an MTP layer: then the class builds them.
[[nodiscard]] MtpLayers mtp_layers_of(const checkpoint::HfModel& base,
                                      const std::vector<std::string>& tensors);

/// PEFT takes a target of this name for the packed experts of the class, wherever the module
/// stands: a dense layer or a shared expert is reached through its parameter alone
/// ("….gate_proj.weight").
[[nodiscard]] bool moved_by_peft(const checkpoint::HfModel& base, std::string_view module);

/// Does PEFT wrap all of these modules for a config? False for a pattern that cannot be read.
[[nodiscard]] bool wraps_all(const AdapterConfig& config, const std::vector<std::string>& modules,
                             const checkpoint::HfModel& base);

struct TargetGaps {
  std::vector<std::string> not_loaded;  // modules with a pair that PEFT does not wrap
  std::vector<std::string> fresh;       // modules that PEFT wraps and the adapter has no pair for
};
/// Errors: AdapterInvalid for a pattern; those of class_modules.
[[nodiscard]] Result<TargetGaps> target_gaps(const Adapter& adapter,
                                             const checkpoint::HfModel& base);

}  // namespace bv::lora

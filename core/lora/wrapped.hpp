#pragma once
// Which modules PEFT wraps for a config, against the pairs that an adapter has: PEFT leaves a pair
// out without an error, and wraps a module that has none with fresh factors.

#include <cstdint>
#include <optional>
#include <set>
#include <string>
#include <string_view>
#include <vector>

#include "core/lora/adapter.hpp"
#include "core/lora/class_modules.hpp"

namespace bv::lora {

/// PEFT takes a target of this name for the packed experts of the class, wherever the module
/// stands: a dense layer or a shared expert is reached through its parameter alone
/// ("….gate_proj.weight").
[[nodiscard]] bool moved_by_peft(const checkpoint::HfModel& base, std::string_view module);

/// Do stacks [E, in, out] of the base's class have the mark that PEFT looks for?
[[nodiscard]] bool marks_stacks(const checkpoint::HfModel& base);

/// Does PEFT wrap all of these modules for a config? False for a pattern that cannot be read.
[[nodiscard]] bool wraps_all(const AdapterConfig& config, const std::vector<std::string>& modules,
                             const checkpoint::HfModel& base);

/// PEFT moves gate_proj and up_proj of the targets into gate_up_proj, whose rank and alpha it
/// doubles where no pattern of the config decides. Errors: those of modules_of.
[[nodiscard]] Result<bool> doubles_gate_up(const AdapterConfig& config,
                                           const checkpoint::HfModel& base);

struct TargetGaps {
  std::vector<std::string> not_loaded;  // modules with a pair that PEFT does not wrap
  std::vector<std::string> fresh;       // modules that PEFT wraps and the adapter has no pair for
};
/// Errors: AdapterInvalid for a pattern; those of class_modules.
[[nodiscard]] Result<TargetGaps> target_gaps(const Adapter& adapter,
                                             const checkpoint::HfModel& base);

/// "q_proj" names "model.layers.0.self_attn.q_proj": PEFT compares the end of the path.
[[nodiscard]] bool names_module(const std::string& name, const std::string& path);
/// Is `path` a module to save, or does it lie in one? PEFT compares letters, not components: "norm"
/// saves "model.layers.0.input_layernorm" too.
[[nodiscard]] bool saves_module(const std::string& saved, std::string_view path);
/// The number of the layer that PEFT takes from a path: behind one of the patterns, else the last
/// number with a name before it.
[[nodiscard]] std::optional<std::int64_t> layer_of(const std::string& path,
                                                   const std::vector<std::string>& patterns);

}  // namespace bv::lora

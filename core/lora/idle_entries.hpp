#pragma once

// Entries of an adapter's config that name nothing.

#include <string>
#include <vector>

#include "core/base/result.hpp"
#include "core/checkpoint/hf_model.hpp"
#include "core/lora/adapter.hpp"

namespace bv::lora {

/// Entries of adapter_config.json that name nothing of the base: PEFT passes over them, and
/// what they were to change stays as it was. A sentence each, with the nearest name.
/// Errors: AdapterInvalid for a pattern; those of modules_of.
[[nodiscard]] Result<std::vector<std::string>> idle_entries(const Adapter& adapter,
                                                            const checkpoint::HfModel& base);

}  // namespace bv::lora

#pragma once
// What can be judged of a model whose names are wrong: the rules that found all their tensors.

#include <optional>

#include "core/checkpoint/hf_model.hpp"

namespace bv::claims {

/// The same headers with the mappings whose HF tensors are all there, and without faults; no bytes.
/// nullopt when no rule found all its tensors.
[[nodiscard]] std::optional<checkpoint::HfModel> resolved_part(const checkpoint::HfModel& source);

}  // namespace bv::claims

#pragma once
// What check --megatron does with a torch_dist checkpoint, without its claims about the model.

#include <filesystem>

#include "core/checkpoint/hf_model.hpp"
#include "core/kinds/catalogue.hpp"

namespace bv::bench {

/// Opens the iteration's folder and compares every element with the model; true when all are equal.
[[nodiscard]] bool is_judged_equal(const checkpoint::HfModel& model, const kinds::Catalogue& kinds,
                                   const std::filesystem::path& folder, int jobs);

}  // namespace bv::bench

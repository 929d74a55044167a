#pragma once
// What integrity.json of a torch_dist checkpoint says of its files, as a claim of the run.

#include <filesystem>

#include "core/base/result.hpp"
#include "core/torch_dist/store.hpp"
#include "core/verdict/verdict.hpp"

namespace bv::cli {

/// Reads every file that it names. False when one is refuted; without an integrity.json nothing is
/// added. Errors: those of torch_dist::check_integrity.
[[nodiscard]] Result<bool> add_file_hashes(const std::filesystem::path& iteration,
                                           const torch_dist::DistCheckpoint& store, int jobs,
                                           Run& run);

}  // namespace bv::cli

#pragma once
// A Megatron folder of ours, opened with the rules that it was written with.

#include <filesystem>

#include "ci/cli/session/session.hpp"
#include "core/checkpoint/megatron_folder.hpp"

namespace bv::cli {

/// The rules are those of a family, of rules.json in the folder, or of --rules.
/// Errors: those of checkpoint::open_megatron and of foreign rules.
[[nodiscard]] Result<checkpoint::MegatronFolder> open_megatron_folder(
    const std::filesystem::path& folder, const Options& options, const Library& library);

}  // namespace bv::cli

#pragma once
// Which iteration of a Megatron checkpoint counts.

#include <filesystem>
#include <optional>
#include <string>

#include "core/base/result.hpp"
#include "core/io/weights_listing.hpp"

namespace bv::io {

/// Files and folders of one rank each: mp_rank_00_001, mp_rank_00.safetensors,
/// pp0_tp1_ep0_etp0.safetensors.
[[nodiscard]] std::vector<std::string> rank_names(const FolderListing& listing);

inline constexpr const char* kIterationTracker = "latest_checkpointed_iteration.txt";

struct ChosenIteration {
  std::string folder;  // "iter_0000010", "release"
  std::string note;    // why it was chosen, and which others lie there
};
/// The iteration that latest_checkpointed_iteration.txt of `folder` names: "iter_0000010" for the
/// text 10, "release" for itself. Without such a file the last iteration that holds a checkpoint,
/// with a note; nullopt when there is none. Errors: CacheIncomplete when the file names one that
/// holds no checkpoint, or has another text: it says which ones are there; ReadFailed.
[[nodiscard]] Result<std::optional<ChosenIteration>> latest_iteration(
    const std::filesystem::path& folder);

}  // namespace bv::io

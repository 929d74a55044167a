#pragma once
// Which iteration of a Megatron checkpoint counts.

#include <filesystem>
#include <optional>
#include <string>

namespace bv::io {

/// The folder that latest_checkpointed_iteration.txt of `folder` names: "iter_0000010" for the text
/// 10, "release" for itself; nullopt without such a file or for another text.
[[nodiscard]] std::optional<std::string> latest_iteration(const std::filesystem::path& folder);

}  // namespace bv::io

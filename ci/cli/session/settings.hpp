#pragma once
// Where settings files lie.

#include <filesystem>
#include <vector>

#include "ci/cli/options/options.hpp"

namespace bv::cli {

/// Strongest first: bridge-verify.toml of the working folder or of the nearest folder above it, up
/// to the root of the repository (the folder with .git; outside of one only the working folder
/// counts), then bridge-verify/config.toml in XDG_CONFIG_HOME or ~/.config. An empty `folder` reads
/// nothing. Errors: BadSettings for a file that is there and cannot be read.
[[nodiscard]] Result<std::vector<SettingsText>> read_settings(const Environment& environment,
                                                              const std::filesystem::path& folder);

}  // namespace bv::cli

#pragma once
// Paths that the user named and that are not there: what stands beside them.

#include <filesystem>
#include <optional>

#include "ci/cli/options/options.hpp"
#include "core/base/result.hpp"

namespace bv::cli {

/// The path that may have been meant: each part that is not there replaced by the nearest name in
/// its folder. nullopt when the path is there, or nothing is near.
[[nodiscard]] std::optional<std::filesystem::path> similar_path(const std::filesystem::path& path);

/// The first part of a path that is not there: "a/b" of "a/b/c". The whole path when only its last
/// part is missing.
[[nodiscard]] std::filesystem::path first_missing(const std::filesystem::path& path);

/// Where the error is about an input that was named in `options` and is not there: with the path
/// that may have been meant, or the first part of it that is missing.
[[nodiscard]] Error with_similar_path(const Options& options, const Environment& environment,
                                      Error error);

}  // namespace bv::cli

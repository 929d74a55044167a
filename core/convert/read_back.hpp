#pragma once
// Files that were written, read again.

#include <filesystem>
#include <map>
#include <string>

#include "core/base/result.hpp"

namespace bv::convert {

/// XXH3-128 of every tensor of a finished file, by name, read from the disk's side. Errors: those
/// of io::Checkpoint::open.
[[nodiscard]] Result<std::map<std::string, std::string>> digests_of_file(
    const std::filesystem::path& path);

}  // namespace bv::convert

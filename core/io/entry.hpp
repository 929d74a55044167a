#pragma once
// Whether a folder has an entry: the question of who reads a file that need not be there.

#include <filesystem>

namespace bv::io {

/// True for a name that stands in its folder, whatever it leads to: a link to nothing, a folder in
/// a file's place and what may not be looked at are there, and reading them says what is wrong.
/// `std::filesystem::exists` follows links and calls all of these absent.
[[nodiscard]] bool has_entry(const std::filesystem::path& path);

}  // namespace bv::io

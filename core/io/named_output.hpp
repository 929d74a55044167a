#pragma once
// One file that the user named: a report, a dump, a certificate.

#include <filesystem>
#include <string_view>

#include "core/base/result.hpp"

namespace bv::io {

/// Where a link leads, and what it leads to, is kept: a regular file is replaced by rename,
/// complete or not at all, under the name that the links lead to; a character device or a pipe gets
/// the bytes; the file that stdout or stderr of this process is gets them behind what it has.
/// Errors: those of write_file; CannotWrite for a folder, a socket or a block device, and for a
/// pipe that nobody reads within two seconds.
[[nodiscard]] Status write_named(const std::filesystem::path& path, std::string_view text);

}  // namespace bv::io

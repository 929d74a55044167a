#pragma once
// Wording that the readers and writers of this folder share: untrusted names, counts, system
// errors.

#include <cstdint>
#include <filesystem>
#include <string>
#include <string_view>
#include <vector>

#include "core/base/result.hpp"

namespace bv::io {

/// Control characters and bytes that are not UTF-8 as escapes: paths and names may hold anything.
[[nodiscard]] std::string printable(std::string_view untrusted);
[[nodiscard]] std::string printable_path(const std::filesystem::path& path);
/// An untrusted name in double quotes, made printable, its middle cut out above 160 bytes.
[[nodiscard]] std::string in_quotes(std::string_view untrusted);
/// Like `thousands`, for sizes that a hostile header may put above 2^63.
[[nodiscard]] std::string grouped(std::uint64_t number);
/// At most `most` lines, then "and N more".
[[nodiscard]] std::vector<std::string> first_lines(const std::vector<std::string>& lines,
                                                   std::size_t most);

/// The error of a failed system call: PermissionDenied, DiskFull and OutOfMemory by their errno,
/// else `otherwise`. `doing` is a present participle: "writing".
[[nodiscard]] Error system_fault(int error_number, std::string_view doing,
                                 const std::filesystem::path& path, Code otherwise);

}  // namespace bv::io

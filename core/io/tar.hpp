#pragma once
// Small archives of regular files: POSIX ustar, the same bytes for the same files.

#include <map>
#include <string>
#include <string_view>

#include "core/base/result.hpp"

namespace bv::io {

/// Name -> contents, in the order of the names; no owner, no time. Names have at most 100 bytes.
[[nodiscard]] std::string tar(const std::map<std::string, std::string>& files);

/// Errors: ContentsChanged when the text is no such archive: a damaged header, anything but a
/// regular file with a plain name, a name twice, an end that is missing, bytes behind it.
[[nodiscard]] Result<std::map<std::string, std::string>> untar(std::string_view bytes,
                                                               const std::string& file);

}  // namespace bv::io

#pragma once
// Untrusted text made safe for a terminal.

#include <string>
#include <string_view>

namespace bv::reports {

/// bv::readable: escaped, and long names and texts lose their middle.
[[nodiscard]] std::string printable(std::string_view text, bool ascii);
/// Escaped and whole up to the longest path: paths, and commands that are copied.
[[nodiscard]] std::string printable_whole(std::string_view text, bool ascii);

/// Columns that `text` takes: code points of UTF-8.
[[nodiscard]] std::size_t columns(std::string_view text);

}  // namespace bv::reports

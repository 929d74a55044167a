#pragma once
// Untrusted text made safe for a terminal.

#include <string>
#include <string_view>

namespace bv::reports {

/// Control characters, bidirectional overrides and bytes that are no UTF-8 become visible escapes;
/// with `ascii` every character outside ASCII does. A tensor name can then neither move the cursor
/// nor hide text.
[[nodiscard]] std::string printable(std::string_view text, bool ascii);

/// Columns that `text` takes: code points of UTF-8.
[[nodiscard]] std::size_t columns(std::string_view text);

}  // namespace bv::reports

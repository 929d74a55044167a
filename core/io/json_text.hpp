#pragma once
// JSON strings as the reference writer of safetensors (serde_json) has them.

#include <string>
#include <string_view>

namespace bv::io {

/// Appends `text` with its quotes: only the quote, the backslash and control characters are
/// escaped, all else stays UTF-8.
void append_json_string(std::string& out, std::string_view text);

}  // namespace bv::io

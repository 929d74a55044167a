#pragma once
// Well-formed UTF-8, as the safetensors format and JSON demand it.

#include <cstddef>
#include <string_view>

namespace bv::io {

/// The first byte that is not part of well-formed UTF-8 (Unicode 15, table 3-7); npos when all are.
[[nodiscard]] std::size_t first_invalid_utf8(std::string_view text);

}  // namespace bv::io

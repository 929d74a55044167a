#pragma once
// UTF-8, character by character.

#include <cstddef>
#include <cstdint>
#include <string_view>

namespace bv::unicode {

struct Decoded {
  std::uint32_t point = 0;
  std::size_t bytes = 0;  // 0: the text does not begin with a character of UTF-8
};
/// The first character of a text that is not empty.
[[nodiscard]] Decoded decode(std::string_view text);

/// Characters that a terminal acts on instead of showing them: control characters, bidirectional
/// overrides, marks without a width.
[[nodiscard]] bool invisible(std::uint32_t point);

}  // namespace bv::unicode

#pragma once
// A JSON string as it stands in the text, and what its escapes say.

#include <cstddef>
#include <string>
#include <string_view>

namespace bv::io {

/// A scanned string: the bytes between its quotes, escapes checked but not replaced.
struct JsonString {
  std::string_view raw;
  bool has_escape = false;
  std::size_t position = 0;  // of the opening quote
};

/// The text of a scanned string, escapes replaced by UTF-8.
[[nodiscard]] std::string unescaped(const JsonString& text);
/// Whether the scanned string says `wanted`, escapes replaced.
[[nodiscard]] bool says(const JsonString& text, std::string_view wanted);

/// The value of a hexadecimal digit; 16 for any other character.
[[nodiscard]] unsigned hex_digit(char digit);
/// The value of the first four digits, which are hexadecimal.
[[nodiscard]] unsigned hex4_of(std::string_view digits);

}  // namespace bv::io

#pragma once
// Where a text stops being JSON, in plain words.

#include <cstddef>
#include <string>
#include <string_view>
#include <vector>

namespace bv {

struct JsonMistake {
  std::size_t line = 1;
  std::size_t column = 1;
  std::string what;                // "a comma stands after the last entry"
  std::vector<std::string> facts;  // the line, and a mark below the place

  /// "FILE:3:17"
  [[nodiscard]] std::string place(std::string_view file) const;
};

/// `at` is the first byte that cannot stand there; `reason` is what the parser says of it, taken
/// where the mistake is none of the usual ones: a comma after the last entry or missing between
/// two, a comment, single quotes, a word of Python, a file that ends too early.
[[nodiscard]] JsonMistake json_mistake(std::string_view text, std::size_t at,
                                       std::string_view reason);

/// The part of a message of nlohmann's parser that says what is wrong.
[[nodiscard]] std::string json_reason(std::string_view what);

}  // namespace bv

#pragma once
// Lines that fit a terminal: broken at blanks, never inside a word.

#include <cstddef>
#include <string>
#include <string_view>
#include <vector>

namespace bv::reports {

/// The narrowest width that text is fitted to; below it the terminal breaks lines itself.
inline constexpr std::size_t kWidthMin = 40;

/// `text` behind a lead of `column` columns that is already on the line. Later lines begin with
/// `hanging`. A line that fits stays as it is, blanks in a row included; a word longer than a line
/// stays whole. Without a final newline.
[[nodiscard]] std::string wrapped(std::string_view text, std::size_t column,
                                  std::string_view hanging, std::size_t width);

/// Parts joined by `gap`, as many on a line as fit; later lines are indented by `indent` blanks. A
/// part that is longer than a line is wrapped. Without a final newline.
[[nodiscard]] std::string flowed(const std::vector<std::string>& parts, std::string_view gap,
                                 std::size_t indent, std::size_t width);

}  // namespace bv::reports

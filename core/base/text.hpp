#pragma once
// Text of messages: suggestions, thousands, escapes, globs.

#include <concepts>
#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

namespace bv {

/// 1234567 -> "1,234,567"
[[nodiscard]] std::string thousands(std::int64_t number);
/// 1, "file" -> "1 file"; 1045, "tensor" -> "1,045 tensors"; 2, "entry" -> "2 entries"; 2, "branch"
/// -> "2 branches". The one place that decides between the two.
[[nodiscard]] std::string counted(std::uint64_t number, std::string_view noun);
template <std::signed_integral Number>
[[nodiscard]] std::string counted(Number number, std::string_view noun) {
  return (number < 0 ? "-" : "") + counted(number < 0 ? 0 - static_cast<std::uint64_t>(number)
                                                      : static_cast<std::uint64_t>(number),
                                           noun);
}
/// The same for a noun that is kept in the plural: 1, "HF tensors" -> "1 HF tensor"; 1, "parameters
/// and layers" -> "1 parameter or layer".
[[nodiscard]] std::string counted_plural(std::int64_t number, std::string_view nouns);
/// The noun alone as it stands after that number: "tensor", "tensors".
[[nodiscard]] std::string noun_after(std::uint64_t number, std::string_view noun);
/// 71903645408 -> "71.9 GB" (decimal units)
[[nodiscard]] std::string human_bytes(std::uint64_t count);
/// "[4, 1, 3]"; of a shape with many dimensions the first ones and their number.
[[nodiscard]] std::string shape_text(std::span<const std::int64_t> shape);
/// Untrusted text made safe for a terminal: control and format characters (bidirectional
/// overrides, zero-width spaces), line and paragraph separators and bytes that are not UTF-8 become
/// visible escapes, with `ascii` every character outside ASCII does. A tensor name can then neither
/// move the cursor nor hide text. Escaping twice changes nothing.
[[nodiscard]] std::string escaped(std::string_view untrusted, bool ascii = false);
/// The middle of what is longer than `bytes_max` becomes "...(N bytes)...".
[[nodiscard]] std::string bounded(std::string_view untrusted, std::size_t bytes_max);
/// Escaped, and short enough to be read: words above kWordShownMax bytes and texts above
/// kTextShownMax lose their middle. Untrusted text reaches people through here alone.
[[nodiscard]] std::string readable(std::string_view untrusted, bool ascii = false);
inline constexpr std::size_t kWordShownMax = 256;
inline constexpr std::size_t kTextShownMax = 2048;
/// Names in data that a machine reads (verdicts.json, inspect --json and --plain).
inline constexpr std::size_t kNameKeptMax = 1024;
/// The candidate at edit distance <= 2, or with `word` as unique prefix; never acted on, only
/// shown. None for a word of 1 to 3 letters.
[[nodiscard]] std::optional<std::string> nearest(std::string_view word,
                                                 std::span<const std::string> candidates);
/// `*` matches any run of characters, `?` one.
[[nodiscard]] bool glob_match(std::string_view pattern, std::string_view text);
[[nodiscard]] std::string join(std::span<const std::string> parts, std::string_view separator);
/// Numbers inside names by their size: "experts.2" before "experts.10".
[[nodiscard]] bool natural_less(std::string_view a, std::string_view b);
/// Cuts the middle out: "...layers.17.…experts.3.down_proj".
[[nodiscard]] std::string shortened(std::string_view name, std::size_t width, bool ascii);

}  // namespace bv

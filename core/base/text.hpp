#pragma once
// Text of messages: suggestions, thousands, escapes, globs.

#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

namespace bv {

/// 1234567 -> "1,234,567"
[[nodiscard]] std::string thousands(std::int64_t number);
/// 71903645408 -> "71.9 GB" (decimal units)
[[nodiscard]] std::string human_bytes(std::uint64_t count);
/// "[4, 1, 3]"
[[nodiscard]] std::string shape_text(std::span<const std::int64_t> shape);
/// Control characters and newlines as \xNN or \n, for untrusted names in messages.
[[nodiscard]] std::string escaped(std::string_view untrusted);
/// The candidate at edit distance <= 2, or with `word` as unique prefix; never acted on, only
/// shown.
[[nodiscard]] std::optional<std::string> nearest(std::string_view word,
                                                 std::span<const std::string> candidates);
/// `*` matches any run of characters, `?` one.
[[nodiscard]] bool glob_match(std::string_view pattern, std::string_view text);
[[nodiscard]] std::string join(std::span<const std::string> parts, std::string_view separator);
/// Cuts the middle out: "...layers.17.…experts.3.down_proj".
[[nodiscard]] std::string shortened(std::string_view name, std::size_t width, bool ascii);

}  // namespace bv

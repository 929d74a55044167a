#pragma once
// Names with wildcards, as bridges upstream write them: `*` takes digits, `**` anything.

#include <optional>
#include <string>
#include <string_view>
#include <vector>

namespace bv::foreign {

/// Of one name.
inline constexpr std::size_t kWildcardsMax = 8;

/// Anchored at both ends; the texts of the wildcards from the left, or nullopt.
[[nodiscard]] std::optional<std::vector<std::string>> match_pattern(std::string_view pattern,
                                                                    std::string_view name);
/// Fills `**` first, then `*`, each from the left, with the captures in their order (the semantics
/// upstream).
[[nodiscard]] std::string fill_pattern(std::string_view pattern,
                                       const std::vector<std::string>& captures);
[[nodiscard]] std::size_t wildcards(std::string_view pattern);
/// Both `*` and `**` in one pattern: `**` are filled first, so captures change places.
[[nodiscard]] bool mixes_wildcards(std::string_view pattern);

}  // namespace bv::foreign

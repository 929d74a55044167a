#pragma once
// Names with wildcards, as bridges upstream write them: `*` takes digits, `**` anything.

#include <cstddef>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

namespace bv::foreign {

/// Of one name.
inline constexpr std::size_t kWildcardsMax = 8;

/// Anchored at both ends; the texts of the wildcards from the left, or nullopt. Every wildcard is
/// as long as it can be, the first one first. Time and memory are linear in the name.
[[nodiscard]] std::optional<std::vector<std::string>> match_pattern(std::string_view pattern,
                                                                    std::string_view name);
/// Fills `**` first, then `*`, each from the left, with the captures in their order (the semantics
/// upstream). A pattern of computed numbers (numbered.hpp) stays as it is where they cannot be
/// computed: no tensor has that name.
[[nodiscard]] std::string fill_pattern(std::string_view pattern,
                                       const std::vector<std::string>& captures);
[[nodiscard]] std::size_t wildcards(std::string_view pattern);
[[nodiscard]] bool has_double_star(std::string_view pattern);
/// Both `*` and `**` in one pattern: `**` are filled first, so captures change places.
[[nodiscard]] bool mixes_wildcards(std::string_view pattern);

/// Runs of digits and stars as one `#`. A pattern without `**` takes only names that have its
/// skeleton.
[[nodiscard]] std::string skeleton(std::string_view name);
/// Numbers of layers and experts as `*`: parts of the name that are a number, and those behind
/// weight and bias. Names that differ in such numbers only share it.
[[nodiscard]] std::string starred(std::string_view name);

}  // namespace bv::foreign

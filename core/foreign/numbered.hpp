#pragma once
// HF names whose numbers are computed: "mtp.layers.{c0 * 2 + c1}.norm.weight", where c0, c1, ...
// are the texts that the wildcards of the Megatron name take, from the left.

#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "core/base/result.hpp"

namespace bv::foreign {

[[nodiscard]] bool is_numbered(std::string_view pattern);
/// Its numbers as `*`; any other pattern as it is.
[[nodiscard]] std::string starred_numbers(std::string_view pattern);

/// The numbers of the captures that it is made of, ascending: {0, 1}.
[[nodiscard]] std::vector<std::size_t> captures_in(std::string_view pattern);

/// The name; nullopt when a number is negative or no integer, or a capture is no number.
[[nodiscard]] std::optional<std::string> fill_numbers(std::string_view pattern,
                                                      const std::vector<std::string>& captures);

/// Does each capture follow from the numbers of a name? Not of c0 * 2 + c1.
[[nodiscard]] bool can_be_solved(std::string_view pattern);
/// The captures that make the name with these numbers (the texts that starred_numbers takes);
/// nullopt when there are none, or it cannot be solved.
[[nodiscard]] std::optional<std::vector<std::string>> solve_numbers(
    std::string_view pattern, const std::vector<std::string>& numbers);

/// Puts the expressions into the braces of a pattern: "l.{a}.x" with a = "c0 + 8" -> "l.{c0 +
/// 8}.x". Errors: RulesInvalid without a place: braces that do not pair up or name nothing, an
/// expression that nothing uses or that is none.
[[nodiscard]] Result<std::string> numbered_pattern(
    std::string_view pattern, const std::vector<std::pair<std::string, std::string>>& expressions);

}  // namespace bv::foreign

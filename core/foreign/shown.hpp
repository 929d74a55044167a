#pragma once
// Untrusted names in messages.

#include <optional>
#include <string>
#include <string_view>
#include <vector>

namespace bv::foreign {

struct ForeignRule;

/// A name of a rules file or a checkpoint as a message shows it: control characters escaped, the
/// middle of a long one cut out.
[[nodiscard]] std::string shown(std::string_view name);
/// "rule r7"
[[nodiscard]] std::string named(const ForeignRule& rule);
/// "rules r3 and r7 both make NAME"
[[nodiscard]] std::string twins_text(const ForeignRule& first, const ForeignRule& second);
/// The candidate that is meant, as `nearest`; none for a word that is too long to be a misspelling.
[[nodiscard]] std::optional<std::string> meant(std::string_view word,
                                               const std::vector<std::string>& candidates);

}  // namespace bv::foreign

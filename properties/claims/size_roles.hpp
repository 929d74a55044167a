#pragma once
// What the sizes of a family's rules are to a small model of the same kind.

#include <optional>
#include <string_view>

namespace bv::claims {

enum class SizeRole {
  Width,       // shrinks
  Vocabulary,  // shrinks to what the ranks cut
  Experts,     // shrinks to what the ranks and the router want
  Layers,      // shrinks to one of each kind
  Kept,        // heads, groups, taps, labels: the structure itself
};
/// nullopt for a symbol that no built-in family has: it keeps its number.
[[nodiscard]] std::optional<SizeRole> role_of(std::string_view symbol);

}  // namespace bv::claims

#pragma once
// What changed between two runs, as text.

#include <string>

#include "core/verdict/verdict.hpp"
#include "reports/style.hpp"

namespace bv::reports {

/// A heading and the ids for each kind of change, the worst first, at most 20 of a kind; then how
/// many verdicts are unchanged.
[[nodiscard]] std::string render_changes(const Run& before, const Run& after,
                                         const TextStyle& style);

}  // namespace bv::reports

#pragma once
// Equal causes are told once: verdicts that are not green, grouped.

#include <vector>

#include "core/verdict/verdict.hpp"
#include "reports/error_text.hpp"

namespace bv::reports {

/// Verdicts with one code, claim, rule and title (numbers apart); worst outcomes first, then in the
/// run's order.
struct Cause {
  std::vector<const Verdict*> verdicts;
};
[[nodiscard]] std::vector<Cause> causes(const Run& run);

/// The block of a cause: its first verdict, and what the others add.
[[nodiscard]] Block block_of(const Cause& cause);

}  // namespace bv::reports

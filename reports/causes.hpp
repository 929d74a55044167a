#pragma once
// One block a cause: verdicts that are not green, grouped.

#include <vector>

#include "core/verdict/verdict.hpp"
#include "reports/error_text.hpp"

namespace bv::reports {

/// Verdicts with one code and claim whose titles, reasons and remedies are equal apart from names
/// and numbers; refuted ones also with one kind. Worst outcomes first, then in the run's order.
struct Cause {
  std::vector<const Verdict*> verdicts;
};
[[nodiscard]] std::vector<Cause> causes(const Run& run);

/// The block of a cause: its first verdict, and the layouts and subjects of the others. No name,
/// and no line of found and wanted, is printed twice.
[[nodiscard]] Block block_of(const Cause& cause);

}  // namespace bv::reports

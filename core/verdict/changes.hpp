#pragma once
// What is new in a run, compared with an earlier one of the same bridge.

#include <string>
#include <string_view>
#include <vector>

#include "core/verdict/verdict.hpp"

namespace bv {

/// How a fault or a proof of one run stands in a later one.
enum class Change {
  NewlyRefuted,
  LostSubject,
  EvidenceLost,
  StillRefuted,
  NewlyUndecided,
  Fixed,
  EvidenceGained,
  NewSubject,
  Unchanged
};
[[nodiscard]] std::string_view name(Change change);

/// Verdicts of two runs with one id; one of them is missing where a subject is new or lost.
struct Changed {
  Change change = Change::Unchanged;
  std::string id;
  const Verdict* before = nullptr;
  const Verdict* after = nullptr;
};
/// Every verdict of both runs, the worst changes first, then in the order of `after`.
[[nodiscard]] std::vector<Changed> changes(const Run& before, const Run& after);

/// The same as rows of a report: all but the unchanged ones.
[[nodiscard]] Baseline baseline_of(const Run& before, const Run& after, std::string ref);

}  // namespace bv

#pragma once
// Green verdicts that differ in their layouts alone: thousands in a run, one line in a report.

#include <vector>

#include "core/verdict/verdict.hpp"

namespace bv {

/// The verdicts with such ones side by side, at the place of the first; all others keep their
/// order. Every report is made of a gathered run, so that it is the same one when it is made again
/// from verdicts.json.
[[nodiscard]] std::vector<Verdict> gathered(std::vector<Verdict> verdicts);

/// Behind the last of the verdicts from `begin` on that are green, stand on a layout and differ
/// from the one at `begin` in nothing else; `begin + 1` where the next one differs.
[[nodiscard]] std::size_t end_of_group(const std::vector<Verdict>& verdicts, std::size_t begin);

}  // namespace bv

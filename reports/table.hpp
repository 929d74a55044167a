#pragma once
// The table of claims, and what its letters and numbers mean.

#include <string>

#include "core/verdict/verdict.hpp"
#include "reports/style.hpp"

namespace bv::reports {

/// One row a claim: how many subjects, the result, the evidence, what was claimed. Then what the
/// letters mean and what was counted. "" for a run without claims. No line is wider than the
/// style's width, from 40 columns on.
[[nodiscard]] std::string claim_table(const Run& run, const TextStyle& style);

}  // namespace bv::reports

#pragma once
// What a run must be before others may rely on it unseen.

#include <string>
#include <vector>

#include "core/verdict/verdict.hpp"

namespace bv {

/// Why a run is no certificate, one sentence each; empty when it is one: green with nothing that
/// weakens it, every byte of the model moved and compared, every layout up to 8 ranks, and each of
/// the claims names, shapes, coverage, inverse, placement and bytes with at least one case.
[[nodiscard]] std::vector<std::string> certificate_gaps(const Run& run);

}  // namespace bv

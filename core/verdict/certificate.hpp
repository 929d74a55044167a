#pragma once
// What a run must be before others may rely on it unseen.

#include <string>
#include <string_view>
#include <vector>

#include "core/verdict/verdict.hpp"

namespace bv {

/// Facts of a run (Run::detected) that say of which model it speaks: fingerprints over every byte
/// of its tensors, and of its config.json.
inline constexpr std::string_view kContentsFact = "contents";
inline constexpr std::string_view kConfigFact = "config";
/// The value of a fact; "" when the run does not have it.
[[nodiscard]] std::string fact_of(const Run& run, std::string_view what);

/// Why a run is no certificate, one sentence each; empty when it is one: green with nothing that
/// weakens it, every byte of the model moved and compared, every layout up to 8 ranks, and each of
/// the claims names, shapes, coverage, inverse, placement and bytes with at least one case, and the
/// two facts above.
[[nodiscard]] std::vector<std::string> certificate_gaps(const Run& run);

}  // namespace bv

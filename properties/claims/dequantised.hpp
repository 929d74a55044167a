#pragma once
// Weights that are stored with scales: is each what its bits and scales say? Part of the claim
// values.

#include <vector>

#include "properties/claims/subject.hpp"

namespace bv::claims {

/// Weights that are dequantised, of all parts.
[[nodiscard]] std::int64_t count_dequantised(const Subject& subject);
/// One verdict for each scheme whose weights hold, and one for each weight that differs from the
/// oracle. All elements of a small weight are looked at, else ranges that are spread over it.
/// Without bytes: Inconclusive.
[[nodiscard]] std::vector<Verdict> check_dequantised(const Subject& subject);

}  // namespace bv::claims

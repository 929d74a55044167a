#pragma once
// Which scale a merge took that is not base plus adapter: measured, then compared with the usual
// mistakes.

#include <string>
#include <vector>

#include "properties/claims/merge_terms.hpp"

namespace bv::claims {

/// found - base = factor * (s * B * A) by least squares over all elements that the terms reach.
struct ScaleFit {
  double factor = 0;
  double left_over = 1;  // norm of what the fit leaves, as a part of the norm of found - base
};
/// Without DoRA, whose sums are not linear in the scale.
[[nodiscard]] ScaleFit fit_scale(const TwoTensors& sides, const std::vector<Term>& terms);

/// A sentence that names the scale which fits: a known mistake where it explains every element,
/// else what was measured where that explains most of it. "" when the scale is not the reason.
[[nodiscard]] std::string scale_found(const TwoTensors& sides, const std::vector<Term>& terms);

}  // namespace bv::claims

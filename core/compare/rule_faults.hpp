#pragma once
// What one parameter must hold, and what it would hold if one known fault had happened: both from
// the boxes of its rule.

#include "core/compare/diff.hpp"

namespace bv::compare {

/// What `target` must hold, from the HF tensors `sources` in the rule's order, stored as `dtype`.
/// `plan` must outlive the view.
[[nodiscard]] View wanted_view(const plan::Plan& plan, const plan::Target& target,
                               const std::vector<checkpoint::SourceTensor>& sources, DType dtype);

/// The faults that the rule makes possible for a tensor of the shape that was found.
[[nodiscard]] std::vector<Candidate> rule_faults(
    const plan::Plan& plan, const plan::Target& target,
    const std::vector<checkpoint::SourceTensor>& sources, DType dtype, const TensorSpec& found);

}  // namespace bv::compare

#pragma once
// What one parameter must hold, and what it would hold if one known fault had happened: both from
// the boxes of its rule.

#include "core/exec/diff.hpp"

namespace bv::exec {

/// What `target` must hold, from the HF tensors `sources` in the rule's order, stored as `dtype`.
/// `plan` must outlive the view.
[[nodiscard]] View wanted_view(const Plan& plan, const Target& target,
                               const std::vector<SourceTensor>& sources, DType dtype);

/// The faults that the rule makes possible for a tensor of the shape that was found.
[[nodiscard]] std::vector<Candidate> rule_faults(const Plan& plan, const Target& target,
                                                 const std::vector<SourceTensor>& sources,
                                                 DType dtype, const TensorSpec& found);

}  // namespace bv::exec

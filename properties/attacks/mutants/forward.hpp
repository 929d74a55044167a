#pragma once
// The forward claim of mutants: the whole model that a fault is planted into, computed by the two
// forward oracles from the checkpoint and from the shards that the faulty bridge left behind.

#include "oracles/forward/forward.hpp"
#include "properties/attacks/mutants/judge.hpp"

namespace bv::mutants {

/// What answers the forward claim for mutants of this case on this layout: `program` is the right
/// one of the whole case. Empty for a family without a forward form. The function keeps its last
/// answer, so it belongs to one thread. Errors: those of the oracles on the right shards;
/// ForwardDiffers when the right bridge computes something else.
[[nodiscard]] Result<RunForward> forward_of(const Case& one, const Program& program,
                                            const oracle::forward::Functions& oracle);

}  // namespace bv::mutants

#pragma once
// Two adapters of one base, such as an export and what it was exported from: do they add the same?

#include <vector>

#include "core/lora/adapter.hpp"
#include "core/verdict/verdict.hpp"

namespace bv::claims {

/// One verdict for each tensor (or expert of a stack) that either adapter changes, gathered by kind
/// of fault: Held when scale and factors are equal bit for bit, or when every row of the two deltas
/// is, computed in float64; Refuted with the first row that is not, and the row of the other
/// adapter that stands there (PERM), or that one of the two lacks a pair, has another scale, or has
/// another rank. Both were fitted to the base and have no faults.
[[nodiscard]] std::vector<Verdict> compare_adapters(const lora::Adapter& found,
                                                    const lora::Adapter& wanted);

}  // namespace bv::claims

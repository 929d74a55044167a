#pragma once
// Causes that no rows have to be looked up for: another type, values in the padding.

#include <optional>

#include "core/compare/diff.hpp"

namespace bv::compare {

/// The tensor has another type than wanted, and its bits or values are the wanted ones.
[[nodiscard]] Explanation explain_dtype(const Subject& subject, const Difference& difference);

/// All wrong rows pad the vocabulary: no HF row is in them. `wanted` is the view of the subject.
[[nodiscard]] std::optional<Explanation> explain_padding(const Subject& subject, const View& wanted,
                                                         const Difference& difference);

}  // namespace bv::compare

#pragma once
// Where the rows of a wrong tensor came from: looked up among all rows that were wanted.

#include "core/compare/diff.hpp"
#include "core/compare/hash_rows.hpp"

namespace bv::compare {

/// What B holds in the place of the difference's subject, or the stray itself.
[[nodiscard]] const checkpoint::SourceTensor& found_of(const Comparison& comparison,
                                                       const Difference& difference);

/// Takes the place of the explanation when the table explains a larger share of the rows.
void look_up_rows(const Comparison& comparison, const RowTable& table, Difference& difference);

}  // namespace bv::compare

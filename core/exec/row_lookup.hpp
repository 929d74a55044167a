#pragma once
// Where the rows of a wrong tensor came from: looked up among all rows that were wanted.

#include "core/exec/diff.hpp"
#include "core/exec/hash_rows.hpp"

namespace bv::exec {

/// What B holds in the place of the difference's subject, or the stray itself.
[[nodiscard]] const SourceTensor& found_of(const Comparison& comparison,
                                           const Difference& difference);

/// Takes the place of the explanation when the table explains a larger share of the rows.
void look_up_rows(const Comparison& comparison, const RowTable& table, Difference& difference);

}  // namespace bv::exec

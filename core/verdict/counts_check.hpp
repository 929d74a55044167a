#pragma once
// A verdicts file holds the verdicts that it was written with.

#include "core/verdict/json_fields.hpp"
#include "core/verdict/verdict.hpp"

namespace bv {

/// Refuses a file whose verdicts are not as many as its result states (one was taken out or
/// turned), or that says of itself what its verdicts do not say: status and result, subjects of
/// claims, layouts whose sizes are not those of their ids or that no row names, cases and evidence
/// that an outcome cannot have, waivers that took other verdicts, verdicts of no claim. The run is
/// read in whole.
void check_counts(Fields& fields, const Json& root, const Run& run);

}  // namespace bv

#pragma once
// A verdicts file holds the verdicts that it was written with.

#include "core/verdict/json_fields.hpp"
#include "core/verdict/verdict.hpp"

namespace bv {

/// Refuses a file whose verdicts are not as many as its result states: one was taken out or turned.
void check_counts(Fields& fields, const Json& root, const Run& run);

}  // namespace bv

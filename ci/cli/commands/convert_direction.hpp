#pragma once
// Which options of convert belong to which direction.

#include "ci/cli/options/options.hpp"
#include "core/base/result.hpp"
#include "core/verdict/verdict.hpp"

namespace bv::cli {

/// An option that the direction cannot follow would look as if it had been followed. From the
/// environment it may be meant for other commands: then it is a note of the run. Errors: Conflict,
/// UnknownOption.
[[nodiscard]] Status check_direction(const Options& options, Run& run);

}  // namespace bv::cli

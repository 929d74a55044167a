#pragma once
// The verdict of a world: what its processes found, each on its own copy and its own device.

#include <string>

#include "core/comm/link.hpp"
#include "core/verdict/verdict.hpp"

namespace bv::cli {

/// Makes the run of this process that of the world (unite, core/verdict/unite.hpp). All call it;
/// claims that need the forward oracles are those of rank 0. Nothing to do without a world. Errors:
/// those of comm::exchanged.
[[nodiscard]] Status unite_in(comm::Link* world, Run& run);

}  // namespace bv::cli

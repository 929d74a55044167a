#pragma once
// Commands in a world of processes that do not divide their work.

#include "ci/cli/command.hpp"

namespace bv::cli {

/// Several processes would each do all of it, and write one output. Errors: Conflict; those of
/// comm::launch_from.
[[nodiscard]] Status check_alone(const Context& context, const Options& options,
                                 const Command& command);

/// The process that writes the reports of a world, or the only one.
[[nodiscard]] bool writes_for_all(const Context& context);

}  // namespace bv::cli

#pragma once
// Which commands divide their work in a world of processes, and those that do not.

#include "ci/cli/command.hpp"

namespace bv::cli {

/// Does the command do its work together with the other processes of a world?
[[nodiscard]] bool divides(const Options& options, const Command& command);

/// Several processes would each do all of it, and write one output. Errors: Conflict; those of
/// comm::launch_from.
[[nodiscard]] Status check_alone(const Context& context, const Options& options,
                                 const Command& command);

/// The process that writes the reports of a world, or the only one.
[[nodiscard]] bool writes_for_all(const Context& context);

}  // namespace bv::cli

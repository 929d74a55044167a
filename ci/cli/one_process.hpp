#pragma once
// Which commands divide their work in a world of processes, and those that do not.

#include "ci/cli/command.hpp"

namespace bv::cli {

/// Does the command do its work together with the other processes of a world?
[[nodiscard]] bool divides(const Options& options, const Command& command);

/// The end of a command that has not begun: the others of its world need not wait for it. Returns
/// the exit code.
[[nodiscard]] int end_before_work(Context& context, const Options& options, const Error& why);

/// Several processes would each do all of it, and write one output. Errors: Conflict; those of
/// comm::launch_from.
[[nodiscard]] Status check_alone(const Context& context, const Options& options,
                                 const Command& command);

/// The process that writes the reports of a world, or the only one.
[[nodiscard]] bool writes_for_all(const Context& context);

}  // namespace bv::cli

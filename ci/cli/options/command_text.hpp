#pragma once
// Options back to words: the command lines that we print to be copied.

#include <functional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "ci/cli/options/options.hpp"

namespace bv::cli {

/// Which of the given options a printed command keeps.
using Keep = std::function<bool(const OptionSpec&)>;

/// The words that parse to the same options, "bridge-verify" not among them: command, operands,
/// options. Values of the environment and of settings files become explicit. Operands that look
/// like options stand last, after "--".
[[nodiscard]] std::vector<std::string> command_words(const Options& options, const Keep& keep);

/// "bridge-verify check --model 'my model'"
[[nodiscard]] std::string shell_line(std::span<const std::string> words);

/// The command that repeats what a verdict says: `command` with the options that it can use and
/// that decide what is found (not what fails the run, nor how it is shown), asked of this claim on
/// this layout alone. An empty layout keeps the layouts of the run.
[[nodiscard]] std::string replay_line(const Options& options, std::string_view command,
                                      std::string_view claim, std::string_view layout);

/// `command` with every given option that it can use, except those of the output.
[[nodiscard]] std::string next_line(const Options& options, std::string_view command);

}  // namespace bv::cli

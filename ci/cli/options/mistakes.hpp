#pragma once
// What a command line can have meant.

#include <string>

#include "ci/cli/options/options.hpp"

namespace bv::cli {

/// A verb of `command` that is misspelt; other words are the command's to judge. `command` may be
/// null. Errors: UnknownOption.
[[nodiscard]] Status check_verb(const CommandName* command, const Options& options);

/// The command, or its verb, has no such option.
[[nodiscard]] Error not_usable(const CommandName* command, const Options& options,
                               const OptionSpec& spec, const std::string& written);

}  // namespace bv::cli

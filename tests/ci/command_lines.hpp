#pragma once
// Printed command lines, read as a shell and the option parser read them.

#include <string>
#include <vector>

#include "ci/cli/command.hpp"
#include "tests/support/shell_words.hpp"

namespace bv::cli::testing {

using support::shell_words;

inline Result<Parsed> parse_line(const std::vector<std::string>& arguments,
                                 const Environment& environment = {}) {
  std::vector<CommandName> names;
  for (const Command& command : commands()) {
    names.push_back(command.name);
  }
  return parse_options(arguments, environment, names);
}

}  // namespace bv::cli::testing

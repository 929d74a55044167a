#pragma once
// Runs one command line in memory.

#include <gtest/gtest.h>

#include <string>
#include <vector>

#include "ci/cli/command.hpp"

namespace bv::support {

/// How a command line ended that ran in memory.
struct Said {
  int code = -1;
  std::string out;
  std::string err;
  int writes = 0;  // to stdout
};

/// `body` with a context of `arguments` and fixed times; run_command_line is a body.
template <class Body>
Said in_memory(std::vector<std::string> arguments, const cli::Environment& environment,
               const Body& body) {
  Said said;
  cli::Streams streams(
      [&said](std::string_view text) {
        said.out += text;
        ++said.writes;
        return true;
      },
      [&said](std::string_view text) { said.err += text; });
  cli::Context context{.streams = streams,
                       .environment = environment,
                       .seconds = [] { return 0.25; },
                       .started = [] { return std::string("2026-01-01T00:00:00Z"); },
                       .argv0 = "bridge-verify",
                       .arguments = std::move(arguments)};
  said.code = body(context);
  EXPECT_TRUE(streams.flush());
  return said;
}

inline Said run_line(std::vector<std::string> arguments,
                     const cli::Environment& environment = {{"LANG", "C.UTF-8"}}) {
  return in_memory(std::move(arguments), environment, cli::run_command_line);
}

}  // namespace bv::support

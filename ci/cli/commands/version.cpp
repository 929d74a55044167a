#include <fmt/format.h>

#include "ci/cli/command.hpp"
#include "ci/cli/session/finish.hpp"

namespace bv::cli {

int run_version(Context& context, const Options&) {
  const Tool tool = this_tool();
  context.streams.out(
      fmt::format("bridge-verify {}\ncommit    {}\nbuild     {}\ncompiler  {}\nschemas   "
                  "bridge-verdicts/1 bridge-headers/1\n",
                  tool.version, tool.commit, tool.build, tool.compiler));
  return 0;
}

}  // namespace bv::cli

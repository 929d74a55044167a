#include <fmt/format.h>

#include "ci/cli/command.hpp"
#include "ci/cli/completion.hpp"
#include "core/base/text.hpp"

namespace bv::cli {

int run_completion(Context& context, const Options& options) {
  const std::string shell = options.operands.size() == 1 ? options.operands.front() : "";
  if (shell == "bash" || shell == "zsh" || shell == "fish") {
    context.streams.out(shell == "bash"  ? bash_completion()
                        : shell == "zsh" ? zsh_completion()
                                         : fish_completion());
    return 0;
  }
  return report_error(
      context, options,
      fail(Code::BadValue, options.operands.empty()
                               ? std::string("completion needs a shell")
                               : fmt::format("there is no completion for \"{}\"",
                                             escaped(join(options.operands, " "))))
          .pair(options.operands.empty() ? "nothing" : escaped(shell), "bash, zsh or fish")
          .advise("bridge-verify completion bash"));
}

}  // namespace bv::cli

#include <fmt/format.h>

#include "ci/cli/command.hpp"
#include "core/base/text.hpp"

namespace bv::cli {

int run_help(Context& context, const Options& options) {
  const std::string word = options.operands.empty() ? "" : options.operands.front();
  const bool known = word.empty() || word == "options" || find_command(word) != nullptr;
  if (options.operands.size() > 1 || !known) {
    std::vector<std::string> names = {"options"};
    for (const Command& command : commands()) {
      names.emplace_back(command.name.name);
    }
    const auto near = nearest(word, names);
    const std::string all = join(options.operands, " ");
    return report_error(
        context, options,
        fail(Code::UnknownOption, fmt::format("there is no command \"{}\"", escaped(all)))
            .advise(near ? "bridge-verify help " + *near
                         : "bridge-verify help lists every command"));
  }
  context.streams.out(help_text(word));
  return 0;
}

}  // namespace bv::cli

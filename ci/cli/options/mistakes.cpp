#include "ci/cli/options/mistakes.hpp"

#include <fmt/format.h>

#include <algorithm>

#include "core/base/text.hpp"

namespace bv::cli {

Status check_verb(const CommandName* command, const Options& options) {
  const auto verbs = command == nullptr ? std::vector<std::string>() : words_of(command->verbs);
  const std::string word = options.operands.empty() ? "" : options.operands.front();
  const bool known = std::find(verbs.begin(), verbs.end(), word) != verbs.end();
  const auto near = known ? std::nullopt : nearest(word, verbs);
  if (!near) {
    return Done{};
  }
  return fail(Code::UnknownOption,
              fmt::format("{} has no subcommand \"{}\"", options.command, escaped(word)))
      .pair(escaped(word), join(verbs, ", "))
      .advise(fmt::format("did you mean bridge-verify {} {}?", options.command, *near));
}

Error not_usable(const CommandName* command, const Options& options, const OptionSpec& spec,
                 const std::string& written) {
  std::vector<std::string> users = words_of(spec.commands);
  for (std::string& user : users) {
    std::replace(user.begin(), user.end(), ':', ' ');
  }
  const std::string key =
      command == nullptr ? options.command : command_key(*command, options.operands);
  std::string name = key;
  std::replace(name.begin(), name.end(), ':', ' ');
  const bool place = spec.name == "megatron" && usable_by(*find_option("model"), key);
  return fail(Code::UnknownOption, fmt::format("{} cannot use {}", name, escaped(written)))
      .pair("command " + name,
            users.size() == 1 ? "command " + users.front() : "one of " + join(users, ", "))
      .advise(place ? "give the checkpoint itself with --model"
                    : "bridge-verify help " + options.command);
}

}  // namespace bv::cli

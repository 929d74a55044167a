#include "ci/cli/one_process.hpp"

#include <fmt/format.h>

#include "core/base/text.hpp"
#include "core/comm/launch.hpp"

namespace bv::cli {

namespace {

/// Does the command do its work together with the other processes of a world?
bool divides(const Options& options, const Command& command) {
  if (command.name.name != std::string_view("lora") || options.operands.empty()) {
    return command.divides;
  }
  return options.operands.front() != "unpack";
}

/// What of a command line one process does, as the user wrote it: "lora unpack", "--like". "" when
/// all do it together, or each for itself: what only says something is said by all.
std::string work_of_one(const Options& options, const Command& command) {
  const std::string_view word = command.name.name;
  if (divides(options, command)) {
    const bool converts = word == "convert";
    return converts && options.to == "torch_dist" ? "--to torch_dist"
           : converts && !options.like.empty()    ? "--like"
                                                  : "";
  }
  const bool does_something = command.concludes || word == "survey" || word == "certify" ||
                              !options.out.empty() || !options.dump_headers.empty();
  const bool verb = word == "lora" && !options.operands.empty();
  return does_something
             ? fmt::format("{}{}", word, verb ? " " + escaped(options.operands.front()) : "")
             : "";
}

}  // namespace

Status check_alone(const Context& context, const Options& options, const Command& command) {
  const std::string work = work_of_one(options, command);
  if (work.empty()) {
    return Done{};
  }
  BV_TRY(launch, comm::launch_from([&](std::string_view name) {
           return std::string(variable(context.environment, name));
         }));
  if (!launch) {
    return Done{};
  }
  return fail(Code::Conflict, fmt::format("{} is the work of one process, and this world has {}",
                                          work, launch->size))
      .advise("run it alone: " + launch->alone);
}

bool writes_for_all(const Context& context) {
  const auto launch = comm::launch_from(
      [&](std::string_view name) { return std::string(variable(context.environment, name)); });
  return !launch || !*launch || (*launch)->rank == 0;
}

}  // namespace bv::cli

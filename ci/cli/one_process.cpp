#include "ci/cli/one_process.hpp"

#include <fmt/format.h>

#include "ci/cli/session/world.hpp"
#include "core/base/text.hpp"
#include "core/comm/launch.hpp"

namespace bv::cli {

bool divides(const Options& options, const Command& command) {
  if (command.name.name != std::string_view("lora") || options.operands.empty()) {
    return command.divides;
  }
  const std::string& verb = options.operands.front();
  return verb == "check" || verb == "convert" || verb == "merge";
}

int end_before_work(Context& context, const Options& options, const Error& why) {
  const Command* command = find_command(options.command);
  return command != nullptr && divides(options, *command) ? decline_world(context, options, why)
                                                          : report_error(context, options, why);
}

Status check_alone(const Context& context, const Options& options, const Command& command) {
  const std::string_view word = command.name.name;
  const bool does_something = command.concludes || word == "survey" || word == "certify" ||
                              !options.out.empty() || !options.dump_headers.empty();
  if (divides(options, command) || !does_something) {
    return Done{};
  }
  BV_TRY(launch, comm::launch_from([&](std::string_view name) {
           return std::string(variable(context.environment, name));
         }));
  if (!launch) {
    return Done{};
  }
  const bool verb = word == "lora" && !options.operands.empty();
  return fail(Code::Conflict,
              fmt::format("{}{} is the work of one process, and this world has {}", word,
                          verb ? " " + escaped(options.operands.front()) : "", launch->size))
      .advise("run it alone: " + launch->alone);
}

bool writes_for_all(const Context& context) {
  const auto launch = comm::launch_from(
      [&](std::string_view name) { return std::string(variable(context.environment, name)); });
  return !launch || !*launch || (*launch)->rank == 0;
}

}  // namespace bv::cli

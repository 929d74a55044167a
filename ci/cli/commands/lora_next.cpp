#include "ci/cli/commands/lora_next.hpp"

#include <fmt/format.h>

#include <algorithm>

#include "ci/cli/options/command_text.hpp"

namespace bv::cli {

void add_next_of_lora(const Options& options, std::string_view verb, const NextOptions& first,
                      KeptRanks ranks, std::string_view note, Run& run) {
  if (run.stopped || conclude(run).exit_code != 0) {
    return;
  }
  const std::string key = fmt::format("lora:{}", verb);
  Options next = options;
  next.command = "lora";
  next.operands = {std::string(verb)};
  next.given.clear();
  const auto is_first = [&](std::string_view name) {
    return std::any_of(first.begin(), first.end(),
                       [&](const auto& one) { return one.first == name; });
  };
  for (const auto& [name, value] : first) {
    next.given.push_back({name, value, Origin::CommandLine, ""});
  }
  for (const Setting& one : options.given) {
    const OptionSpec& spec = *find_option(one.name);
    const bool of_ranks = spec.group == "layout" || spec.name == "alpha";
    if (!is_first(one.name) && usable_by(spec, key) && spec.group != "output" &&
        spec.name != "jobs" && (ranks == KeptRanks::Yes || !of_ranks)) {
      next.given.push_back(one);
    }
  }
  run.next = shell_line(command_words(next, [](const OptionSpec&) { return true; }));
  run.next_note = note;
}

}  // namespace bv::cli

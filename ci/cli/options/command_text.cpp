#include "ci/cli/options/command_text.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <array>

#include "core/base/shell.hpp"

namespace bv::cli {
namespace {

/// Options that say which claims and layouts a run looks at.
constexpr std::array<std::string_view, 12> kSpread = {"only",    "skip",      "level", "layout",
                                                      "layouts", "max-ranks", "tp",    "pp",
                                                      "ep",      "etp",       "vpp",   "cp"};

bool shows_only(const OptionSpec& spec) {
  return spec.group == "output" || spec.name == "jobs" || spec.name == "patience";
}

void add_option(const Setting& setting, const OptionSpec& spec, std::vector<std::string>& words) {
  const std::string name = "--" + setting.name;
  if (!takes_value(spec.form)) {
    words.push_back(name);
  } else if (setting.text.starts_with('-')) {
    words.push_back(name + "=" + setting.text);
  } else {
    words.push_back(name);
    words.push_back(setting.text);
  }
}

/// "check", "lora:merge": what option lists name. An operand that is no verb does no harm.
std::string key_of(std::string_view command, const Options& options) {
  return options.operands.empty() ? std::string(command)
                                  : fmt::format("{}:{}", command, options.operands.front());
}

/// A command that writes a checkpoint is nothing without its place.
bool is_place(const OptionSpec& spec, const std::string& key) {
  return (spec.name == "out" || spec.name == "overwrite" || spec.name == "resume") &&
         (key.starts_with("lora:") || key == "convert");
}

}  // namespace

std::vector<std::string> command_words(const Options& options, const Keep& keep) {
  std::vector<std::string> words = {options.command};
  const bool odd = std::any_of(options.operands.begin(), options.operands.end(),
                               [](const std::string& one) { return one.starts_with('-'); });
  if (!odd) {
    words.insert(words.end(), options.operands.begin(), options.operands.end());
  }
  for (const Setting& setting : options.given) {
    const OptionSpec& spec = *find_option(setting.name);
    if (keep(spec)) {
      add_option(setting, spec, words);
    }
  }
  if (odd) {
    words.emplace_back("--");
    words.insert(words.end(), options.operands.begin(), options.operands.end());
  }
  return words;
}

std::string shell_line(std::span<const std::string> words) {
  std::string out = "bridge-verify";
  for (const std::string& word : words) {
    out += " " + shell_quoted(word);
  }
  return out;
}

std::string replay_line(const Options& options, std::string_view command, std::string_view claim,
                        std::string_view layout) {
  Options out = options;
  out.command = command;
  const std::string key = key_of(command, options);
  std::vector<std::string> words = command_words(out, [&](const OptionSpec& spec) {
    const bool spread = std::find(kSpread.begin(), kSpread.end(), spec.name) != kSpread.end();
    const bool replaced = spread && (!layout.empty() || spec.name == "only" ||
                                     spec.name == "skip" || spec.name == "level");
    return usable_by(spec, key) && (!shows_only(spec) || is_place(spec, key)) &&
           spec.group != "gate" && !(replaced && !claim.empty());
  });
  if (!claim.empty()) {
    words.insert(words.end(), {"--only", std::string(claim)});
  }
  if (!claim.empty() && !layout.empty()) {
    words.insert(words.end(), {"--layout", std::string(layout)});
  }
  return shell_line(words);
}

std::string next_line(const Options& options, std::string_view command) {
  Options out = options;
  out.command = command;
  const std::string key = key_of(command, options);
  return shell_line(command_words(out, [&](const OptionSpec& spec) {
    return usable_by(spec, key) && spec.group != "output" && spec.name != "jobs";
  }));
}

}  // namespace bv::cli

#include <fmt/format.h>

#include <algorithm>
#include <array>

#include "ci/cli/command.hpp"

namespace bv::cli {
namespace {

constexpr std::string_view kExamples =
    "  bridge-verify --model ./Qwen3.6-35B-A3B                      check names and layout from "
    "headers, no GPU\n"
    "  bridge-verify --model Qwen/Qwen3.5-9B --tp 1,2,4 --pp 1,2    resolve from the local HF "
    "cache, six layouts\n"
    "  bridge-verify --model DIR --rules my_bridge.rules.json       check YOUR mapping_registry()\n"
    "  bridge-verify roundtrip --model DIR --tp 2 --ep 8            move the bytes, compare bit "
    "for bit\n"
    "  bridge-verify lora check --model DIR --adapter ADAPTER_DIR   adapter names, slices, merge "
    "error against its bound\n";

constexpr std::string_view kPurpose =
    "bridge-verify proves, runs and attacks checkpoint bridges between HuggingFace and "
    "Megatron-Core.\n"
    "It needs neither GPU nor Python nor network; headers of a model are enough for most claims.\n"
    "Each verdict names its evidence; the exit code is 0 only when something was checked and all "
    "of it is green.\n";

constexpr std::string_view kExits =
    "exit codes: 0 pass  1 refuted  2 usage  3 undecided  4 fault of bridge-verify  5 unusable "
    "input  130 stopped\n";

constexpr std::array<std::string_view, 6> kGroups = {"common",    "model",  "layout",
                                                     "selection", "output", "engine"};

bool hidden(const Command& command) {
  return command.name.name.starts_with("__");
}

/// "  -m, --model REF" with aliases below the help text.
std::string option_line(const OptionSpec& spec) {
  const std::string letter = spec.letter == 0 ? "    " : fmt::format("-{}, ", spec.letter);
  const std::string head =
      fmt::format("  {}--{}{}{}", letter, spec.name, spec.value.empty() ? "" : " ", spec.value);
  std::string out = head.size() < 34 ? fmt::format("{:<34}{}\n", head, spec.help)
                                     : fmt::format("{}\n{:34}{}\n", head, "", spec.help);
  for (const std::string& alias : words_of(spec.aliases)) {
    out += fmt::format("{:34}also --{}\n", "", alias);
  }
  return out;
}

std::string options_text(std::string_view command) {
  std::string out;
  for (const std::string_view group : kGroups) {
    std::string lines;
    for (const OptionSpec& spec : option_specs()) {
      if (spec.group == group && (command.empty() || usable_by(spec, command))) {
        lines += option_line(spec);
      }
    }
    if (!lines.empty()) {
      out += fmt::format("\n{} options:\n{}", group, lines);
    }
  }
  return out;
}

}  // namespace

std::string purpose_text() {
  return fmt::format("{}\n{}\nbridge-verify --help\n", kPurpose, kExamples);
}

std::string help_text(std::string_view name) {
  const Command* command = find_command(name);
  if (command != nullptr) {
    std::string out =
        fmt::format("usage: bridge-verify {} [options]\n\n{}\n", command->usage, command->summary);
    return out + options_text(command->name.name) + "\n" + std::string(kExits);
  }
  std::string out = fmt::format("usage: bridge-verify [COMMAND] [options]\n\n{}\n{}\ncommands:\n",
                                kPurpose, kExamples);
  for (const Command& row : commands()) {
    if (!hidden(row)) {
      out += fmt::format("  {:<34}{}\n", row.usage, row.summary);
    }
  }
  out += options_text("");
  return out +
         "\nEvery long option is also an environment variable: --tp is BRIDGE_VERIFY_TP; options "
         "win.\n" +
         std::string(kExits);
}

std::string reference_page() {
  std::string out =
      "# Command line\n\n"
      "Made by `bridge-verify __dump-cli docs/reference/cli.md` from the tables in ci/; a test "
      "compares it.\n\n"
      "`_` and `-` are the same in long option names. Values are written `--x v` or `--x=v`. "
      "Options stand before or after\n"
      "the command. Nothing is abbreviated. A single-valued option given twice is an error. `--` "
      "ends options. Each long\n"
      "option is also an environment variable (`--tp` is `BRIDGE_VERIFY_TP`); options win. "
      "`--help` and `--version` beat\n"
      "everything. Without a command, `--model` or `--headers` means `check`.\n\n## Commands\n\n| "
      "Command | Does |\n|---|---|\n";
  const auto escaped_bars = [](std::string_view text) {
    std::string safe;
    for (const char c : text) {
      safe += c == '|' ? "\\|" : std::string(1, c);
    }
    return safe;
  };
  for (const Command& command : commands()) {
    if (!hidden(command)) {
      out += fmt::format("| `{}` | {} |\n", escaped_bars(command.usage), command.summary);
    }
  }
  for (const std::string_view group : kGroups) {
    out += fmt::format(
        "\n## Options: {}\n\n| Option | Value | Meaning | Commands |\n|---|---|---|---|\n", group);
    for (const OptionSpec& spec : option_specs()) {
      if (spec.group != group) {
        continue;
      }
      std::string names = spec.letter == 0 ? "" : fmt::format("`-{}` ", spec.letter);
      names += fmt::format("`--{}`", spec.name);
      for (const std::string& alias : words_of(spec.aliases)) {
        names += fmt::format(" `--{}`", alias);
      }
      out += fmt::format("| {} | {} | {} | {} |\n", names, escaped_bars(spec.value),
                         escaped_bars(spec.help), spec.commands == "*" ? "all" : spec.commands);
    }
  }
  return out;
}

}  // namespace bv::cli

#include <fmt/format.h>

#include <algorithm>
#include <array>

#include "ci/cli/command.hpp"
#include "core/base/text.hpp"
#include "reports/wrap.hpp"

namespace bv::cli {
namespace {

constexpr std::size_t kWidth = 80;
constexpr std::size_t kColumn = 30;  // where the explanations begin

constexpr std::string_view kPurpose =
    "bridge-verify checks that converting a checkpoint between HuggingFace and Megatron-Core puts "
    "every tensor where it belongs, bit for bit, on every TP/PP/EP layout. It needs no GPU, no "
    "Python and no network; the headers of a model are enough for most of it.";

constexpr std::array<std::pair<std::string_view, std::string_view>, 7> kFirst = {{
    {"check a model", "bridge-verify --model ./Qwen3.6-35B-A3B"},
    {"check my own rules", "bridge-verify --model DIR --rules my_bridge.rules.json"},
    {"move every byte", "bridge-verify roundtrip --model DIR --tp 2 --ep 8"},
    {"convert", "bridge-verify convert --to megatron --model DIR --out OUT"},
    {"compare", "bridge-verify diff HF_DIR MEGATRON_DIR"},
    {"find an element", "bridge-verify trace NAME 17,0 --model DIR --tp 4"},
    {"try it, no download", "bridge-verify --model fixture:qwen3_5_vl_moe"},
}};

constexpr std::string_view kExits =
    "Exit codes: 0 pass, 1 refuted, 2 usage, 3 undecided, 4 a fault of bridge-verify, 5 unusable "
    "input, 130 or 143 stopped. Results: bridge-verify explain results.";

constexpr std::array<std::string_view, 7> kGroups = {"common", "model",  "layout", "selection",
                                                     "gate",   "output", "engine"};

bool hidden(const Command& command) {
  return command.name.name.starts_with("__");
}

std::string paragraph(std::string_view text) {
  return reports::wrapped(text, 0, "", kWidth) + "\n";
}

/// `head`, and from kColumn on what it means; on a line of its own where the head is too long.
std::string row(const std::string& head, std::string_view text) {
  const std::string hanging(kColumn, ' ');
  std::string out = head.size() + 2 > kColumn ? head + "\n" + hanging
                                              : head + std::string(kColumn - head.size(), ' ');
  return out + reports::wrapped(text, kColumn, hanging, kWidth) + "\n";
}

/// "  -m, --model REF", its meaning, default and other names.
std::string option_row(const OptionSpec& spec) {
  const std::string letter = spec.letter == 0 ? "    " : fmt::format("-{}, ", spec.letter);
  std::string text(spec.help);
  if (!spec.fallback.empty()) {
    text += fmt::format("; default: {}", spec.fallback);
  }
  for (const std::string& alias : words_of(spec.aliases)) {
    text += fmt::format("; also --{}", alias);
  }
  return row(
      fmt::format("  {}--{}{}{}", letter, spec.name, spec.value.empty() ? "" : " ", spec.value),
      text);
}

/// "check, rules lint"
std::string users_text(const OptionSpec& spec) {
  std::vector<std::string> users = words_of(spec.commands);
  for (std::string& user : users) {
    std::replace(user.begin(), user.end(), ':', ' ');
  }
  return join(users, ", ");
}

/// True when the command, or one of its verbs, has this option.
bool has_option(const CommandName& command, const OptionSpec& spec) {
  const std::vector<std::string> verbs = words_of(command.verbs);
  return spec.listed && (usable_by(spec, command.name) ||
                         std::any_of(verbs.begin(), verbs.end(), [&](const std::string& verb) {
                           return usable_by(spec, fmt::format("{}:{}", command.name, verb));
                         }));
}

std::string options_text(const Command* command) {
  std::string out;
  for (const std::string_view group : kGroups) {
    std::string lines;
    for (const OptionSpec& spec : option_specs()) {
      if (spec.group == group && spec.listed &&
          (command == nullptr || has_option(command->name, spec))) {
        lines += option_row(spec);
      }
    }
    if (!lines.empty()) {
      out += fmt::format("\n{} options:\n{}", group, lines);
    }
  }
  return out;
}

std::string command_help(const Command& command) {
  std::string out = "usage:";
  std::string_view usage = command.usage;
  for (std::size_t bar = 0; !usage.empty(); usage.remove_prefix(std::min(bar + 3, usage.size()))) {
    bar = std::min(usage.find(" | "), usage.size());
    out += fmt::format(
        "{} {}\n", out.size() > 6 ? "      " : "",
        reports::wrapped(fmt::format("bridge-verify {} [options]", usage.substr(0, bar)), 7,
                         "           ", kWidth));
  }
  out += "\n" + paragraph(command.summary);
  out += command.examples.empty() ? "" : "\nexamples:\n";
  for (std::string_view rest = command.examples; !rest.empty();) {
    const std::size_t end = std::min(rest.find('\n'), rest.size());
    out += fmt::format("  {}\n", rest.substr(0, end));
    rest.remove_prefix(std::min(end + 1, rest.size()));
  }
  return out + options_text(&command) + (command.concludes ? "\n" + paragraph(kExits) : "");
}

std::string overview() {
  std::string out =
      "usage: bridge-verify [COMMAND] [options]\n\n" + purpose_text() + "\ncommands:\n";
  for (const Command& command : commands()) {
    if (!hidden(command)) {
      out += row(fmt::format("  {}", command.name.name), command.summary);
    }
  }
  return out + "\n" +
         paragraph(
             "Without a command, --model means check. bridge-verify help COMMAND shows how a "
             "command is used; bridge-verify help options lists every option. A long option "
             "is also an environment variable (--tp is BRIDGE_VERIFY_TP) and a key of "
             "bridge-verify.toml; the command line wins.") +
         paragraph(kExits);
}

}  // namespace

std::string purpose_text() {
  std::string out = paragraph(kPurpose) + "\n";
  for (const auto& [what, line] : kFirst) {
    out += fmt::format("  {:<21}{}\n", what, line);
  }
  return out;
}

std::string help_text(std::string_view name) {
  if (name == "options") {
    return options_text(nullptr).substr(1);
  }
  const Command* command = find_command(name);
  return command == nullptr ? overview() : command_help(*command);
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
      "option is also an environment variable (`--tp` is `BRIDGE_VERIFY_TP`) and a key of a "
      "settings file\n"
      "([settings.md](settings.md)); the command line wins. `--help` and `--version` beat "
      "everything. Without a command,\n"
      "`--model` or `--headers` means `check`. An option that a command cannot use is an error "
      "that names the commands that can.\n\n## Commands\n\n| Command | Does |\n|---|---|\n";
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
        "\n## Options: {}\n\n| Option | Value | Meaning | Default | Commands "
        "|\n|---|---|---|---|---|\n",
        group);
    for (const OptionSpec& spec : option_specs()) {
      if (spec.group != group || !spec.listed) {
        continue;
      }
      std::string names = spec.letter == 0 ? "" : fmt::format("`-{}` ", spec.letter);
      names += fmt::format("`--{}`", spec.name);
      for (const std::string& alias : words_of(spec.aliases)) {
        names += fmt::format(" `--{}`", alias);
      }
      out += fmt::format("| {} | {} | {} | {} | {} |\n", names, escaped_bars(spec.value),
                         escaped_bars(spec.help), spec.fallback,
                         spec.commands == "*" ? "all" : users_text(spec));
    }
  }
  return out;
}

}  // namespace bv::cli

#include "ci/cli/completion.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <set>

#include "ci/cli/build_info.hpp"
#include "ci/cli/command.hpp"
#include "core/base/text.hpp"
#include "properties/claims/catalogue.hpp"
#include "reports/formats.hpp"

namespace bv::cli {
namespace {

bool shown(const Command& command) {
  return !command.name.name.starts_with("__");
}

/// True when the command, or one of its verbs, takes this option.
bool takes(const Command& command, const OptionSpec& spec) {
  const std::vector<std::string> verbs = words_of(command.name.verbs);
  return spec.listed && spec.not_built.empty() &&
         (usable_by(spec, command.name.name) ||
          std::any_of(verbs.begin(), verbs.end(), [&](const std::string& verb) {
            return usable_by(spec, fmt::format("{}:{}", command.name.name, verb));
          }));
}

std::vector<std::string> split_choices(std::string_view value) {
  std::vector<std::string> out;
  while (!value.empty()) {
    const std::size_t bar = std::min(value.find('|'), value.size());
    out.emplace_back(value.substr(0, bar));
    value.remove_prefix(std::min(bar + 1, value.size()));
  }
  return out;
}

/// The words that may follow an option, empty when only the user knows.
std::vector<std::string> values_of(const OptionSpec& spec) {
  if (spec.form == Form::Choice) {
    return split_choices(spec.value);
  }
  std::vector<std::string> out;
  if (spec.name == "only" || spec.name == "skip") {
    for (const claims::Claim& claim : claims::catalogue()) {
      out.emplace_back(claim.id);
    }
  } else if (spec.name == "report") {
    for (const reports::Format& format : reports::formats()) {
      out.emplace_back(format.name);
    }
  } else if (spec.name == "layouts") {
    out = {"auto", "quick", "all"};
  }
  return out;
}

bool takes_path(const OptionSpec& spec) {
  static constexpr std::array<std::string_view, 4> kPaths = {"FILE", "DIR", "REF", "PATH"};
  return std::find(kPaths.begin(), kPaths.end(), spec.value) != kPaths.end();
}

/// First words after a command: its verbs, the formats of `report`, the names of commands.
std::vector<std::string> first_words(const Command& command) {
  std::vector<std::string> out = words_of(command.name.verbs);
  if (command.name.name == "report") {
    out = {"merge", "diff"};
    for (const reports::Format& format : reports::formats()) {
      out.emplace_back(format.name);
    }
  } else if (command.name.name == "completion") {
    out = {"bash", "zsh", "fish"};
  } else if (command.name.name == "help") {
    out = {"options"};
    for (const Command& one : commands()) {
      if (shown(one)) {
        out.emplace_back(one.name.name);
      }
    }
  } else if (command.name.name == "explain") {
    for (const CodeInfo& code : all_codes()) {
      out.push_back(label(code.code));
    }
  }
  return out;
}

std::vector<std::string> shown_names() {
  std::vector<std::string> out;
  for (const Command& command : commands()) {
    if (shown(command)) {
      out.emplace_back(command.name.name);
      const auto aliases = words_of(command.name.aliases);
      out.insert(out.end(), aliases.begin(), aliases.end());
    }
  }
  return out;
}

std::string pattern_of(const Command& command) {
  std::vector<std::string> names = words_of(command.name.aliases);
  names.insert(names.begin(), std::string(command.name.name));
  return join(names, "|");
}

std::vector<std::string> long_options(const Command& command) {
  std::vector<std::string> out;
  for (const OptionSpec& spec : option_specs()) {
    if (takes(command, spec)) {
      out.push_back("--" + std::string(spec.name));
    }
  }
  return out;
}

/// Inside single quotes of a shell.
std::string single(std::string_view text) {
  std::string out;
  for (const char c : text) {
    out += c == '\'' ? "'\\''" : std::string(1, c);
  }
  return out;
}

/// Inside the brackets of zsh's _arguments.
std::string zsh_text(std::string_view text) {
  std::string out;
  for (const char c : text) {
    out += c == '[' || c == ']' || c == ':' || c == '\\' ? "\\" : "";
    out += c;
  }
  return single(out);
}

/// Text of man(7): hyphens of options stay hyphens, a dot at the beginning is no macro.
std::string roff(std::string_view text) {
  std::string out;
  for (const char c : text) {
    out += c == '\\' ? "\\e" : c == '-' ? "\\-" : std::string(1, c);
  }
  return out.starts_with('.') || out.starts_with('\'') ? "\\&" + out : out;
}

}  // namespace

std::string bash_completion() {
  std::string cases;
  std::string firsts;
  for (const Command& command : commands()) {
    if (shown(command)) {
      cases += fmt::format("    {}) options='{}' ;;\n", pattern_of(command),
                           join(long_options(command), " "));
      if (const auto words = first_words(command); !words.empty()) {
        firsts += fmt::format("    {}) words='{}' ;;\n", pattern_of(command), join(words, " "));
      }
    }
  }
  std::string values;
  std::string paths;
  for (const OptionSpec& spec : option_specs()) {
    if (!spec.listed || !takes_value(spec.form)) {
      continue;
    }
    std::string names = "--" + std::string(spec.name);
    names += spec.letter == 0 ? "" : fmt::format("|-{}", spec.letter);
    if (const auto words = values_of(spec); !words.empty()) {
      values += fmt::format("    {}) COMPREPLY=($(compgen -W '{}' -- \"$current\")); return ;;\n",
                            names, join(words, " "));
    } else if (takes_path(spec)) {
      values +=
          fmt::format("    {}) COMPREPLY=($(compgen -f -- \"$current\")); return ;;\n", names);
    } else {
      values += fmt::format("    {}) return ;;\n", names);
    }
  }
  return "# bash completion of bridge-verify; made by `bridge-verify completion bash`.\n"
         "_bridge_verify() {\n"
         "  local current=\"${COMP_WORDS[COMP_CWORD]}\" previous=\"${COMP_WORDS[COMP_CWORD-1]}\"\n"
         "  local command='' options='' words='' at=0 i word\n"
         "  COMPREPLY=()\n"
         "  case \"$previous\" in\n" +
         values +
         "  esac\n"
         "  for ((i = 1; i < COMP_CWORD; i++)); do\n"
         "    word=\"${COMP_WORDS[i]}\"\n"
         "    case \"$word\" in\n"
         "      " +
         join(shown_names(), "|") +
         ") [ -n \"$command\" ] || { command=\"$word\"; at=$i; } ;;\n"
         "    esac\n"
         "  done\n"
         "  case \"${command:-check}\" in\n" +
         cases +
         "  esac\n"
         "  if [[ \"$current\" == -* ]]; then\n"
         "    COMPREPLY=($(compgen -W \"$options\" -- \"$current\"))\n"
         "    return\n"
         "  fi\n"
         "  if [ -z \"$command\" ]; then\n"
         "    COMPREPLY=($(compgen -W '" +
         join(shown_names(), " ") +
         "' -- \"$current\"))\n"
         "    return\n"
         "  fi\n"
         "  if [ $((at + 1)) -eq \"$COMP_CWORD\" ]; then\n"
         "    case \"$command\" in\n" +
         firsts +
         "    esac\n"
         "    [ -z \"$words\" ] || { COMPREPLY=($(compgen -W \"$words\" -- \"$current\")); return; "
         "}\n"
         "  fi\n"
         "  COMPREPLY=($(compgen -f -- \"$current\"))\n"
         "}\n"
         "complete -o filenames -F _bridge_verify bridge-verify\n";
}

std::string zsh_completion() {
  std::string out =
      "#compdef bridge-verify\n"
      "# zsh completion of bridge-verify; made by `bridge-verify completion zsh`.\n"
      "_bridge_verify() {\n"
      "  local -a names options firsts\n"
      "  local command word\n"
      "  names=(\n";
  for (const Command& command : commands()) {
    if (shown(command)) {
      out += fmt::format("    '{}:{}'\n", command.name.name, zsh_text(command.summary));
    }
  }
  out +=
      "  )\n"
      "  for word in ${words[2,CURRENT-1]}; do\n"
      "    case $word in\n"
      "      " +
      join(shown_names(), "|") +
      ") command=$word; break ;;\n"
      "    esac\n"
      "  done\n"
      "  case ${command:-check} in\n";
  for (const Command& command : commands()) {
    if (!shown(command)) {
      continue;
    }
    out += fmt::format("    {})\n      options=(\n", pattern_of(command));
    for (const OptionSpec& spec : option_specs()) {
      if (!takes(command, spec)) {
        continue;
      }
      const auto words = values_of(spec);
      const std::string action =
          !takes_value(spec.form) ? ""
          : !words.empty()        ? fmt::format(":{}:({})", zsh_text(spec.name), join(words, " "))
          : takes_path(spec)      ? fmt::format(":{}:_files", zsh_text(spec.value))
                                  : fmt::format(":{}: ", zsh_text(spec.value));
      out += fmt::format("        '{}--{}[{}]{}'\n", repeats(spec.form) ? "*" : "", spec.name,
                         zsh_text(spec.help), action);
    }
    out += fmt::format("      )\n      firsts=({})\n      ;;\n", join(first_words(command), " "));
  }
  return out +
         "  esac\n"
         "  if [[ -z $command ]]; then\n"
         "    _arguments -S $options '1:command:{ _describe command names }' && return\n"
         "  elif (( $#firsts )); then\n"
         "    _arguments -S $options '1: :' \"2:word:($firsts)\" '*:file:_files' && return\n"
         "  else\n"
         "    _arguments -S $options '1: :' '*:file:_files' && return\n"
         "  fi\n"
         "}\n"
         "_bridge_verify \"$@\"\n";
}

std::string fish_completion() {
  const std::string complete = "complete -c bridge-verify";
  std::string out =
      "# fish completion of bridge-verify; made by `bridge-verify completion fish`.\n" + complete +
      " -f\n";
  const std::string none = "not __fish_seen_subcommand_from " + join(shown_names(), " ");
  for (const Command& command : commands()) {
    if (shown(command)) {
      out += complete + fmt::format(" -n '{}' -a {} -d '{}'\n", none, command.name.name,
                                    single(command.summary));
      std::vector<std::string> names = words_of(command.name.aliases);
      names.insert(names.begin(), std::string(command.name.name));
      if (const auto words = first_words(command); !words.empty()) {
        out += complete + fmt::format(" -n '__fish_seen_subcommand_from {}' -a '{}'\n",
                                      join(names, " "), join(words, " "));
      }
    }
  }
  for (const OptionSpec& spec : option_specs()) {
    std::vector<std::string> users;
    for (const Command& command : commands()) {
      if (shown(command) && takes(command, spec)) {
        users.emplace_back(command.name.name);
      }
    }
    if (users.empty()) {
      continue;
    }
    const auto words = values_of(spec);
    const bool everywhere = spec.commands == "*" || usable_by(spec, "check");
    out += complete;
    out += everywhere ? "" : " -n '__fish_seen_subcommand_from " + join(users, " ") + "'";
    out += spec.letter == 0 ? "" : fmt::format(" -s {}", spec.letter);
    out += fmt::format(" -l {} -d '{}'", spec.name, single(spec.help));
    out += !takes_value(spec.form) ? ""
           : !words.empty()        ? fmt::format(" -x -a '{}'", join(words, " "))
           : takes_path(spec)      ? " -r -F"
                                   : " -x";
    out += '\n';
  }
  return out;
}

std::string manual_page() {
  std::string out =
      ".\\\" Made by `bridge-verify __dump-man docs/man/bridge-verify.1` from the tables in ci/.\n"
      ".TH BRIDGE\\-VERIFY 1 \"\" \"bridge\\-verify " +
      roff(build_version()) +
      "\" \"User Commands\"\n.SH NAME\nbridge\\-verify \\- checks conversions between HuggingFace "
      "and Megatron\\-Core checkpoints\n.SH SYNOPSIS\n.B bridge\\-verify\n[\\fICOMMAND\\fR] "
      "[\\fIOPTIONS\\fR]\n.SH DESCRIPTION\n";
  const std::string purpose = purpose_text();
  std::string paragraph = purpose.substr(0, purpose.find("\n\n"));
  std::replace(paragraph.begin(), paragraph.end(), '\n', ' ');
  out += roff(paragraph) + "\n.SH COMMANDS\n";
  for (const Command& command : commands()) {
    if (!shown(command)) {
      continue;
    }
    out += fmt::format(".TP\n.B {}\n{}\n", roff(command.usage), roff(command.summary));
    for (std::string_view rest = command.examples; !rest.empty();) {
      const std::size_t end = std::min(rest.find('\n'), rest.size());
      out += fmt::format(".br\n\\fC{}\\fR\n", roff(rest.substr(0, end)));
      rest.remove_prefix(std::min(end + 1, rest.size()));
    }
  }
  out += ".SH OPTIONS\n";
  for (const OptionSpec& spec : option_specs()) {
    if (!spec.listed || !spec.not_built.empty()) {
      continue;
    }
    const std::string letter = spec.letter == 0 ? "" : fmt::format("\\fB\\-{}\\fR, ", spec.letter);
    const std::string value =
        spec.value.empty() ? "" : fmt::format(" \\fI{}\\fR", roff(spec.value));
    out += fmt::format(".TP\n{}\\fB\\-\\-{}\\fR{}\n{}{}.\n", letter, roff(spec.name), value,
                       roff(spec.help),
                       spec.fallback.empty() ? "" : "; default: " + roff(spec.fallback));
  }
  out += ".SH EXIT STATUS\n";
  for (const auto& [code, meaning] : std::initializer_list<std::pair<const char*, const char*>>{
           {"0", "every claim is proved, held or waived"},
           {"1", "a claim is refuted"},
           {"2", "the command line, settings or waivers cannot be used"},
           {"3", "a claim is undecided or unsupported, or nothing was checked"},
           {"4", "a fault of bridge-verify"},
           {"5", "the model, rules or output cannot be used"},
           {"130, 143", "stopped by a signal"}}) {
    out += fmt::format(".TP\n.B {}\n{}\n", code, roff(meaning));
  }
  return out +
         ".SH ENVIRONMENT\nEach long option is also a variable: \\fBBRIDGE_VERIFY_TP\\fR is "
         "\\fB\\-\\-tp\\fR.\n\\fBHF_HUB_CACHE\\fR and \\fBHF_HOME\\fR say where models are looked "
         "for.\n";
}

}  // namespace bv::cli

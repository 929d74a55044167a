#include "ci/cli/options/options.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <cctype>

#include "ci/cli/options/option_values.hpp"
#include "core/base/text.hpp"

namespace bv::cli {
namespace {

constexpr std::string_view kPrefix = "BRIDGE_VERIFY_";

/// Options that cannot stand together. Where one is a flag and the other comes from the
/// environment, the flag wins.
constexpr std::array<std::pair<std::string_view, std::string_view>, 14> kRivals = {{
    {"moe-grouped-gemm", "no-moe-grouped-gemm"},
    {"quiet", "verbose"},
    {"overwrite", "resume"},
    {"rules", "family"},
    {"vpp", "num-layers-per-virtual-pipeline-stage"},
    {"only", "skip"},
    {"json", "format"},
    {"layout", "tp"},
    {"layout", "pp"},
    {"layout", "ep"},
    {"layout", "etp"},
    {"layout", "vpp"},
    {"layout", "cp"},
    {"layout", "layouts"},
}};

bool takes_value(Form form) {
  return form != Form::Flag && form != Form::Count;
}
bool repeats(Form form) {
  return form == Form::Repeat || form == Form::Pair;
}

std::string normalised(std::string_view long_name) {
  std::string out(long_name);
  std::replace(out.begin(), out.end(), '_', '-');
  return out;
}

const OptionSpec* find_letter(char letter) {
  for (const OptionSpec& spec : option_specs()) {
    if (letter != 0 && spec.letter == letter) {
      return &spec;
    }
  }
  return nullptr;
}

Error unknown_option(std::string_view written) {
  std::vector<std::string> names;
  for (const OptionSpec& spec : option_specs()) {
    names.emplace_back(spec.name);
    for (std::string& alias : words_of(spec.aliases)) {
      names.push_back(std::move(alias));
    }
  }
  std::string word = normalised(written);
  word.erase(0, std::min(word.find_first_not_of('-'), word.size()));
  const auto near = nearest(word, names);
  return fail(Code::UnknownOption, fmt::format("unknown option {}", escaped(written)))
      .advise(near ? fmt::format("did you mean --{}?", *near)
                   : "bridge-verify help lists every option");
}

/// Walks the arguments once; what it learns lands in `options`.
class Parser {
 public:
  Parser(std::span<const std::string> arguments, std::span<const CommandName> commands)
      : arguments_(arguments), commands_(commands) {}

  Status read_arguments() {
    for (; at_ < arguments_.size(); ++at_) {
      const std::string& word = arguments_[at_];
      if (only_operands_ || word == "-" || !word.starts_with("-")) {
        BV_CHECK(read_word(word));
      } else if (word == "--") {
        only_operands_ = true;
      } else if (word.starts_with("--")) {
        BV_CHECK(read_long(word));
      } else {
        BV_CHECK(read_short(word));
      }
    }
    return Done{};
  }

  /// Variables of options that the command line did not give.
  Status read_environment(const Environment& environment, std::vector<std::string>& notes) {
    for (const auto& [variable, value] : environment) {
      if (!variable.starts_with(kPrefix)) {
        continue;
      }
      std::string name = variable.substr(kPrefix.size());
      std::transform(name.begin(), name.end(), name.begin(), [](unsigned char c) {
        return c == '_' ? '-' : static_cast<char>(std::tolower(c));
      });
      const OptionSpec* spec = find_option(name);
      if (spec == nullptr) {
        notes.push_back(fmt::format("environment variable {} names no option and is not used",
                                    escaped(variable)));
        continue;
      }
      if (!usable_by(*spec, options_.command) || from_arguments_.contains(spec->name) ||
          rival_given(spec->name)) {
        continue;
      }
      const std::string written = fmt::format("{}={}", variable, value);
      if (const auto before = options_.given.find(spec->name); before != options_.given.end()) {
        return twice(*spec, before->second, written);
      }
      BV_CHECK(store_value(*spec, value, written, options_));
      const bool cleared =
          spec->form == Form::Flag && !(options_.*std::get<bool Options::*>(spec->member));
      if (!cleared) {
        options_.given.emplace(spec->name, written);
      }
    }
    return Done{};
  }

  /// Rules that need the whole line: command, options it cannot use, contradictions.
  Status finish_command(const Environment& environment) {
    const auto named = [&](std::string_view option, std::string_view variable) {
      return options_.has(option) || environment.contains(variable);
    };
    if (options_.command.empty() &&
        (named("model", "BRIDGE_VERIFY_MODEL") || named("headers", "BRIDGE_VERIFY_HEADERS"))) {
      options_.command = "check";
    }
    from_arguments_ = options_.given;
    if (options_.command.empty()) {
      if (!options_.given.empty()) {
        return fail(Code::BadValue, fmt::format("{} is given, but no model",
                                                escaped(options_.given.begin()->second)))
            .advise("bridge-verify --model DIR");
      }
      return Done{};
    }
    for (const auto& [name, written] : options_.given) {
      const OptionSpec* spec = find_option(name);
      if (!usable_by(*spec, options_.command)) {
        return fail(Code::UnknownOption,
                    fmt::format("{} cannot use {}", options_.command, escaped(written)))
            .pair(fmt::format("command {}", options_.command),
                  "one of " + join(words_of(spec->commands), ", "))
            .advise(fmt::format("bridge-verify help {}", options_.command));
      }
    }
    return Done{};
  }

  Status check_contradictions() const {
    for (const auto& [a, b] : kRivals) {
      const bool same_json = a == "json" && options_.format == "json";
      if (options_.has(a) && options_.has(b) && !same_json) {
        return contradiction(a, b);
      }
    }
    return Done{};
  }

  [[nodiscard]] Options take() {
    if (options_.json) {
      options_.format = "json";
    }
    return std::move(options_);
  }

 private:
  static Error twice(const OptionSpec& spec, const std::string& first, const std::string& second) {
    return fail(Code::Conflict, fmt::format("--{} is given twice: {} and {}", spec.name,
                                            escaped(first), escaped(second)))
        .advise("keep one of the two");
  }
  [[nodiscard]] bool rival_given(std::string_view name) const {
    return std::any_of(kRivals.begin(), kRivals.end(), [&](const auto& rivals) {
      return (rivals.first == name && from_arguments_.contains(rivals.second)) ||
             (rivals.second == name && from_arguments_.contains(rivals.first));
    });
  }
  [[nodiscard]] Error contradiction(std::string_view a, std::string_view b) const {
    const std::string& first = options_.given.find(a)->second;
    const std::string& second = options_.given.find(b)->second;
    return fail(Code::Conflict,
                fmt::format("{} and {} contradict each other", escaped(first), escaped(second)))
        .advise(fmt::format("leave out --{} or --{}", a, b));
  }

  Status read_word(const std::string& word) {
    if (!options_.command.empty()) {
      if (!takes_operands_) {
        return fail(Code::UnknownOption,
                    fmt::format("{} takes no word \"{}\"", options_.command, escaped(word)))
            .advise(fmt::format("bridge-verify help {}", options_.command));
      }
      options_.operands.push_back(word);
      return Done{};
    }
    std::vector<std::string> names;
    for (const CommandName& command : commands_) {
      const std::vector<std::string> aliases = words_of(command.aliases);
      if (command.name == word ||
          std::find(aliases.begin(), aliases.end(), word) != aliases.end()) {
        options_.command = command.name;
        takes_operands_ = command.operands;
        return word == "import"   ? preset_to("megatron", word)
               : word == "export" ? preset_to("hf", word)
                                  : Status(Done{});
      }
      if (!command.name.starts_with("__")) {
        names.emplace_back(command.name);
        names.insert(names.end(), aliases.begin(), aliases.end());
      }
    }
    const auto near = nearest(word, names);
    const std::string help = near ? fmt::format("did you mean bridge-verify {}?", *near)
                             : word.find('/') != std::string::npos || word == "."
                                 ? fmt::format("did you mean --model {}?", escaped(word))
                                 : "bridge-verify help lists every command";
    return fail(Code::UnknownOption, fmt::format("unknown command \"{}\"", escaped(word)))
        .advise(help);
  }

  Status preset_to(std::string_view side, const std::string& word) {
    if (options_.has("to") && options_.to != side) {
      return fail(Code::Conflict, fmt::format("{} and {} contradict each other", word,
                                              escaped(options_.given.at("to"))))
          .advise(fmt::format("{} means convert --to {}", word, side));
    }
    options_.to = side;
    options_.given.insert_or_assign("to", fmt::format("{}", word));
    return Done{};
  }

  Status read_long(const std::string& word) {
    const std::size_t equals = word.find('=');
    const std::string written_name = word.substr(0, equals);
    const OptionSpec* spec = find_option(std::string_view(written_name).substr(2));
    if (spec == nullptr) {
      return unknown_option(written_name);
    }
    if (!takes_value(spec->form)) {
      if (equals != std::string::npos) {
        return fail(Code::BadValue, fmt::format("{} takes no value", escaped(word)))
            .advise("write " + written_name);
      }
      return set_flag(*spec, written_name);
    }
    if (equals != std::string::npos) {
      return set_value(*spec, word.substr(equals + 1), word);
    }
    return next_value(*spec, written_name);
  }

  /// -m X, -mX, -j4, -qq, -vv.
  Status read_short(const std::string& word) {
    for (std::size_t i = 1; i < word.size(); ++i) {
      const OptionSpec* spec = find_letter(word[i]);
      if (spec == nullptr) {
        return word.size() == 2 || i == 1 ? unknown_option(word)
                                          : unknown_option(fmt::format("-{} in {}", word[i], word));
      }
      if (!takes_value(spec->form)) {
        BV_CHECK(set_flag(*spec, fmt::format("-{}", word[i])));
        continue;
      }
      if (i + 1 == word.size()) {
        return next_value(*spec, word);
      }
      const std::size_t begin = word[i + 1] == '=' ? i + 2 : i + 1;
      return set_value(*spec, word.substr(begin), word);
    }
    return Done{};
  }

  Status next_value(const OptionSpec& spec, const std::string& written_name) {
    const bool last = at_ + 1 == arguments_.size();
    const std::string next = last ? "" : arguments_[at_ + 1];
    const bool is_option = next.starts_with("--") ||
                           (next.size() == 2 && next[0] == '-' && find_letter(next[1]) != nullptr);
    if (last || is_option) {
      return fail(Code::BadValue, fmt::format("{} has no value", written_name))
          .pair(last ? "the end of the command line" : next, std::string(spec.value))
          .advise(spec.remedy.empty() ? fmt::format("write {} {}", written_name, spec.value)
                                      : std::string(spec.remedy));
    }
    ++at_;
    return set_value(spec, next, fmt::format("{} {}", written_name, next));
  }

  Status set_flag(const OptionSpec& spec, const std::string& written) {
    if (spec.form == Form::Count) {
      int& level = options_.*std::get<int Options::*>(spec.member);
      level = std::min(level + 1, 2);
    } else {
      options_.*std::get<bool Options::*>(spec.member) = true;
    }
    options_.given.insert_or_assign(std::string(spec.name), written);
    return Done{};
  }

  Status set_value(const OptionSpec& spec, const std::string& value, const std::string& written) {
    const auto before = options_.given.find(spec.name);
    if (before != options_.given.end() && !repeats(spec.form)) {
      return twice(spec, before->second, written);
    }
    BV_CHECK(store_value(spec, value, written, options_));
    options_.given.insert_or_assign(std::string(spec.name), written);
    return Done{};
  }

  std::span<const std::string> arguments_;
  std::span<const CommandName> commands_;
  std::size_t at_ = 0;
  bool only_operands_ = false;
  bool takes_operands_ = false;
  std::map<std::string, std::string, std::less<>> from_arguments_;
  Options options_;
};

/// --help and --version answer even beside mistakes; the command is the first word that is one.
std::optional<Options> help_or_version(std::span<const std::string> arguments,
                                       std::span<const CommandName> commands) {
  Options options;
  for (const std::string& word : arguments) {
    if (word == "--") {
      break;
    }
    options.help = options.help || word == "--help" || word == "-h";
    options.version = options.version || word == "--version" || word == "-V";
    for (const CommandName& command : commands) {
      const std::vector<std::string> aliases = words_of(command.aliases);
      const bool is_command =
          command.name == word || std::find(aliases.begin(), aliases.end(), word) != aliases.end();
      if (options.command.empty() && is_command) {
        options.command = command.name;
      }
    }
  }
  return options.help || options.version ? std::optional(std::move(options)) : std::nullopt;
}

}  // namespace

std::vector<std::string> words_of(std::string_view blank_separated) {
  std::vector<std::string> out;
  while (!blank_separated.empty()) {
    const std::size_t end = std::min(blank_separated.find(' '), blank_separated.size());
    if (end > 0) {
      out.emplace_back(blank_separated.substr(0, end));
    }
    blank_separated.remove_prefix(std::min(end + 1, blank_separated.size()));
  }
  return out;
}

const OptionSpec* find_option(std::string_view long_name) {
  const std::string name = normalised(long_name);
  for (const OptionSpec& spec : option_specs()) {
    const std::vector<std::string> aliases = words_of(spec.aliases);
    if (spec.name == name || std::find(aliases.begin(), aliases.end(), name) != aliases.end()) {
      return &spec;
    }
  }
  return nullptr;
}

bool usable_by(const OptionSpec& spec, std::string_view command) {
  if (spec.commands == "*") {
    return true;
  }
  const std::vector<std::string> commands = words_of(spec.commands);
  return std::find(commands.begin(), commands.end(), command) != commands.end();
}

Result<Parsed> parse_options(std::span<const std::string> arguments, const Environment& environment,
                             std::span<const CommandName> commands) {
  Parsed parsed;
  if (auto beats = help_or_version(arguments, commands)) {
    parsed.options = std::move(*beats);
    return parsed;
  }
  Parser parser(arguments, commands);
  BV_CHECK(parser.read_arguments());
  BV_CHECK(parser.finish_command(environment));
  BV_CHECK(parser.read_environment(environment, parsed.notes));
  BV_CHECK(parser.check_contradictions());
  parsed.options = parser.take();
  return parsed;
}

}  // namespace bv::cli

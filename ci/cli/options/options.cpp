#include "ci/cli/options/options.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <filesystem>
#include <set>

#include "ci/cli/options/layers.hpp"
#include "ci/cli/options/mistakes.hpp"
#include "ci/cli/options/option_values.hpp"
#include "ci/cli/options/rivals.hpp"
#include "core/base/shell.hpp"
#include "core/base/text.hpp"

namespace bv::cli {
namespace {

template <class List>
bool holds(const List& list, std::string_view name) {
  return std::find(list.begin(), list.end(), name) != list.end();
}

/// "NAME" of "NAME=value".
std::string name_in(std::string_view written) {
  return std::string(written.substr(0, written.find('=')));
}

/// A word that a model may have been meant by.
bool looks_like_path(const std::string& word) {
  std::error_code ignored;
  return word.find('/') != std::string::npos || std::filesystem::is_directory(word, ignored);
}

/// Walks the arguments once; what it learns lands in `options`.
class Parser {
 public:
  Parser(std::span<const std::string> arguments, std::span<const CommandName> commands)
      : arguments_(arguments), commands_(commands) {}

  /// All of them; the first error.
  Status read_arguments() {
    Status out = Done{};
    for (; at_ < arguments_.size(); ++at_) {
      const std::string& word = arguments_[at_];
      if (word == "--" && !only_operands_) {
        only_operands_ = true;
        continue;
      }
      Status read = only_operands_ || word == "-" || !word.starts_with("-") ? read_word(word)
                    : word.starts_with("--")                                ? read_long(word)
                                                                            : read_short(word);
      if (out) {
        out = std::move(read);
      }
    }
    return out;
  }

  /// Rules that need the whole line: the command, and options that it cannot use.
  Status finish_command(std::span<const std::vector<LayerEntry>> weaker) {
    const auto named = [&](std::string_view option) {
      return options_.has(option) ||
             std::any_of(weaker.begin(), weaker.end(), [&](const std::vector<LayerEntry>& layer) {
               return std::any_of(layer.begin(), layer.end(), [&](const LayerEntry& entry) {
                 return entry.spec->name == option;
               });
             });
    };
    if (options_.command.empty() && (named("model") || named("headers"))) {
      options_.command = "check";
      command_ = named_command("check");
    }
    if (options_.command.empty()) {
      return options_.given.empty()
                 ? Status(Done{})
                 : fail(Code::BadValue, fmt::format("{} is given, but no model",
                                                    escaped(options_.given.front().written)))
                       .advise("bridge-verify --model DIR");
    }
    BV_CHECK(check_verb(command_, options_));
    for (const Setting& setting : options_.given) {
      const OptionSpec& spec = *find_option(setting.name);
      if (!usable_by(spec, key())) {
        return not_usable(command_, options_, spec, setting.written);
      }
    }
    return check_rivals(options_);
  }

  /// Values that no stronger layer has decided.
  Status read_layer(const std::vector<LayerEntry>& layer) {
    const std::vector<Setting> stronger = options_.given;
    for (const LayerEntry& entry : layer) {
      if (!usable_by(*entry.spec, key()) || !decided_.emplace(entry.spec->name).second ||
          std::any_of(stronger.begin(), stronger.end(), [&](const Setting& setting) {
            return rivals(setting.name, entry.spec->name);
          })) {
        continue;
      }
      for (const std::string& text : entry.texts) {
        if (auto stored = store_value(*entry.spec, text, entry.written, options_); !stored) {
          Error error = std::move(stored).error();
          if (entry.spec->form == Form::Count) {  // a flag on the command line, a number here
            error.help = entry.origin == Origin::File
                             ? fmt::format("write {0} = 1, or {0} = 2 for more", entry.spec->name)
                             : fmt::format("write {}=1", name_in(entry.written));
          }
          if (entry.origin == Origin::File) {
            error.code = Code::BadSettings;
            error.where = entry.place;
          }
          return error;
        }
        add(*entry.spec, text, entry.origin, entry.written);
      }
    }
    return check_rivals(options_);
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

  [[nodiscard]] const CommandName* named_command(std::string_view name) const {
    const auto found = std::find_if(commands_.begin(), commands_.end(),
                                    [&](const CommandName& one) { return one.name == name; });
    return found == commands_.end() ? nullptr : &*found;
  }
  [[nodiscard]] std::string key() const {
    return command_ == nullptr ? options_.command : command_key(*command_, options_.operands);
  }

  void add(const OptionSpec& spec, std::string text, Origin origin, std::string written) {
    if (spec.form == Form::Flag) {
      if (!(options_.*std::get<bool Options::*>(spec.member))) {
        return;  // a variable or a file that says "no"
      }
      text.clear();
    }
    const int times = spec.form == Form::Count && !text.empty() ? std::stoi(text) : 1;
    for (int i = 0; i < times; ++i) {
      options_.given.push_back({std::string(spec.name),
                                spec.form == Form::Count ? "" : std::move(text), origin, written});
    }
  }

  Status read_word(const std::string& word) {
    if (!options_.command.empty()) {
      if (!command_->operands) {
        return fail(Code::UnknownOption, fmt::format("{} does not take an argument: \"{}\"",
                                                     options_.command, escaped(word)))
            .pair(escaped(word), "options only")
            .advise(usable_by(*find_option("model"), options_.command)
                        ? fmt::format("did you mean --model {}?", shell_quoted(word))
                        : "bridge-verify help " + options_.command);
      }
      options_.operands.push_back(word);
      return Done{};
    }
    std::vector<std::string> names;
    for (const CommandName& command : commands_) {
      const std::vector<std::string> aliases = words_of(command.aliases);
      if (command.name == word || holds(aliases, word)) {
        options_.command = command.name;
        command_ = &command;
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
                             : looks_like_path(word)
                                 ? fmt::format("did you mean --model {}?", shell_quoted(word))
                                 : "bridge-verify help lists every command";
    return fail(Code::UnknownOption, fmt::format("unknown command \"{}\"", escaped(word)))
        .advise(help);
  }

  Status preset_to(std::string_view side, const std::string& word) {
    const Setting* before = options_.said("to");
    if (before != nullptr && options_.to != side) {
      return fail(Code::Conflict,
                  fmt::format("{} and {} contradict each other", word, escaped(before->written)))
          .advise(fmt::format("{} means convert --to {}", word, side));
    }
    if (before == nullptr) {
      options_.to = side;
      add(*find_option("to"), std::string(side), Origin::CommandLine, word);
      decided_.insert("to");
    }
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
      if (level == 2) {
        return Done{};
      }
      ++level;
    } else {
      bool& flag = options_.*std::get<bool Options::*>(spec.member);
      if (flag) {
        return Done{};
      }
      flag = true;
    }
    add(spec, "", Origin::CommandLine, written);
    decided_.emplace(spec.name);
    return Done{};
  }

  Status set_value(const OptionSpec& spec, const std::string& value, const std::string& written) {
    if (!spec.not_built.empty()) {
      return fail(Code::UnknownOption,
                  fmt::format("{} is not built into this version", escaped(written)))
          .advise(std::string(spec.not_built));
    }
    const Setting* before = options_.said(spec.name);
    if (before != nullptr && !repeats(spec.form)) {
      return twice(spec, before->written, written);
    }
    BV_CHECK(store_value(spec, value, written, options_));
    add(spec, value, Origin::CommandLine, written);
    decided_.emplace(spec.name);
    return Done{};
  }

  std::span<const std::string> arguments_;
  std::span<const CommandName> commands_;
  const CommandName* command_ = nullptr;
  std::size_t at_ = 0;
  bool only_operands_ = false;
  std::set<std::string, std::less<>> decided_;  // by a layer read so far, flags said "no" included
  Options options_;
};

/// --help and --version answer even beside mistakes; the command is the first word that belongs to
/// no option.
std::optional<Options> help_or_version(std::span<const std::string> arguments,
                                       std::span<const CommandName> commands) {
  Options options;
  bool named = false;
  for (std::size_t i = 0; i < arguments.size() && arguments[i] != "--"; ++i) {
    const std::string& word = arguments[i];
    options.help = options.help || word == "--help" || word == "-h";
    options.version = options.version || word == "--version" || word == "-V";
    if (word.starts_with('-')) {
      const OptionSpec* spec = word.starts_with("--") ? find_option(word.substr(2))
                               : word.size() == 2     ? find_letter(word[1])
                                                      : nullptr;
      const bool value = spec != nullptr && takes_value(spec->form) && i + 1 < arguments.size();
      i += value && !arguments[i + 1].starts_with('-') ? 1U : 0U;
      continue;
    }
    for (const CommandName& command : commands) {
      if (!named && (command.name == word || holds(words_of(command.aliases), word))) {
        options.command = command.name;
      }
    }
    named = true;
  }
  return options.help || options.version ? std::optional(std::move(options)) : std::nullopt;
}

}  // namespace

Reading read_options(std::span<const std::string> arguments, const Environment& environment,
                     std::span<const CommandName> commands, std::span<const SettingsText> files) {
  Reading out;
  if (auto beats = help_or_version(arguments, commands)) {
    out.options = std::move(*beats);
    return out;
  }
  Parser parser(arguments, commands);
  const auto keep = [&out](Status status) {
    if (!status && !out.error) {
      out.error = std::move(status).error();
    }
  };
  keep(parser.read_arguments());
  std::vector<std::vector<LayerEntry>> layers;
  const auto add = [&](Result<std::vector<LayerEntry>> layer) {
    layer ? layers.push_back(std::move(*layer)) : keep(std::move(layer).error());
  };
  add(environment_layer(environment, out.notes));
  for (const SettingsText& file : files) {
    add(settings_layer(file));
  }
  keep(parser.finish_command(layers));
  for (const std::vector<LayerEntry>& layer : layers) {
    keep(parser.read_layer(layer));
  }
  out.options = parser.take();
  return out;
}

Result<Parsed> parse_options(std::span<const std::string> arguments, const Environment& environment,
                             std::span<const CommandName> commands,
                             std::span<const SettingsText> files) {
  Reading read = read_options(arguments, environment, commands, files);
  if (read.error) {
    return std::move(*read.error);
  }
  return Parsed{std::move(read.options), std::move(read.notes)};
}

}  // namespace bv::cli

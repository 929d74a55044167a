// Names of options: aliases, letters, who uses them.

#include <fmt/format.h>

#include <algorithm>

#include "ci/cli/options/options.hpp"
#include "core/base/text.hpp"

namespace bv::cli {
namespace {

std::string normalised(std::string_view long_name) {
  std::string out(long_name);
  std::replace(out.begin(), out.end(), '_', '-');
  return out;
}

bool among(const std::vector<std::string>& words, std::string_view word) {
  return std::find(words.begin(), words.end(), word) != words.end();
}

}  // namespace

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
    if (spec.listed) {
      names.emplace_back(spec.name);
      for (std::string& alias : words_of(spec.aliases)) {
        names.push_back(std::move(alias));
      }
    }
  }
  std::string word = normalised(written);
  word.erase(0, std::min(word.find_first_not_of('-'), word.size()));
  const auto near = nearest(word, names);
  return fail(Code::UnknownOption, fmt::format("unknown option {}", escaped(written)))
      .advise(near ? fmt::format("did you mean --{}?", *near)
                   : "bridge-verify help options lists them");
}

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
    if (spec.name == name || among(words_of(spec.aliases), name)) {
      return &spec;
    }
  }
  return nullptr;
}

bool takes_value(Form form) {
  return form != Form::Flag && form != Form::Count;
}
bool repeats(Form form) {
  return form == Form::Repeat || form == Form::Pair;
}

const Setting* Options::said(std::string_view option) const {
  const auto found = std::find_if(given.begin(), given.end(),
                                  [option](const Setting& one) { return one.name == option; });
  return found == given.end() ? nullptr : &*found;
}

bool usable_by(const OptionSpec& spec, std::string_view command) {
  const std::vector<std::string> users = words_of(spec.commands);
  return spec.commands == "*" || among(users, command) ||
         among(users, command.substr(0, command.find(':')));
}

std::string command_key(const CommandName& command, std::span<const std::string> operands) {
  const std::vector<std::string> verbs = words_of(command.verbs);
  if (verbs.empty()) {
    return std::string(command.name);
  }
  const bool named = !operands.empty() && among(verbs, operands.front());
  return fmt::format("{}:{}", command.name, named ? operands.front() : verbs.front());
}

}  // namespace bv::cli

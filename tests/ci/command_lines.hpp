#pragma once
// Printed command lines, read as a shell and the option parser read them.

#include <fmt/format.h>

#include <string>
#include <vector>

#include "ci/cli/command.hpp"

namespace bv::cli::testing {

/// Words of one line with the quotes that POSIX and $'\xNN' know; no expansion.
inline std::vector<std::string> shell_words(const std::string& line) {
  std::vector<std::string> out;
  std::string word;
  bool open = false;
  for (std::size_t i = 0; i < line.size(); ++i) {
    if (line[i] == ' ') {
      if (open) {
        out.push_back(word);
      }
      word.clear();
      open = false;
      continue;
    }
    open = true;
    if (line.compare(i, 2, "$'") == 0) {
      for (i += 2; i < line.size() && line[i] != '\''; ++i) {
        if (line.compare(i, 2, "\\x") == 0) {
          word += static_cast<char>(std::stoi(line.substr(i + 2, 2), nullptr, 16));
          i += 3;
        } else {
          word += line[i];
        }
      }
    } else if (line[i] == '\'') {
      for (++i; i < line.size() && line[i] != '\''; ++i) {
        word += line[i];
      }
    } else if (line[i] == '"') {
      for (++i; i < line.size() && line[i] != '"'; ++i) {
        word += line[i];
      }
    } else if (line[i] == '\\' && i + 1 < line.size()) {
      word += line[++i];
    } else {
      word += line[i];
    }
  }
  if (open) {
    out.push_back(word);
  }
  return out;
}

inline Result<Parsed> parse_line(const std::vector<std::string>& arguments,
                                 const Environment& environment = {}) {
  std::vector<CommandName> names;
  for (const Command& command : commands()) {
    names.push_back(command.name);
  }
  return parse_options(arguments, environment, names);
}

}  // namespace bv::cli::testing

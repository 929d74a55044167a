#pragma once
// A printed command line as a shell reads it.

#include <string>
#include <vector>

namespace bv::support {

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

}  // namespace bv::support

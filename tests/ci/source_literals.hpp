#pragma once
// The string literals of the product, which are what a user can come to read.

#include <filesystem>
#include <regex>
#include <string>
#include <utility>
#include <vector>

#include "tests/support/files.hpp"
#include "tests/support/golden_text.hpp"

namespace bv::cli::testing {

/// Literals of one source, a line each: adjacent ones joined, escapes resolved.
inline std::string literals_of(const std::string& source) {
  std::string out;
  std::string joined;
  bool open = false;
  for (std::size_t i = 0; i < source.size(); ++i) {
    if (!open && source.compare(i, 2, "//") == 0) {
      i = std::min(source.find('\n', i), source.size()) - 1;
    } else if (!open && source[i] == '\'') {  // a character, or a separator of digits
      const std::size_t end = source.find('\'', i + (source[i + 1] == '\\' ? 3 : 1));
      i = end != std::string::npos && end - i <= 4 ? end : i;
    } else if (!open && source.compare(i, 2, "R\"") == 0) {
      const std::string end = ")" + source.substr(i + 2, source.find('(', i) - i - 2) + "\"";
      const std::size_t at = source.find(end, i);
      i = at == std::string::npos ? i + 1 : at + end.size() - 1;
    } else if (source[i] == '"') {
      open = !open;
    } else if (open && source[i] == '\\') {
      ++i;
      joined += source[i] == 'n' ? '\n' : source[i];
    } else if (open) {
      joined += source[i];
    } else if (source[i] != ' ' && source[i] != '\n' && !joined.empty()) {
      out += joined + "\n";
      joined.clear();
    }
  }
  return out + joined;
}

/// Path and literals of every source file of the product.
inline std::vector<std::pair<std::string, std::string>> source_literals() {
  namespace fs = std::filesystem;
  const fs::path root = fs::path(BV_FIXTURES).parent_path();
  std::vector<std::pair<std::string, std::string>> out;
  for (const char* folder : {"core", "properties", "reports", "ci", "fixtures/maker", "oracles"}) {
    for (const auto& entry : fs::recursive_directory_iterator(root / folder)) {
      const auto type = entry.path().extension();
      if (type == ".cpp" || type == ".hpp" || type == ".def") {
        out.emplace_back(fs::relative(entry.path(), root).string(),
                         literals_of(support::file_text(entry.path())));
      }
    }
  }
  return out;
}

}  // namespace bv::cli::testing

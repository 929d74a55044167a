#include "tests/docs/pages.hpp"

#include <algorithm>
#include <cctype>
#include <fstream>
#include <regex>
#include <sstream>

namespace bv::docs {
namespace {

namespace fs = std::filesystem;

const fs::path kRoot = BV_ROOT;

std::vector<std::string> lines_of(const std::string& text) {
  std::vector<std::string> out;
  std::istringstream in(text);
  for (std::string line; std::getline(in, line);) {
    out.push_back(line);
  }
  return out;
}

/// 2 for "## x"; 0 for a line that is no heading. Lines of a fenced block are none.
std::size_t level_of(const std::string& line, bool& fenced) {
  if (line.starts_with("```")) {
    fenced = !fenced;
  }
  const std::size_t level = line.find_first_not_of('#');
  return fenced || level == std::string::npos || level == 0 || line[level] != ' ' ? 0 : level;
}

std::string trimmed(const std::string& text) {
  const std::size_t first = text.find_first_not_of(' ');
  return first == std::string::npos ? ""
                                    : text.substr(first, text.find_last_not_of(' ') - first + 1);
}

bool is_foreign(const std::string& path) {
  for (const char* folder : {"fixtures/golden/megatron/", "fixtures/fuzz/", "fixtures/regress/"}) {
    if (path.starts_with(folder)) {
      return true;
    }
  }
  return path.ends_with(".json") && path.starts_with("fixtures/golden/");
}

}  // namespace

std::string read(const fs::path& path) {
  std::ifstream in(kRoot / path);
  std::ostringstream out;
  out << in.rdbuf();
  return out.str();
}

std::vector<std::string> text_files(const std::vector<std::string>& folders) {
  static const std::set<std::string> kKinds = {".cpp",  ".hpp", ".cu",    ".def", ".md",     ".txt",
                                               ".json", ".sh",  ".cmake", ".py",  ".layout", ""};
  std::vector<std::string> out;
  for (const std::string& folder : folders) {
    if (fs::is_regular_file(kRoot / folder)) {
      out.push_back(folder);
      continue;
    }
    for (const auto& entry : fs::recursive_directory_iterator(kRoot / folder)) {
      const std::string path = fs::relative(entry.path(), kRoot).string();
      if (entry.is_regular_file() && kKinds.contains(entry.path().extension().string()) &&
          !is_foreign(path)) {
        out.push_back(path);
      }
    }
  }
  std::sort(out.begin(), out.end());
  return out;
}

std::set<std::string> anchors(const std::string& page) {
  std::set<std::string> out;
  bool fenced = false;
  for (const std::string& line : lines_of(page)) {
    const std::size_t level = level_of(line, fenced);
    std::string anchor;
    for (const char c : level == 0 ? "" : line.substr(level + 1)) {
      const auto letter = static_cast<unsigned char>(c);
      if (std::isalnum(letter) != 0 || c == '-' || c == '_') {
        anchor += static_cast<char>(std::tolower(letter));
      } else if (c == ' ') {
        anchor += '-';
      }
    }
    if (level > 0) {
      out.insert(anchor);
    }
  }
  return out;
}

std::string section(const std::string& page, const std::string& heading) {
  std::string out;
  bool fenced = false;
  std::size_t inside = 0;
  for (const std::string& line : lines_of(page)) {
    const std::size_t level = level_of(line, fenced);
    if (level > 0 && (inside == 0 || level <= inside)) {
      inside = line.substr(level + 1).starts_with(heading) ? level : 0;
      continue;
    }
    out += inside > 0 ? line + "\n" : "";
  }
  return out;
}

std::vector<std::vector<std::string>> table(const std::string& text) {
  std::vector<std::vector<std::string>> out;
  for (const std::string& line : lines_of(text)) {
    if (!line.starts_with("|")) {
      if (!out.empty()) {
        break;
      }
      continue;
    }
    std::vector<std::string> cells(1);
    for (std::size_t i = 1; i < line.size(); ++i) {
      if (line[i] == '|' && line[i - 1] != '\\') {
        cells.emplace_back();
      } else if (line[i] != '\\' || i + 1 == line.size() || line[i + 1] != '|') {
        cells.back() += line[i];
      }
    }
    cells.pop_back();
    std::transform(cells.begin(), cells.end(), cells.begin(), trimmed);
    out.push_back(cells);
  }
  out.erase(out.begin(), out.begin() + std::min<std::ptrdiff_t>(2, std::ssize(out)));
  return out;
}

std::string code(const std::string& cell) {
  const std::size_t first = cell.find('`');
  const std::size_t last = cell.rfind('`');
  return first == last ? cell : cell.substr(first + 1, last - first - 1);
}

std::vector<std::string> expanded(const std::string& path) {
  const std::size_t open = path.find('{');
  const std::size_t close = path.find('}', open);
  if (open == std::string::npos || close == std::string::npos) {
    return {path};
  }
  std::vector<std::string> out;
  std::istringstream choices(path.substr(open + 1, close - open - 1));
  for (std::string choice; std::getline(choices, choice, ',');) {
    out.push_back(path.substr(0, open) + choice + path.substr(close + 1));
  }
  return out;
}

std::vector<std::string> quoted(const std::string& cell) {
  std::vector<std::string> out;
  for (std::size_t at = cell.find('`'); at != std::string::npos; at = cell.find('`', at + 1)) {
    const std::size_t end = cell.find('`', at + 1);
    if (end == std::string::npos) {
      break;
    }
    out.push_back(cell.substr(at + 1, end - at - 1));
    at = end;
  }
  return out;
}

const std::set<std::string>& test_names() {
  static const std::set<std::string> names = [] {
    const std::regex test(R"(\bTEST(?:_F|_P)?\(\s*(\w+),\s*(\w+)\))");
    std::set<std::string> out;
    for (const std::string& file : text_files({"tests"})) {
      if (file.ends_with("_test.cpp")) {
        const std::string text = read(file);
        for (std::sregex_iterator at(text.begin(), text.end(), test), end; at != end; ++at) {
          out.insert((*at)[1].str() + "." + (*at)[2].str());
        }
      }
    }
    return out;
  }();
  return names;
}

}  // namespace bv::docs

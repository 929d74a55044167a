// What no compiler knows: the direction of dependence, sizes of files, where printing is allowed,
// and that the README says what CI does.

#include <gtest/gtest.h>

#include <algorithm>
#include <filesystem>
#include <fstream>
#include <map>
#include <regex>
#include <set>
#include <sstream>

namespace {

namespace fs = std::filesystem;

const fs::path kRoot = BV_ROOT;

std::string read(const fs::path& path) {
  std::ifstream in(path);
  std::ostringstream out;
  out << in.rdbuf();
  return out.str();
}

std::vector<fs::path> sources(const std::vector<std::string>& folders) {
  std::vector<fs::path> out;
  for (const std::string& folder : folders) {
    for (const auto& entry : fs::recursive_directory_iterator(kRoot / folder)) {
      const auto extension = entry.path().extension();
      if (entry.is_regular_file() &&
          (extension == ".cpp" || extension == ".hpp" || extension == ".cu")) {
        out.push_back(entry.path());
      }
    }
  }
  std::sort(out.begin(), out.end());
  return out;
}

/// The room a path or an include line belongs to: "core/layout", "properties/claims", "oracles",
/// ...
std::string room_of(const std::string& path) {
  const std::size_t slash = path.find('/');
  const std::string top = path.substr(0, slash);
  if (top != "core" && top != "properties" && top != "fixtures" && top != "ci") {
    return top;
  }
  return path.substr(0, path.find('/', slash + 1));
}

/// Who includes whom: exactly the arrows that exist, so that a new one is a decision.
const std::map<std::string, std::set<std::string>>& arrows() {
  static const std::map<std::string, std::set<std::string>> table = {
      {"ci/cli", {"core/base",      "core/checkpoint", "core/comm",          "core/compare",
                  "core/convert",   "core/cuda",       "core/family",        "core/foreign",
                  "core/io",        "core/kinds",      "core/layout",        "core/lora",
                  "core/merge",     "core/model",      "core/plan",          "core/quantised",
                  "core/serve",     "core/torch_dist", "core/trace",         "core/verdict",
                  "fixtures/maker", "oracles",         "properties/attacks", "properties/claims",
                  "reports"}},
      {"core/checkpoint",
       {"core/base", "core/family", "core/io", "core/kinds", "core/layout", "core/model",
        "core/move", "core/parallel", "core/plan", "core/quantised"}},
      {"core/comm",
       {"core/base", "core/checkpoint", "core/io", "core/kinds", "core/move", "core/parallel",
        "core/plan"}},
      {"core/compare",
       {"core/base", "core/checkpoint", "core/comm", "core/io", "core/kinds", "core/move",
        "core/plan"}},
      {"core/convert",
       {"core/base", "core/checkpoint", "core/comm", "core/io", "core/kinds", "core/layout",
        "core/move", "core/pickle", "core/plan", "core/torch_dist"}},
      {"core/cuda", {"core/base", "core/layout", "core/move"}},
      {"core/family", {"core/base"}},
      {"core/foreign", {"core/base", "core/family", "core/kinds", "core/layout", "core/model"}},
      {"core/io", {"core/base", "core/pickle"}},
      {"core/kinds", {"core/base", "core/layout"}},
      {"core/layout", {"core/base"}},
      {"core/lora",
       {"core/base", "core/checkpoint", "core/convert", "core/family", "core/io", "core/kinds",
        "core/layout", "core/model", "core/move", "core/parallel", "core/plan"}},
      {"core/merge",
       {"core/base", "core/checkpoint", "core/convert", "core/io", "core/kinds", "core/lora",
        "core/move"}},
      {"core/model", {"core/base", "core/family"}},
      {"core/move", {"core/base", "core/kinds", "core/layout"}},
      {"core/parallel", {"core/base"}},
      {"core/pickle", {"core/base"}},
      {"core/plan",
       {"core/base", "core/family", "core/kinds", "core/layout", "core/model", "core/parallel"}},
      {"core/quantised", {"core/base", "core/kinds"}},
      {"core/serve", {"core/base", "core/comm", "core/convert", "core/io", "core/lora"}},
      {"core/torch_dist", {"core/base", "core/io", "core/pickle"}},
      {"core/trace", {"core/base", "core/plan"}},
      {"core/verdict", {"core/base"}},
      {"fixtures/maker",
       {"core/base", "core/checkpoint", "core/io", "core/kinds", "core/model", "core/plan"}},
      {"oracles", {"core/base"}},
      {"properties/attacks",
       {"core/base", "core/checkpoint", "core/family", "core/io", "core/kinds", "core/layout",
        "core/lora", "core/model", "core/move", "core/parallel", "core/plan", "core/verdict",
        "oracles", "properties/claims"}},
      {"properties/claims",
       {"core/base", "core/checkpoint", "core/comm", "core/convert", "core/foreign", "core/io",
        "core/kinds", "core/layout", "core/lora", "core/merge", "core/model", "core/move",
        "core/parallel", "core/plan", "core/serve", "core/verdict", "oracles"}},
      {"reports", {"core/base", "core/verdict"}},
  };
  return table;
}

/// The other rooms that one file includes.
std::set<std::string> rooms_included(const std::string& room, const std::string& text) {
  std::set<std::string> out;
  static const std::regex kInclude("#include \"([^\"]+)\"");
  for (std::sregex_iterator at(text.begin(), text.end(), kInclude), end; at != end; ++at) {
    const std::string path = (*at)[1];
    if (path.find('/') != std::string::npos && room_of(path) != room) {
      out.insert(room_of(path));
    }
  }
  return out;
}

TEST(Tidy, TheArrowsBetweenRoomsAreTheseAndNoOthers) {
  std::map<std::string, std::set<std::string>> found;
  for (const fs::path& path :
       sources({"core", "oracles", "properties", "reports", "fixtures", "ci"})) {
    const std::string relative = fs::relative(path, kRoot).string();
    const std::string room = room_of(relative);
    for (const std::string& other : rooms_included(room, read(path))) {
      found[room].insert(other);
      const auto row = arrows().find(room);
      EXPECT_TRUE(row != arrows().end() && row->second.contains(other))
          << relative << " includes " << other;
    }
  }
  EXPECT_EQ(found, arrows());
}

TEST(Tidy, TheIncludeCheckSeesAWrongInclude) {
  EXPECT_EQ(rooms_included("oracles", "#include \"core/layout/box.hpp\"\n"),
            std::set<std::string>{"core/layout"});
  EXPECT_FALSE(arrows().at("oracles").contains("core/layout"));
  EXPECT_EQ(
      rooms_included("properties/claims", "#include \"properties/attacks/lines/plain.hpp\"\n"),
      std::set<std::string>{"properties/attacks"});
  EXPECT_FALSE(arrows().at("properties/claims").contains("properties/attacks"));
  for (const char* sibling : {"core/convert", "core/compare", "core/trace"}) {
    for (const char* other : {"core/convert", "core/compare", "core/trace"}) {
      EXPECT_FALSE(arrows().at(sibling).contains(other)) << sibling << " " << other;
    }
  }
}

TEST(Tidy, NothingBelowCiPrintsOrExits) {
  static const std::regex kPrint(R"(std::(cout|cerr|clog)|[^:\w]printf\(|std::exit\()");
  for (const fs::path& path : sources({"core", "oracles", "properties", "reports"})) {
    EXPECT_FALSE(std::regex_search(read(path), kPrint)) << path;
  }
}

/// core/base/json_text.hpp escapes what a reader cannot see; these two make a text of a value that
/// is escaped where it is shown.
TEST(Tidy, WhatIsWrittenAsJsonGoesThroughOnePlace) {
  const std::set<std::string> texts = {"ci/cli/session/diff_configs.cpp",
                                       "ci/cli/commands/survey.cpp"};
  std::size_t seen = 0;
  for (const fs::path& path : sources({"reports", "ci/cli"})) {
    const std::string text = read(path);
    seen += text.find("json_text(") != std::string::npos ? 1U : 0U;
    if (!texts.contains(path.lexically_relative(kRoot).generic_string())) {
      EXPECT_EQ(text.find(".dump("), std::string::npos) << path << ": json_text(value, indent)";
    }
  }
  EXPECT_GT(seen, 10U);
}

TEST(Tidy, LibTorchStaysOutOfHeadersAndOutOfTheEngine) {
  for (const fs::path& path :
       sources({"core", "oracles", "properties", "reports", "ci", "fixtures"})) {
    const std::string relative = fs::relative(path, kRoot).string();
    const std::string text = read(path);
    const bool uses = text.find("#include <ATen") != std::string::npos ||
                      text.find("#include <torch") != std::string::npos;
    // Inside oracles/ a header may hold LibTorch when only oracles/*.cpp include it; the public
    // ones may not.
    EXPECT_FALSE(uses && !relative.starts_with("oracles/")) << relative;
    EXPECT_FALSE(uses &&
                 (relative == "oracles/oracle.hpp" || relative == "oracles/forward/forward.hpp" ||
                  relative == "oracles/forward/facts.hpp"))
        << relative;
  }
}

TEST(Tidy, NoFileIsLongerThan400Lines) {
  for (const fs::path& path :
       sources({"core", "oracles", "properties", "reports", "ci", "fixtures", "tests"})) {
    const std::string text = read(path);
    EXPECT_LE(std::count(text.begin(), text.end(), '\n'), 400) << path;
  }
}

std::vector<std::string> lines_of(const std::string& text) {
  std::vector<std::string> out;
  std::istringstream in(text);
  for (std::string line; std::getline(in, line);) {
    out.push_back(line);
  }
  return out;
}

/// The line on which the head that ends on line `i` begins: a few lines above where arguments or a
/// condition go over several.
std::size_t head_of(const std::vector<std::string>& lines, std::size_t i) {
  constexpr std::size_t kHeadLinesMax = 8;
  std::ptrdiff_t open = 0;
  for (std::size_t up = 0; up < kHeadLinesMax && up <= i; ++up) {
    const std::string& line = lines[i - up];
    open += std::count(line.begin(), line.end(), '(') - std::count(line.begin(), line.end(), ')');
    if (open >= 0) {
      return i - up;
    }
  }
  return i;
}

/// Does line `i` end the head of a function? Conditions, lambdas, loops over lists and the ends of
/// long initialisers are none, and a function that is one static table has data, not length.
bool begins_function(const std::vector<std::string>& lines, std::size_t i) {
  static const std::regex kBegin(R"(^ *[^ ].*\)( const)?( noexcept)?( override)? \{$)");
  static const std::regex kNone(
      R"(^ *(namespace|if|for|while|switch|else|do|catch|\}|:|,).*|.*\]\(.*)");
  const std::size_t head = head_of(lines, i);
  return std::regex_match(lines[i], kBegin) && !std::regex_match(lines[head], kNone) &&
         !lines[i].ends_with("}) {") && !(head == i && i > 0 && lines[i - 1].ends_with(",")) &&
         !(i + 1 < lines.size() && lines[i + 1].starts_with("  static const"));
}

/// Line, from 1, and length of each function of formatted code that has more lines than `most`.
std::vector<std::pair<std::size_t, std::size_t>> long_functions(const std::string& text,
                                                                std::size_t most) {
  const std::vector<std::string> lines = lines_of(text);
  std::vector<std::pair<std::size_t, std::size_t>> out;
  for (std::size_t i = 0; i < lines.size(); ++i) {
    if (!lines[i].ends_with("{") || !begins_function(lines, i)) {
      continue;
    }
    const std::size_t head = head_of(lines, i);
    const std::string end = lines[head].substr(0, lines[head].find_first_not_of(' ')) + "}";
    std::size_t last = i + 1;
    while (last < lines.size() && !lines[last].starts_with(end)) {
      ++last;
    }
    if (last - head + 1 > most) {
      out.emplace_back(head + 1, last - head + 1);
    }
  }
  return out;
}

TEST(Tidy, NoFunctionIsLongerThan70Lines) {
  for (const fs::path& path :
       sources({"core", "oracles", "properties", "reports", "ci", "fixtures", "tests"})) {
    for (const auto& [line, count] : long_functions(read(path), 70)) {
      ADD_FAILURE() << path << ":" << line << " has " << count << " lines";
    }
  }
}

TEST(Tidy, TheLengthCheckSeesALongFunction) {
  const std::string text = "int f() {\n  a();\n  b();\n}\nint g() {\n  a();\n}\n";
  EXPECT_EQ(long_functions(text, 3), (std::vector<std::pair<std::size_t, std::size_t>>{{1, 4}}));
  EXPECT_TRUE(long_functions(text, 4).empty());
}

/// Lines with a `default:` in a switch over an enumeration: a value that is added later would be
/// taken for another one without a word.
std::vector<std::size_t> defaults_over_enums(const std::string& text) {
  static const std::regex kEnumerator(R"(^ *case (\w+::)*[A-Z]\w*::\w+:.*)");
  const std::vector<std::string> lines = lines_of(text);
  std::vector<std::size_t> out;
  for (std::size_t i = 0; i < lines.size(); ++i) {
    const std::size_t indent = lines[i].find_first_not_of(' ');
    if (indent == std::string::npos || !lines[i].substr(indent).starts_with("default:")) {
      continue;
    }
    for (std::size_t at = i; at-- > 0;) {
      const std::size_t own = lines[at].find_first_not_of(' ');
      if (own != std::string::npos && own < indent) {
        break;  // the switch itself
      }
      if (own == indent && std::regex_match(lines[at], kEnumerator)) {
        out.push_back(i + 1);
        break;
      }
    }
  }
  return out;
}

/// A folder can turn unreadable while it is listed: ++ of the iterator throws then, and
/// increment(error) does not.
bool lists_by_throwing(const std::string& text) {
  static const std::regex kThrows(
      R"((:\s*|std::distance\()(std::filesystem|fs)::(recursive_)?directory_iterator)");
  return std::regex_search(text, kThrows);
}

TEST(Tidy, NoFolderIsListedByAnIteratorThatThrows) {
  for (const fs::path& path : sources({"core", "properties", "reports", "ci", "fixtures"})) {
    EXPECT_FALSE(lists_by_throwing(read(path))) << path;
  }
  EXPECT_TRUE(lists_by_throwing("for (const auto& one : fs::directory_iterator(folder)) {"));
  EXPECT_TRUE(lists_by_throwing("std::distance(fs::recursive_directory_iterator(a, e), {})"));
  EXPECT_FALSE(lists_by_throwing("fs::directory_iterator at(folder, error);"));
}

TEST(Tidy, NoSwitchOverAnEnumHasADefault) {
  for (const fs::path& path :
       sources({"core", "oracles", "properties", "reports", "ci", "fixtures"})) {
    EXPECT_EQ(defaults_over_enums(read(path)), std::vector<std::size_t>{}) << path;
  }
}

TEST(Tidy, TheSwitchCheckTellsEnumsFromNumbers) {
  EXPECT_EQ(defaults_over_enums("  switch (a) {\n    case A::B:\n      f();\n    default:\n  }\n"),
            std::vector<std::size_t>{4});
  EXPECT_EQ(defaults_over_enums("  switch (a) {\n    case 'b':\n      f();\n    default:\n  }\n"),
            std::vector<std::size_t>{});
}

TEST(Tidy, NothingIsLeftForLater) {
  const std::vector<std::string> words = {std::string("TO") + "DO", std::string("FIX") + "ME",
                                          std::string("X") + "XX"};
  for (const fs::path& path :
       sources({"core", "oracles", "properties", "reports", "ci", "fixtures"})) {
    const std::string text = read(path);
    for (const std::string& word : words) {
      EXPECT_EQ(text.find(word + ":"), std::string::npos) << path << " " << word;
      EXPECT_EQ(text.find(word + " "), std::string::npos) << path << " " << word;
    }
  }
}

/// The one command in the fenced block under a heading.
std::string command_under(const std::string& readme, const std::string& heading) {
  const std::size_t at = readme.find("\n## " + heading + "\n");
  if (at == std::string::npos) {
    return "";
  }
  const std::size_t open = readme.find("\n```", at);
  const std::size_t start = readme.find('\n', open + 1) + 1;
  return readme.substr(start, readme.find("\n```", start) - start);
}

TEST(Readme, HasOneCommandToRunAndOneToTestAndCiRunsTheSecond) {
  const std::string readme = read(kRoot / "README.md");
  EXPECT_LE(std::count(readme.begin(), readme.end(), '\n'), 150);
  const std::string run = command_under(readme, "Run it");
  const std::string test = command_under(readme, "Test it");
  EXPECT_NE(run, "");
  EXPECT_NE(test, "");
  EXPECT_EQ(run.find('\n'), std::string::npos);
  EXPECT_EQ(test.find('\n'), std::string::npos);
  EXPECT_NE(read(kRoot / ".ci" / "run").find("\n" + test + "\n"), std::string::npos);
}

}  // namespace

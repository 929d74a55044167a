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

/// The layer a path or an include line belongs to: "core/layout", "oracles", ...
std::string layer_of(const std::string& path) {
  const std::size_t slash = path.find('/');
  const std::string top = path.substr(0, slash);
  if (top != "core") {
    return top;
  }
  return path.substr(0, path.find('/', slash + 1));
}

/// What each layer may include, besides itself.
const std::map<std::string, std::set<std::string>>& allowed() {
  static const std::map<std::string, std::set<std::string>> table = {
      {"core/base", {}},
      {"core/verdict", {"core/base"}},
      {"core/layout", {"core/base"}},
      {"core/kinds", {"core/base", "core/layout"}},
      {"core/model", {"core/base", "core/layout", "core/kinds"}},
      {"core/parallel", {"core/base", "core/model"}},
      {"core/io", {"core/base"}},
      {"core/exec",
       {"core/base", "core/layout", "core/kinds", "core/model", "core/parallel", "core/io"}},
      {"oracles", {"core/base", "core/model"}},
      {"properties",
       {"core/base", "core/verdict", "core/layout", "core/kinds", "core/model", "core/parallel",
        "core/io", "core/exec", "oracles", "fixtures"}},
      {"fixtures",
       {"core/base", "core/layout", "core/kinds", "core/model", "core/parallel", "core/io",
        "core/exec"}},
      {"reports", {"core/base", "core/verdict"}},
  };
  return table;
}

/// Includes of one file that its layer may not have.
std::vector<std::string> forbidden_includes(const std::string& layer, const std::string& text) {
  std::vector<std::string> out;
  static const std::regex kInclude("#include \"([^\"]+)\"");
  for (std::sregex_iterator at(text.begin(), text.end(), kInclude), end; at != end; ++at) {
    const std::string path = (*at)[1];
    if (path.find('/') == std::string::npos) {
      continue;
    }
    const std::string target = layer_of(path);
    const auto rule = allowed().find(layer);
    if (rule != allowed().end() && target != layer && !rule->second.contains(target)) {
      out.push_back(path);
    }
  }
  return out;
}

TEST(Tidy, DependenceRunsInOneDirection) {
  for (const fs::path& path : sources({"core", "oracles", "properties", "reports", "fixtures"})) {
    const std::string relative = fs::relative(path, kRoot).string();
    EXPECT_EQ(forbidden_includes(layer_of(relative), read(path)), std::vector<std::string>{})
        << relative;
  }
}

TEST(Tidy, TheIncludeCheckSeesAWrongInclude) {
  EXPECT_EQ(forbidden_includes("oracles", "#include \"core/layout/box.hpp\"\n"),
            std::vector<std::string>{"core/layout/box.hpp"});
  EXPECT_TRUE(forbidden_includes("oracles", "#include \"core/base/text.hpp\"\n").empty());
}

TEST(Tidy, NothingBelowCiPrintsOrExits) {
  static const std::regex kPrint(R"(std::(cout|cerr|clog)|[^:\w]printf\(|std::exit\()");
  for (const fs::path& path : sources({"core", "oracles", "properties", "reports"})) {
    EXPECT_FALSE(std::regex_search(read(path), kPrint)) << path;
  }
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

TEST(Tidy, NoFileIsLongerThan800Lines) {
  for (const fs::path& path :
       sources({"core", "oracles", "properties", "reports", "ci", "fixtures", "tests"})) {
    const std::string text = read(path);
    EXPECT_LE(std::count(text.begin(), text.end(), '\n'), 800) << path;
  }
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

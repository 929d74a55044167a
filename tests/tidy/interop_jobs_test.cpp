// Every file of tests/interop runs somewhere, and where what it needs is there.

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <filesystem>
#include <fstream>
#include <set>
#include <sstream>
#include <string>

namespace {

using Names = std::set<std::string>;

std::string text_of(const std::filesystem::path& path) {
  std::ifstream in(std::filesystem::path(BV_ROOT) / path);
  std::ostringstream out;
  out << in.rdbuf();
  return out.str();
}

/// The words of the one line that begins so, behind its beginning.
Names words_of_line(const std::string& text, const std::string& beginning) {
  const std::size_t at = text.find(beginning);
  if (at == std::string::npos || text.find(beginning, at + 1) != std::string::npos) {
    ADD_FAILURE() << "no line, or several: " << beginning;
    return {};
  }
  const std::size_t start = at + beginning.size();
  std::istringstream line(text.substr(start, text.find('\n', start) - start));
  Names out;
  for (std::string word; line >> word;) {
    const std::string name = word.substr(word.find_last_of('/') + 1);
    out.insert(name.substr(0, name.find(')')));  // of a list of CMake
  }
  return out;
}

TEST(InteropJobs, EveryFileHasAJobThatHasWhatItNeeds) {
  const std::string jobs = text_of("ci/do");
  const Names bridges = words_of_line(
      jobs, "exec \"$environment/bin/python\" -m pytest -q -rs -p no:cacheprovider export_test.py");
  const Names packages =
      words_of_line(jobs, "exec build/packages/bin/python -m pytest -q -rs -p no:cacheprovider ");
  // Everything there is: the job of ci/do names no file.
  EXPECT_THAT(
      words_of_line(jobs,
                    "exec \"$environment/bin/python\" -m pytest -q -rs -p no:cacheprovider \"$@\""),
      testing::IsEmpty());
  Names ctest = words_of_line(text_of("tests/interop/CMakeLists.txt"), "foreach(part ");
  ctest.insert("forward_forms");
  std::size_t seen = 0;
  for (const auto& entry :
       std::filesystem::directory_iterator(std::filesystem::path(BV_ROOT) / "tests/interop")) {
    const std::string file = entry.path().filename().string();
    if (!file.ends_with("_test.py")) {
      continue;
    }
    ++seen;
    const std::string text = text_of("tests/interop/" + file);
    const bool bridge = text.find("needs_bridge") != std::string::npos;
    EXPECT_EQ(bridge, bridges.contains(file) || file == "export_test.py") << file;
    const bool elsewhere = bridge || packages.contains(file);
    EXPECT_TRUE(elsewhere || ctest.contains(file.substr(0, file.rfind("_test.py")))) << file;
  }
  EXPECT_GE(seen, 30U);
}

}  // namespace

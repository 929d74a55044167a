// fuzz --replay of saved lines: no oracle is needed for them.

#include <nlohmann/json.hpp>

#include "tests/ci/run_command.hpp"

namespace bv::cli {
namespace {

using Json = nlohmann::json;
using testing::run_line;
using testing::TempFolder;

std::string saved(const TempFolder& folder, std::string_view text) {
  const auto file = folder.path() / "case.json";
  testing::write_text(file, text);
  return file.string();
}

TEST(FuzzCommand, HoldsOnASavedLineThatIsRight) {
  const auto ended =
      run_line({"fuzz", "--json", "--replay",
                std::string(BV_FIXTURES) + "/regress/worlds/line_copies_parted_by_the_cut.json"});
  EXPECT_EQ(ended.code, 0) << ended.err << ended.out;
  const Json json = Json::parse(ended.out);
  EXPECT_EQ(json.at("claims")[0].at("id"), "random_lines");
  EXPECT_EQ(json.at("claims")[0].at("subjects"), 1);
}

TEST(FuzzCommand, EndsWithOneOnALineThatIsNoBijection) {
  const TempFolder folder;
  const auto ended =
      run_line({"fuzz", "--replay",
                saved(folder, R"({"line": "a x[(t o)] -> x[o]", "axes": {"t": 2, "o": 3}})")});
  EXPECT_EQ(ended.code, 1) << ended.err;
  EXPECT_NE(ended.out.find("axis t appears on the source side only"), std::string::npos)
      << ended.out;
  EXPECT_NE(ended.out.find("bridge-verify fuzz --replay"), std::string::npos) << ended.out;
}

TEST(FuzzCommand, RefusesAFileThatIsNoCase) {
  const TempFolder folder;
  const auto line = run_line({"fuzz", "--replay", saved(folder, R"({"line": 3})")});
  EXPECT_EQ(line.code, 2) << line.out;
  EXPECT_NE(line.err.find("this is not a saved line"), std::string::npos) << line.err;
  const auto absent = run_line({"fuzz", "--replay", (folder.path() / "absent.json").string()});
  EXPECT_EQ(absent.code, 5) << absent.err;
}

/// What is printed to be copied is a command.
TEST(FuzzCommand, TheReplayOfASavedCaseIsALineThatRepeatsIt) {
  const TempFolder folder;
  const std::string file =
      saved(folder, R"({"line": "a x[(t o)] -> x[o]", "axes": {"t": 2, "o": 3}})");
  const Json json = Json::parse(run_line({"fuzz", "--json", "--replay", file}).out);
  EXPECT_EQ(json.at("verdicts")[0].at("replay"), "bridge-verify fuzz --replay " + file);
}

}  // namespace
}  // namespace bv::cli

// fuzz as a user runs it: a short run, a saved case again, and files that are none.

#include <fstream>
#include <nlohmann/json.hpp>

#include "tests/e2e/process.hpp"

namespace bv::e2e {
namespace {

using Json = nlohmann::ordered_json;

std::string regress(const std::string& name) {
  return std::string(BV_FIXTURES) + "/regress/worlds/" + name;
}

TEST(Fuzz, AShortRunDrawsLinesAndWorldsAndSaysHowMany) {
  const TempFolder folder;
  const Ended ended =
      run({"fuzz", "--seconds", "2", "--seed", "7", "--json", "--out", folder / "found"});
  ASSERT_EQ(ended.code, 0) << ended.all();
  const Json out = Json::parse(ended.out);
  EXPECT_EQ(out["command"]["name"], "fuzz");
  EXPECT_EQ(out["command"]["seed"], 7);
  ASSERT_EQ(out["verdicts"].size(), 3U);
  for (const Json& verdict : out["verdicts"]) {
    EXPECT_EQ(verdict["outcome"], "Held") << verdict;
    EXPECT_GT(verdict["cases"], 0) << verdict;
  }
  EXPECT_TRUE(std::filesystem::exists(folder.path() / "found/verdicts.json"));
}

TEST(Fuzz, SavedLinesAndWorldsAreRunAgain) {
  for (const char* name :
       {"line_copies_parted_by_the_cut.json", "gdn_three_value_heads_tp2_pp2.json"}) {
    const Ended ended = run({"fuzz", "--replay", regress(name)});
    EXPECT_EQ(ended.code, 0) << name << ended.all();
    EXPECT_EQ(ended.word(), "PASS") << name << ended.all();
  }
}

TEST(Fuzz, ASavedLineThatIsWrongIsRefutedAndNamed) {
  const TempFolder folder;
  std::ofstream(folder.path() / "line.json")
      << R"({"line": "half x[(a: n | b: n)] -> x{t}[a: n]", "axes": {"n": 2, "t": 1}})";
  const Ended bad = run({"fuzz", "--replay", folder / "line.json"});
  EXPECT_EQ(bad.code, 5) << bad.all();  // no line at all
  std::ofstream(folder.path() / "line.json")
      << R"({"line": "half x[n m] -> x[n]", "axes": {"n": 2, "m": 2}, "rest": []})";
  const Ended wrong = run({"fuzz", "--replay", folder / "line.json"});
  EXPECT_EQ(wrong.code, 1) << wrong.all();
  EXPECT_NE(wrong.out.find("axis m appears on the source side only"), std::string::npos)
      << wrong.all();
}

TEST(Fuzz, AFileThatIsNoCaseAndAFolderThatCannotBeMadeAreRefused) {
  const TempFolder folder;
  std::ofstream(folder.path() / "case.json") << "[1, 2";
  const Ended ended = run({"fuzz", "--replay", folder / "case.json"});
  EXPECT_EQ(ended.code, 2) << ended.all();
  EXPECT_NE(ended.err.find("this is not a saved case"), std::string::npos) << ended.err;
  // Refused before anything is drawn: a run that begins is killed after 120 s and fails here.
  const Ended out = run({"fuzz", "--seconds", "600", "--out", folder / "case.json/found"});
  EXPECT_EQ(out.code, 5) << out.all();
}

}  // namespace
}  // namespace bv::e2e

#include <gtest/gtest.h>

#include <algorithm>
#include <nlohmann/json.hpp>

#include "tests/ci/run_command.hpp"
#include "tests/support/golden_text.hpp"

namespace bv::cli::testing {
namespace {

using nlohmann::json;
namespace fs = std::filesystem;

const fs::path kRegistries = fs::path(BV_FIXTURES) / "registries";

/// Copies of two rows of the committed survey: a right one and one with a known defect.
class Survey : public ::testing::Test {
 protected:
  void SetUp() override {
    for (const char* name : {"llama", "exaone4"}) {
      for (const char* end : {".rules.json", ".headers.json.gz"}) {
        fs::copy_file(kRegistries / (std::string(name) + end),
                      folder_.path() / (name + std::string(end)));
      }
    }
    notes({"BV1001", "BV1003"});
  }

  void notes(const std::vector<std::string>& codes) {
    const json rows = {
        {"llama", {{"real", "equal"}, {"variant", "base"}}},
        {"exaone4",
         {{"real", "crashes at load"}, {"findings", {{{"name", "D3"}, {"codes", codes}}}}}}};
    write_text(folder_.path() / "survey.json",
               json{{"schema", "bridge-survey-corpus/1"}, {"rows", rows}}.dump());
  }

  [[nodiscard]] Ended survey(std::vector<std::string> more = {}) const {
    more.insert(more.begin(), {"survey", folder_.path().string()});
    return run_line(more);
  }
  [[nodiscard]] fs::path at(const std::string& name) const { return folder_.path() / name; }

  TempFolder folder_;
};

TEST_F(Survey, HasARowForEachRulesFileTheWorstFirst) {
  const Ended ended = survey({"--json"});
  EXPECT_EQ(ended.code, 1) << ended.err;
  const json out = json::parse(ended.out);
  EXPECT_EQ(out.at("schema"), "bridge-survey/1");
  ASSERT_EQ(out.at("rows").size(), 2U);
  const json& red = out.at("rows").at(0);
  EXPECT_EQ(red.at("name"), "exaone4");
  EXPECT_EQ(red.at("result"), "FAIL");
  EXPECT_EQ(red.at("refuted"), json({{"BV1001", 1}, {"BV1003", 1}}));
  EXPECT_EQ(red.at("findings"), json({{"D3", true}}));
  EXPECT_EQ(red.at("contradicts"), false);
  const json& green = out.at("rows").at(1);
  EXPECT_EQ(green.at("result"), "PASS");
  EXPECT_EQ(green.at("claims").at("names").at(0), "Proved");
  EXPECT_EQ(out.at("totals").at("findings_shown"), 1);
}

TEST_F(Survey, ADefectIsShownOnlyByAllOfItsCodes) {
  notes({"BV1001", "BV2001"});
  const json out = json::parse(survey({"--json"}).out);
  EXPECT_EQ(out.at("rows").at(0).at("findings"), json({{"D3", false}}));
}

TEST_F(Survey, AVerdictAgainstTheRealBridgeIsSaid) {
  const json rows = {{"llama", {{"real", "3 unfilled"}}}, {"exaone4", {{"real", "equal"}}}};
  write_text(at("survey.json"), json{{"schema", "bridge-survey-corpus/1"}, {"rows", rows}}.dump());
  const Ended ended = survey();
  EXPECT_NE(ended.out.find("BUT really 3 unfilled"), std::string::npos) << ended.out;
  EXPECT_NE(ended.out.find("BUT really equal"), std::string::npos) << ended.out;
  EXPECT_NE(ended.out.find("2 against the real bridge"), std::string::npos) << ended.out;
}

TEST_F(Survey, WithABaselineOnlyNewRedsFail) {
  write_text(at("before.json"), survey({"--json"}).out);
  EXPECT_EQ(survey({"--baseline", at("before.json").string()}).code, 0);
  json before = json::parse(survey({"--json"}).out);
  before["rows"][0]["refuted"].erase("BV1003");  // a red row that has become worse
  write_text(at("before.json"), before.dump());
  const Ended worse = survey({"--baseline", at("before.json").string()});
  EXPECT_EQ(worse.code, 1);
  EXPECT_NE(worse.out.find("newly red"), std::string::npos) << worse.out;
  json fewer = json::parse(survey({"--json"}).out);
  fewer["rows"][0]["refuted"].begin().value() = 0;  // the same code, of another rule too
  write_text(at("before.json"), fewer.dump());
  EXPECT_EQ(survey({"--baseline", at("before.json").string()}).code, 1);
}

/// The hook of a fork changes a tensor of a rule: that rule is no longer judged.
TEST_F(Survey, ARowThatIsNoLongerJudgedFailsTheBaseline) {
  fs::remove(at("exaone4.rules.json"));
  write_text(at("before.json"), survey({"--json"}).out);
  json rules = json::parse(support::file_text(at("llama.rules.json")));
  rules["hooks"]["maybe_modify_loaded_hf_weight"] = "Fork";
  rules["hooks"]["changes"] = {rules.at("rules").at(7).at("id")};
  write_text(at("llama.rules.json"), rules.dump());
  const Ended worse = survey({"--baseline", at("before.json").string()});
  EXPECT_EQ(worse.code, 1) << worse.out;
  EXPECT_NE(worse.out.find("; newly undecided"), std::string::npos) << worse.out;
  EXPECT_NE(worse.out.find("1 newly undecided"), std::string::npos) << worse.out;
  json open = json::parse(survey({"--json"}).out);
  write_text(at("open.json"), open.dump());
  EXPECT_EQ(survey({"--baseline", at("open.json").string()}).code, 0);
  open["rows"][0]["rules_not_judged"] = 0;  // a row that was undecided, and of which less is judged
  write_text(at("open.json"), open.dump());
  EXPECT_EQ(survey({"--baseline", at("open.json").string()}).code, 1);
}

TEST_F(Survey, ARowThatIsGoneFailsTheBaseline) {
  write_text(at("before.json"), survey({"--json"}).out);
  fs::remove(at("llama.rules.json"));
  const Ended ended = survey({"--baseline", at("before.json").string()});
  EXPECT_EQ(ended.code, 1);
  EXPECT_NE(ended.out.find("lost        llama"), std::string::npos) << ended.out;
}

TEST_F(Survey, WritesThePageAndTheReportOfEachRow) {
  const Ended ended = survey({"--out", at("out").string()});
  EXPECT_EQ(ended.code, 1);
  for (const char* name : {"survey.html", "survey.json", "llama.html", "exaone4.html"}) {
    EXPECT_TRUE(fs::exists(at("out") / name)) << name;
  }
}

TEST_F(Survey, ARulesFileWithoutACheckpointIsARowAndNotAnEnd) {
  fs::remove(at("llama.headers.json.gz"));
  const json out = json::parse(survey({"--json"}).out);
  EXPECT_EQ(out.at("totals").at("stopped"), 1);
  EXPECT_EQ(out.at("totals").at("refuted"), 1);
}

TEST_F(Survey, AFolderWithoutRulesIsRefused) {
  const Ended ended = run_line({"survey", at("none").string()});
  EXPECT_NE(ended.code, 0);
  fs::create_directory(at("empty"));
  EXPECT_EQ(run_line({"survey", at("empty").string()}).code, 2);
}

/// survey.expected.json is the state of the released bridges: the next release is a diff of it.
TEST(SurveyOfTheRegistries, IsAsItIsCommitted) {
  const Ended ended = run_line({"survey", kRegistries.string(), "--json"});
  std::ifstream file(kRegistries / "survey.expected.json");
  const std::string expected{std::istreambuf_iterator<char>(file), {}};
  EXPECT_EQ(json::parse(ended.out), json::parse(expected));
  const json totals = json::parse(expected).at("totals");
  EXPECT_EQ(totals.at("contradicting"), 0);
  EXPECT_EQ(totals.at("findings"), totals.at("findings_shown"));
}

/// Without the list of parameters less is known, and nothing that is right becomes wrong.
TEST(SurveyCorpus, WithoutItsListNoRightRegistryIsRefuted) {
  const TempFolder folder;
  int rows = 0;
  for (const auto& entry : fs::directory_iterator(kRegistries)) {
    const std::string file = entry.path().filename().string();
    constexpr std::string_view kEnd = ".rules.json";
    const fs::path headers =
        kRegistries /
        (file.substr(0, file.size() - std::min(file.size(), kEnd.size())) + ".headers.json.gz");
    const bool variant = std::count(file.begin(), file.end(), '.') > 2;  // the base says as much
    if (!file.ends_with(kEnd) || variant || !fs::exists(headers)) {
      continue;
    }
    json rules = json::parse(support::file_text(entry.path()));
    if (rules.erase("model") == 0) {
      continue;
    }
    const auto check = [&](const fs::path& with) {
      return run_line({"check", "--headers", headers.string(), "--rules", with.string(), "-q"});
    };
    write_text(folder.path() / "alone.rules.json", rules.dump());
    const Ended alone = check(folder.path() / "alone.rules.json");
    if (alone.code == 1) {  // a defect that the list shows as well
      EXPECT_EQ(check(entry.path()).code, 1) << file << "\n" << alone.out;
      continue;
    }
    ++rows;
  }
  EXPECT_GT(rows, 40);
}

}  // namespace
}  // namespace bv::cli::testing

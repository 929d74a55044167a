#include <gtest/gtest.h>

#include <nlohmann/json.hpp>

#include "core/verdict/verdicts_json.hpp"
#include "reports/formats.hpp"
#include "tests/ci/run_command.hpp"
#include "tests/support/files.hpp"
#include "tests/support/golden_text.hpp"

namespace bv::cli {
namespace {

using nlohmann::json;
using support::file_text;
using testing::Ended;
using testing::run_line;
using testing::TempFolder;
using testing::write_text;

const std::vector<std::string> kFailing = {
    "check", "--model", "fixture:llama", "--rules",
    std::string(BV_FIXTURES) + "/broken/swapped_gate_up.rules.json"};

std::vector<std::string> with(std::vector<std::string> words, std::vector<std::string> more) {
  words.insert(words.end(), more.begin(), more.end());
  return words;
}

TEST(ReportCommand, EveryFormatMadeLaterEqualsTheOneMadeAtOnce) {
  const TempFolder folder;
  std::vector<std::string> words = kFailing;
  for (const reports::Format& format : reports::formats()) {
    words.push_back("--report");
    words.push_back(std::string(format.name) + "=" +
                    (folder.path() / std::string(format.name)).string());
  }
  ASSERT_EQ(run_line(words).code, 1);
  for (const reports::Format& format : reports::formats()) {
    const Ended later =
        run_line({"report", std::string(format.name), (folder.path() / "json").string()});
    EXPECT_EQ(later.code, 0) << later.err;
    EXPECT_EQ(later.err, "");
    EXPECT_EQ(later.out, file_text(folder.path() / std::string(format.name))) << format.name;
  }
}

TEST(ReportCommand, OutWritesAFileByRename) {
  const TempFolder folder;
  const std::string source = (folder.path() / "v.json").string();
  write_text(source, run_line(with(kFailing, {"--json"})).out);
  const std::string page = (folder.path() / "r.html").string();
  const Ended done = run_line({"report", "html", source, "--out", page});
  EXPECT_EQ(done.code, 0) << done.err;
  EXPECT_EQ(done.out, "");
  EXPECT_TRUE(file_text(page).starts_with("<!DOCTYPE html>"));
}

TEST(ReportCommand, MergeJoinsJobsAndGates) {
  const TempFolder folder;
  const auto job = [&](const std::string& name, const std::vector<std::string>& words) {
    const std::string path = (folder.path() / name).string();
    write_text(path, run_line(words).out);
    return path;
  };
  const std::vector<std::string> check = {"check", "--model", "fixture:llama", "--json"};
  const std::string one = job("1", with(check, {"--tp", "1"}));
  const std::string two = job("2", with(check, {"--tp", "2"}));
  const Ended merged = run_line({"report", "merge", one, two});
  EXPECT_EQ(merged.code, 0) << merged.err;
  const auto run = read_verdicts_json(merged.out);
  ASSERT_TRUE(run.has_value());
  EXPECT_EQ(run->layouts.size(), 2U);
  EXPECT_EQ(conclude(*run).word, "PASS");
  const std::string other = job("3", {"check", "--model", "fixture:qwen3", "--tp", "1", "--json"});
  EXPECT_EQ(run_line({"report", "merge", one, other}).code, 2);
}

TEST(ReportCommand, DiffNamesWhatIsNewAndGatesWhenAsked) {
  const TempFolder folder;
  const auto store = [&](const std::string& name, const std::string& text) {
    write_text(folder.path() / name, text);
    return (folder.path() / name).string();
  };
  const std::string red = run_line(with(kFailing, {"--json"})).out;
  json fixed = json::parse(red);
  for (json& verdict : fixed["verdicts"]) {
    if (verdict["outcome"] == "Refuted") {
      verdict["outcome"] = "Proved";
      verdict["refuted_cases"] = 0;
      verdict["evidence"] = "P------";
    }
  }
  EXPECT_EQ(run_line({"report", "html", store("turned", fixed.dump())}).code, 5);
  json& counts = fixed["result"]["counts"];
  counts["proved"] = counts["proved"].get<int>() + counts["refuted"].get<int>();
  counts["refuted"] = 0;
  EXPECT_EQ(run_line({"report", "html", store("red", fixed.dump())}).code, 5);
  fixed["result"]["word"] = "PASS";
  fixed["result"]["exit_code"] = 0;
  const std::string before = store("before", fixed.dump());
  const std::string after = store("after", red);
  const Ended plain = run_line({"report", "diff", before, after});
  EXPECT_EQ(plain.code, 0) << plain.err;
  EXPECT_NE(plain.out.find("newly refuted"), std::string::npos) << plain.out;
  EXPECT_EQ(run_line({"report", "diff", before, after, "--fail-on-new"}).code, 1);
  EXPECT_EQ(run_line({"report", "diff", after, before, "--fail-on-new"}).code, 0);
  EXPECT_EQ(run_line({"report", "diff", after, after, "--fail-on-new"}).code, 0);
}

TEST(ReportCommand, MistakesAreNamed) {
  const TempFolder folder;
  const Ended word = run_line({"report", "juint", "x"});
  EXPECT_EQ(word.code, 2);
  EXPECT_NE(word.err.find("did you mean bridge-verify report junit?"), std::string::npos)
      << word.err;
  EXPECT_EQ(run_line({"report"}).code, 2);
  EXPECT_EQ(run_line({"report", "html"}).code, 2);
  EXPECT_EQ(run_line({"report", "html", (folder.path() / "none").string()}).code, 5);
  write_text(folder.path() / "bad", "{\"schema\":\"bridge-verdicts/1\"}");
  EXPECT_EQ(run_line({"report", "html", (folder.path() / "bad").string()}).code, 5);
}

TEST(Ci, GitHubGetsASummaryAndAnnotationsAndStdoutStaysClean) {
  const TempFolder folder;
  const std::string summary = (folder.path() / "summary.md").string();
  write_text(summary, "before\n");
  const Environment environment = {
      {"LANG", "C.UTF-8"}, {"GITHUB_ACTIONS", "true"}, {"GITHUB_STEP_SUMMARY", summary}};
  const Ended done = run_line(with(kFailing, {"--json"}), environment);
  EXPECT_EQ(done.code, 1);
  EXPECT_TRUE(json::accept(done.out));
  EXPECT_NE(done.err.find("::error "), std::string::npos);
  EXPECT_NE(done.err.find("GITHUB_STEP_SUMMARY"), std::string::npos);
  EXPECT_TRUE(file_text(summary).starts_with("before\n**bridge-verify FAIL: "));
  const std::string once = file_text(summary);
  const Ended off = run_line(with(kFailing, {"--ci", "none"}), environment);
  EXPECT_EQ(off.err.find("::error "), std::string::npos);
  EXPECT_EQ(file_text(summary), once);
  EXPECT_EQ(run_line(kFailing).err.find("::error "), std::string::npos);
}

TEST(Ci, AVariableThatSaysNoIsNoJob) {
  const TempFolder folder;
  const std::string summary = (folder.path() / "summary.md").string();
  write_text(summary, "");
  for (const char* no : {"False", "0", "off", ""}) {
    const Environment environment = {
        {"LANG", "C.UTF-8"}, {"GITHUB_ACTIONS", no}, {"GITHUB_STEP_SUMMARY", summary}};
    EXPECT_EQ(run_line(kFailing, environment).err.find("::error "), std::string::npos) << no;
    EXPECT_EQ(file_text(summary), "") << no;
  }
  run_line(kFailing, {{"LANG", "C.UTF-8"}, {"GITHUB_STEP_SUMMARY", summary}});
  EXPECT_EQ(file_text(summary), "");
  run_line(kFailing,
           {{"LANG", "C.UTF-8"}, {"GITHUB_ACTIONS", "1"}, {"GITHUB_STEP_SUMMARY", summary}});
  EXPECT_NE(file_text(summary), "");
}

/// What --help and docs/reference/reports.md say of --report FORMAT without a file.
TEST(Reports, WithoutAFileEachFormHasItsUsualName) {
  const TempFolder folder;
  const std::filesystem::path before = std::filesystem::current_path();
  std::filesystem::current_path(folder.path());
  std::vector<std::string> left_out = kFailing;
  std::vector<std::string> written = kFailing;  // the same files by their names
  for (const reports::Format& format : reports::formats()) {
    const std::string name(format.name);
    left_out.insert(left_out.end(), {"--report", name});
    written.insert(written.end(), {"--report", name + "=" + std::string(format.file)});
  }
  for (const auto& words : {left_out, left_out, written}) {  // the second replaces the first's
    const Ended done = run_line(words);
    EXPECT_EQ(done.code, 1) << done.err;
  }
  for (const reports::Format& format : reports::formats()) {
    EXPECT_TRUE(std::filesystem::remove(folder.path() / std::string(format.file))) << format.name;
  }
  EXPECT_TRUE(std::filesystem::is_empty(folder.path()));
  std::filesystem::current_path(before);
}

TEST(ReportDiff, WhatWasGreenAndIsUndecidedIsWorse) {
  const TempFolder folder;
  const std::string before = (folder.path() / "before.json").string();
  const std::string after = (folder.path() / "after.json").string();
  const std::vector<std::string> right = {"check", "--model", "fixture:llama", "--json"};
  auto run = read_verdicts_json(run_line(right).out);
  ASSERT_TRUE(run.has_value());
  write_text(before, verdicts_json(*run));
  run->verdicts.front().outcome = Outcome::Inconclusive;
  run->verdicts.front().code = Code::NoTargetLayout;
  write_text(after, verdicts_json(*run));
  const Ended worse = run_line({"report", "diff", before, after, "--fail-on-new"});
  EXPECT_EQ(worse.code, 1) << worse.out << worse.err;
  EXPECT_EQ(run_line({"report", "diff", after, after, "--fail-on-new"}).code, 0);
}

TEST(Ci, ASummaryThatCannotBeWrittenDoesNotChangeTheVerdict) {
  const Environment environment = {
      {"LANG", "C.UTF-8"}, {"GITHUB_ACTIONS", "true"}, {"GITHUB_STEP_SUMMARY", "/none/here"}};
  const Ended done = run_line(kFailing, environment);
  EXPECT_EQ(done.code, 1);
  EXPECT_NE(done.err.find("cannot append to /none/here"), std::string::npos) << done.err;
}

TEST(Verdicts, TheFileOfTheLargestModelIsSmall) {
  const Ended done =
      run_line({"check", "--headers",
                std::string(BV_FIXTURES) + "/headers/qwen3.5-397b-a17b.headers.json.gz", "--json"});
  ASSERT_EQ(done.code, 0);
  EXPECT_LT(done.out.size(), 5U << 20);
  const auto again = read_verdicts_json(done.out);
  ASSERT_TRUE(again.has_value()) << again.error().message;
  EXPECT_GT(again->verdicts.size(), 10000U);
  EXPECT_EQ(verdicts_json(*again), done.out);
}

}  // namespace
}  // namespace bv::cli

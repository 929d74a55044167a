#include "core/verdict/gather.hpp"

#include <gtest/gtest.h>

#include <nlohmann/json.hpp>

#include "core/verdict/verdicts_json.hpp"

namespace bv {
namespace {

using Json = nlohmann::ordered_json;

Verdict proved(std::string rule, std::string layout) {
  Verdict out;
  out.claim = "placement";
  out.rule = std::move(rule);
  out.layout = std::move(layout);
  out.outcome = Outcome::Proved;
  out.evidence = {.proved = true};
  out.cases = 4;
  return out;
}

std::vector<std::string> ids(const std::vector<Verdict>& verdicts) {
  std::vector<std::string> out;
  for (const Verdict& verdict : verdicts) {
    out.push_back(verdict.id());
  }
  return out;
}

TEST(Gather, PutsGreenVerdictsThatDifferInTheirLayoutSideBySide) {
  Verdict red = proved("r1", "tp3");
  red.outcome = Outcome::Refuted;
  Verdict other = proved("r1", "tp4");
  other.cases = 5;
  const std::vector<Verdict> all = gathered({proved("r1", "tp1"), proved("r2", "tp1"), red,
                                             proved("r1", "tp2"), other, proved("r2", "tp2")});
  EXPECT_EQ(ids(all),
            (std::vector<std::string>{"placement.r1.tp1", "placement.r1.tp2", "placement.r2.tp1",
                                      "placement.r2.tp2", "placement.r1.tp3", "placement.r1.tp4"}));
  EXPECT_EQ(end_of_group(all, 0), 2U);
  EXPECT_EQ(end_of_group(all, 4), 5U);
  EXPECT_EQ(ids(gathered(all)), ids(all));
}

TEST(Gather, EveryFieldOfAVerdictKeepsItOutOfAGroup) {
  const Verdict base = proved("r1", "tp1");
  std::vector<Verdict> others(14, proved("r1", "tp2"));
  others[0].claim = "shapes";
  others[1].rule = "r2";
  others[2].kind = "row";
  others[3].rule_source = "a.py:1";
  others[4].outcome = Outcome::Held;
  others[5].evidence.oracle = true;
  others[6].megatron = "a";
  others[7].hf = {"a"};
  others[8].cases = 9;
  others[9].title = "a";
  others[10].facts = {"a"};
  others[11].help = "a";
  others[12].layout.clear();
  others[13].counterexamples.emplace_back();
  for (std::size_t i = 0; i < others.size(); ++i) {
    EXPECT_EQ(end_of_group({base, others[i]}, 0), 1U) << i;
  }
  EXPECT_EQ(end_of_group({base, proved("r1", "tp2")}, 0), 2U);
}

TEST(Gather, TheFileHasOneEntryAGroupAndGivesTheRunBack) {
  bv::Run run;
  for (const char* rule : {"r1", "r2", "r3"}) {
    for (int tp = 1; tp <= 200; ++tp) {
      run.verdicts.push_back(proved(rule, "tp" + std::to_string(tp)));
    }
  }
  const std::string text = verdicts_json(run);
  const Json json = Json::parse(text);
  EXPECT_EQ(json["verdicts"].size(), 3U);
  EXPECT_EQ(json["layout_sets"].size(), 1U);
  EXPECT_EQ(json["result"]["counts"]["proved"], 600);
  const auto again = read_verdicts_json(text);
  ASSERT_TRUE(again.has_value()) << again.error().message;
  EXPECT_EQ(ids(again->verdicts), ids(run.verdicts));
  EXPECT_EQ(verdicts_json(*again), text);
}

TEST(Gather, AFileThatPointsOutsideItsTableIsRefused) {
  bv::Run run;
  run.verdicts = {proved("r1", "tp1"), proved("r1", "tp2")};
  const auto refused = [&](const Json& set) {
    Json json = Json::parse(verdicts_json(run));
    json["verdicts"][0]["layouts"] = set;
    const auto read = read_verdicts_json(json.dump());
    return !read && read.error().code == Code::VerdictsInvalid;
  };
  EXPECT_FALSE(refused(0));
  EXPECT_TRUE(refused(1));
  EXPECT_TRUE(refused(-1));
  EXPECT_TRUE(refused("tp1"));
  EXPECT_TRUE(refused(Json::array()));
}

TEST(Gather, AFewLinesDoNotBecomeARunWithoutBound) {
  bv::Run run;
  run.verdicts = {proved("r1", "tp1"), proved("r1", "tp2")};
  Json json = Json::parse(verdicts_json(run));
  Json& set = json["layout_sets"][0];
  while (set.size() < 4096) {
    set.push_back("x");
  }
  const Json one = json["verdicts"][0];
  for (int i = 0; i < 260; ++i) {
    json["verdicts"].push_back(one);
  }
  const auto read = read_verdicts_json(json.dump());
  ASSERT_FALSE(read.has_value());
  EXPECT_EQ(read.error().code, Code::VerdictsInvalid);
}

}  // namespace
}  // namespace bv

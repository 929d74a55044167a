#include "core/verdict/unite.hpp"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "tests/core/verdict/worlds.hpp"

namespace bv {
namespace {

using ::testing::ElementsAre;

const Verdict kHeld = about_rule("r", Outcome::Held);

TEST(Unite, WhatOneProcessFoundIsTheVerdictOfAllByName) {
  for (std::size_t odd = 0; odd < 3; ++odd) {
    std::vector<bv::Run> runs(3, found_by({about_rule("q", Outcome::Held), kHeld}));
    runs[odd] = found_by({about_rule("q", Outcome::Held),
                          about_rule("r", Outcome::Refuted, "the GPU computes w differently")});
    for (const bv::Run& run : all_united(runs)) {
      ASSERT_EQ(run.verdicts.size(), 2U);
      EXPECT_EQ(run.verdicts[0].outcome, Outcome::Held);
      EXPECT_EQ(run.verdicts[1].outcome, Outcome::Refuted);
      EXPECT_EQ(run.verdicts[1].code, Code::CpuGpuDiffer);
      EXPECT_EQ(run.verdicts[1].cases, 3);
      EXPECT_EQ(run.verdicts[1].title,
                "rank " + std::to_string(odd) + ": the GPU computes w differently");
      EXPECT_EQ(conclude(run).exit_code, 1);
    }
  }
}

TEST(Unite, WhatAllFoundAlikeIsThatOfOneProcess) {
  const Verdict bad = about_rule("r", Outcome::Refuted, "wrong");
  for (const bv::Run& run : all_united(std::vector<bv::Run>(3, found_by({bad, bad})))) {
    ASSERT_EQ(run.verdicts.size(), 2U);
    EXPECT_EQ(run.verdicts[1].title, "wrong");
    EXPECT_TRUE(run.verdicts[1].facts.empty());
  }
}

TEST(Unite, TheWorstIsToldAndTheOthersBesideIt) {
  const auto runs =
      all_united({found_by({kHeld}), found_by({about_rule("r", Outcome::Inconclusive, "failed")}),
                  found_by({about_rule("r", Outcome::Refuted, "wrong")}),
                  found_by({about_rule("r", Outcome::Refuted, "wrong")})});
  for (const bv::Run& run : runs) {
    ASSERT_EQ(run.verdicts.size(), 1U);
    EXPECT_EQ(run.verdicts[0].title, "rank 2: wrong");
    EXPECT_THAT(run.verdicts[0].facts, ElementsAre("rank 1: failed", "the same on rank 3"));
  }
}

TEST(Unite, AClaimThatRankZeroDidNotJudgeIsNotLost) {
  bv::Run host;
  host.claims = {{.claim = "gpu", .requested = false}};
  host.verdicts = {};
  const auto runs = all_united({host, found_by({about_rule("r", Outcome::Refuted, "wrong")})});
  ASSERT_EQ(runs[0].verdicts.size(), 1U);
  EXPECT_EQ(runs[0].verdicts[0].title, "rank 1: wrong");
  EXPECT_TRUE(runs[0].claims[0].requested);
  EXPECT_EQ(conclude(runs[0]).exit_code, 1);
}

TEST(Unite, InputErrorsAndWarningsOfOtherProcessesAreAdded) {
  bv::Run host = found_by({kHeld});
  host.warnings = {fail(Code::NoGpu, "here too")};
  bv::Run other = host;
  other.warnings.push_back(fail(Code::NoBytes, "there alone"));
  other.input_errors = {fail(Code::ReadFailed, "w cannot be read")};
  const auto runs = all_united({host, other});
  ASSERT_EQ(runs[0].warnings.size(), 2U);
  EXPECT_EQ(runs[0].warnings[1].message, "rank 1: there alone");
  ASSERT_EQ(runs[0].input_errors.size(), 1U);
  EXPECT_EQ(runs[0].input_errors[0].message, "rank 1: w cannot be read");
  EXPECT_EQ(conclude(runs[0]).exit_code, 5);
}

}  // namespace
}  // namespace bv

#include "core/verdict/merge.hpp"

#include <gtest/gtest.h>

#include <map>

#include "core/verdict/changes.hpp"

namespace bv {
namespace {

Verdict on(std::string layout, Outcome outcome) {
  Verdict out;
  out.claim = "placement";
  out.rule = "r1";
  out.layout = std::move(layout);
  out.outcome = outcome;
  out.code = Code::WrongPlacement;
  out.evidence = {.proved = true};
  out.cases = 2;
  return out;
}

bv::Run job(std::vector<Verdict> verdicts) {
  bv::Run run;
  run.command = "check";
  run.model_ref = "m";
  run.claims = {{.claim = "placement", .subjects = 2}};
  for (const Verdict& verdict : verdicts) {
    run.layouts.push_back({verdict.layout});
  }
  run.verdicts = std::move(verdicts);
  return run;
}

TEST(Merge, JoinsTheLayoutsOfTwoJobs) {
  const auto whole = merge({job({on("tp1", Outcome::Proved)}), job({on("tp2", Outcome::Proved)})});
  ASSERT_TRUE(whole.has_value());
  EXPECT_EQ(whole->verdicts.size(), 2U);
  EXPECT_EQ(whole->layouts.size(), 2U);
  EXPECT_EQ(whole->claims.front().subjects, 4);
  EXPECT_EQ(conclude(*whole).word, "PASS");
}

TEST(Merge, OneRedJobMakesTheWholeRed) {
  for (const bool first : {true, false}) {
    const bv::Run red = job({on("tp1", Outcome::Refuted)});
    const bv::Run green = job({on("tp1", Outcome::Proved)});
    const auto whole = merge(first ? std::vector{red, green} : std::vector{green, red});
    ASSERT_TRUE(whole.has_value());
    ASSERT_EQ(whole->verdicts.size(), 1U);
    EXPECT_EQ(conclude(*whole).exit_code, 1);
  }
}

TEST(Merge, WhatMakesOneJobUndecidedMakesTheWholeUndecided) {
  using Change = void (*)(bv::Run&);
  const std::map<std::string, Change> reasons = {
      {"skipped", [](bv::Run& run) { run.claims.front().skipped = true; }},
      {"not reached", [](bv::Run& run) { run.claims.front().reached = false; }},
      {"partial", [](bv::Run& run) { run.partial = true; }},
      {"no verdicts",
       [](bv::Run& run) {
         run.claims = {{.claim = "bytes"}};
         run.verdicts.clear();
       }},
      {"open",
       [](bv::Run& run) {
         run.verdicts.front() = on("tp2", Outcome::Inconclusive);
         run.fail_on = FailOn::Inconclusive;
       }},
  };
  for (const auto& [reason, change] : reasons) {
    for (const bool first : {true, false}) {
      bv::Run odd = job({on("tp2", Outcome::Proved)});
      change(odd);
      bv::Run plain = job({on("tp1", Outcome::Proved)});
      plain.allow_partial = true;
      plain.fail_on = FailOn::Refuted;
      const auto whole = merge(first ? std::vector{odd, plain} : std::vector{plain, odd});
      ASSERT_TRUE(whole.has_value());
      EXPECT_EQ(conclude(*whole).exit_code, 3) << reason;
    }
  }
}

TEST(Merge, StoppedAndUnusableJobsShow) {
  bv::Run stopped = job({on("tp2", Outcome::Proved)});
  stopped.stopped = true;
  stopped.stop_signal = 15;
  EXPECT_EQ(conclude(*merge({job({on("tp1", Outcome::Proved)}), stopped})).exit_code, 143);
  bv::Run unusable = job({});
  unusable.input_errors = {fail(Code::ModelNotFound, "no model")};
  EXPECT_EQ(conclude(*merge({job({on("tp1", Outcome::Proved)}), unusable})).exit_code, 5);
}

TEST(Merge, RefusesRunsOfDifferentThings) {
  const bv::Run base = job({on("tp1", Outcome::Proved)});
  using Change = void (*)(bv::Run&);
  for (const Change change : std::initializer_list<Change>{
           [](bv::Run& run) { run.model_ref = "other"; }, [](bv::Run& run) { run.revision = "x"; },
           [](bv::Run& run) { run.header_digest = "x"; }, [](bv::Run& run) { run.family = "x"; },
           [](bv::Run& run) { run.rules_digest = "x"; }, [](bv::Run& run) { run.seed = 4; },
           [](bv::Run& run) { run.tool.version = "9"; }}) {
    bv::Run other = base;
    change(other);
    const auto whole = merge({base, other});
    ASSERT_FALSE(whole.has_value());
    EXPECT_EQ(whole.error().code, Code::Conflict);
  }
}

TEST(Changes, EachKindIsNamed) {
  const auto with = [](std::string rule, Outcome outcome, bool oracle = false) {
    Verdict out = on("tp1", outcome);
    out.rule = std::move(rule);
    out.evidence.oracle = oracle;
    return out;
  };
  const bv::Run before = job({with("new", Outcome::Proved), with("still", Outcome::Refuted),
                              with("fixed", Outcome::Refuted), with("lost", Outcome::Proved),
                              with("weaker", Outcome::Proved, true), with("open", Outcome::Held),
                              with("stronger", Outcome::Proved), with("same", Outcome::Proved)});
  const bv::Run after =
      job({with("new", Outcome::Refuted), with("still", Outcome::Refuted),
           with("fixed", Outcome::Proved), with("weaker", Outcome::Proved),
           with("open", Outcome::Inconclusive), with("stronger", Outcome::Proved, true),
           with("same", Outcome::Proved), with("added", Outcome::Proved)});
  std::map<std::string, Change> found;
  for (const Changed& one : changes(before, after)) {
    found[one.after != nullptr ? one.after->rule : one.before->rule] = one.change;
  }
  EXPECT_EQ(found, (std::map<std::string, Change>{{"new", Change::NewlyRefuted},
                                                  {"still", Change::StillRefuted},
                                                  {"fixed", Change::Fixed},
                                                  {"lost", Change::LostSubject},
                                                  {"weaker", Change::EvidenceLost},
                                                  {"open", Change::NewlyUndecided},
                                                  {"stronger", Change::EvidenceGained},
                                                  {"same", Change::Unchanged},
                                                  {"added", Change::NewSubject}}));
  const Baseline rows = baseline_of(before, after, "before.json");
  EXPECT_EQ(rows.unchanged, 1);
  EXPECT_EQ(rows.rows.size(), 8U);
  EXPECT_EQ(rows.rows.front().change, "newly refuted");
}

TEST(Changes, ARedThatGrowsIsNew) {
  const auto red = [](std::vector<std::string> subjects, std::int64_t refuted) {
    Verdict one = on("tp1", Outcome::Refuted);
    one.megatron = subjects.front();
    one.subjects = subjects.size() > 1 ? std::move(subjects) : std::vector<std::string>();
    one.refuted_cases = refuted;
    return job({one});
  };
  const auto change = [](const bv::Run& before, const bv::Run& after) {
    return changes(before, after).front().change;
  };
  EXPECT_EQ(change(red({"layer 0"}, 1), red({"layer 0", "layer 3"}, 2)), Change::NewlyRefuted);
  EXPECT_EQ(change(red({"layer 0"}, 1), red({"layer 3"}, 1)), Change::NewlyRefuted);
  EXPECT_EQ(change(red({"layers.*"}, 1), red({"layers.*"}, 2)), Change::NewlyRefuted);
  EXPECT_EQ(change(red({"layer 0", "layer 3"}, 2), red({"layer 0"}, 1)), Change::StillRefuted);
  EXPECT_EQ(change(red({"layer 0", "layer 3"}, 2), red({"layer 3", "layer 0"}, 2)),
            Change::StillRefuted);
}

}  // namespace
}  // namespace bv

#include "core/verdict/verdict.hpp"

#include <gtest/gtest.h>

#include <regex>
#include <set>

namespace bv {
namespace {

Verdict verdict(Outcome outcome, std::string claim = "names", std::int64_t cases = 1) {
  Verdict out;
  out.claim = std::move(claim);
  out.rule = "r0";
  out.outcome = outcome;
  out.cases = cases;
  return out;
}

bv::Run run_of(std::initializer_list<Outcome> outcomes) {
  bv::Run run;
  for (const Outcome outcome : outcomes) {
    run.verdicts.push_back(verdict(outcome));
  }
  return run;
}

struct Row {
  const char* what;
  std::vector<Outcome> outcomes;
  const char* word;
  int exit_code;
};

TEST(Conclude, FollowsTheTruthTable) {
  using enum Outcome;
  const std::vector<Row> rows = {
      {"nothing", {}, "INCOMPLETE", 3},
      {"proved", {Proved}, "PASS", 0},
      {"held", {Held}, "PASS", 0},
      {"waived", {Waived}, "PASS", 0},
      {"all green", {Proved, Held, Waived}, "PASS", 0},
      {"refuted", {Refuted}, "FAIL", 1},
      {"inconclusive", {Inconclusive}, "INCOMPLETE", 3},
      {"unsupported", {Unsupported}, "INCOMPLETE", 3},
      {"broken", {Broken}, "BROKEN", 4},
      {"one refuted among green", {Proved, Refuted, Held}, "FAIL", 1},
      {"refuted beats undecided", {Inconclusive, Refuted}, "FAIL", 1},
      {"undecided beats green", {Proved, Inconclusive}, "INCOMPLETE", 3},
      {"unsupported beats green", {Proved, Unsupported}, "INCOMPLETE", 3},
      {"broken beats refuted", {Refuted, Broken}, "BROKEN", 4},
      {"waived does not hide refuted", {Waived, Refuted}, "FAIL", 1},
  };
  for (const Row& row : rows) {
    bv::Run run;
    for (const Outcome outcome : row.outcomes) {
      run.verdicts.push_back(verdict(outcome));
    }
    EXPECT_EQ(conclude(run).word, row.word) << row.what;
    EXPECT_EQ(conclude(run).exit_code, row.exit_code) << row.what;
  }
}

TEST(Conclude, ZeroCasesAreNotGreen) {
  bv::Run run;
  run.verdicts.push_back(verdict(Outcome::Proved, "names", 0));
  EXPECT_EQ(conclude(run).exit_code, 3);
  ASSERT_EQ(undecided_reasons(run).size(), 1U);
  EXPECT_EQ(undecided_reasons(run)[0], "no claim had anything to check");
}

TEST(Conclude, PartialRunIsUndecidedUnlessAllowed) {
  bv::Run run = run_of({Outcome::Proved});
  run.partial = true;
  EXPECT_EQ(conclude(run).exit_code, 3);
  run.allow_partial = true;
  EXPECT_EQ(conclude(run).exit_code, 0);
}

TEST(Conclude, PartialRunWithARefutedClaimFails) {
  bv::Run run = run_of({Outcome::Refuted});
  run.partial = true;
  EXPECT_EQ(conclude(run).exit_code, 1);
}

TEST(Conclude, RequestedClaimWithoutVerdictIsUndecided) {
  bv::Run run = run_of({Outcome::Proved});
  run.claims = {{.claim = "names"}, {.claim = "placement", .subjects = 8}};
  EXPECT_EQ(conclude(run).exit_code, 3);
  EXPECT_EQ(undecided_reasons(run)[0], "claim placement was requested and has no verdict");
  run.claims[1].requested = false;
  EXPECT_EQ(conclude(run).exit_code, 0);
}

TEST(Conclude, VacuousClaimDoesNotFail) {
  bv::Run run = run_of({Outcome::Proved});
  run.claims = {{.claim = "values", .note = "no rule changes values", .vacuous = true}};
  EXPECT_EQ(conclude(run).exit_code, 0);
}

TEST(Conclude, SkippedClaimIsUndecided) {
  bv::Run run = run_of({Outcome::Proved});
  run.claims = {{.claim = "values", .requested = false, .skipped = true}};
  EXPECT_EQ(conclude(run).exit_code, 3);
}

TEST(Conclude, StoppedRunSaysSoAndNamesTheSignal) {
  bv::Run run = run_of({Outcome::Proved, Outcome::Refuted});
  run.stopped = true;
  EXPECT_EQ(conclude(run).word, "STOPPED");
  EXPECT_EQ(conclude(run).exit_code, 130);
  run.stop_signal = 15;
  EXPECT_EQ(conclude(run).exit_code, 143);
  run.stop_signal = 1;
  EXPECT_EQ(conclude(run).exit_code, 129);
  run.verdicts.push_back(verdict(Outcome::Broken));
  EXPECT_EQ(conclude(run).exit_code, 4);
}

TEST(Conclude, UnreadableInputIsBetweenRefutedAndUndecided) {
  bv::Run run = run_of({Outcome::Proved, Outcome::Inconclusive});
  run.input_errors.push_back(fail(Code::CacheIncomplete, "2 of 26 shards are missing"));
  EXPECT_EQ(conclude(run).word, "INPUT");
  EXPECT_EQ(conclude(run).exit_code, 5);
  run.verdicts.push_back(verdict(Outcome::Refuted));
  EXPECT_EQ(conclude(run).exit_code, 1);
}

TEST(Conclude, WarningsFailOnlyWhenAsked) {
  bv::Run run = run_of({Outcome::Proved});
  run.warnings.push_back(fail(Code::RuleDead, "rule r3 matches nothing"));
  EXPECT_EQ(conclude(run).exit_code, 0);
  run.fail_on = FailOn::Warning;
  EXPECT_EQ(conclude(run).word, "FAIL");
  EXPECT_EQ(conclude(run).exit_code, 1);
}

TEST(Conclude, FailOnRefutedNeverCallsUndecidedAPass) {
  bv::Run run = run_of({Outcome::Proved, Outcome::Inconclusive});
  run.fail_on = FailOn::Refuted;
  EXPECT_EQ(conclude(run).word, "INCOMPLETE");
  EXPECT_EQ(conclude(run).exit_code, 0);
  run.verdicts.clear();
  EXPECT_EQ(conclude(run).exit_code, 3);
}

TEST(LastLine, HasTheStableGrammar) {
  const std::regex grammar(
      "bridge-verify: (PASS|FAIL|INCOMPLETE|BROKEN|USAGE|INPUT|STOPPED)  proved [0-9]+  held "
      "[0-9]+  refuted [0-9]+  "
      "inconclusive [0-9]+  unsupported [0-9]+  waived [0-9]+  broken [0-9]+  layouts [0-9]+  "
      "[0-9]+\\.[0-9] s");
  bv::Run run = run_of({Outcome::Proved, Outcome::Proved, Outcome::Held, Outcome::Waived});
  run.layouts.resize(24);
  run.seconds = 0.94;
  EXPECT_EQ(last_line(run),
            "bridge-verify: PASS  proved 2  held 1  refuted 0  inconclusive 0  unsupported 0  "
            "waived 1  broken 0  "
            "layouts 24  0.9 s");
  run.seconds = 123456.0;
  bv::Run usage;
  usage.input_errors.push_back(fail(Code::UnknownOption, "unknown option --modle"));
  bv::Run input;
  input.input_errors.push_back(fail(Code::ModelNotFound, "x is not there"));
  EXPECT_TRUE(last_line(usage).starts_with("bridge-verify: USAGE  "));
  EXPECT_TRUE(last_line(input).starts_with("bridge-verify: INPUT  "));
  for (const std::string& line :
       {last_line(run), last_line(bv::Run{}), last_line(usage), last_line(input)}) {
    EXPECT_TRUE(std::regex_match(line, grammar)) << line;
  }
}

TEST(Letters, AreInPrintingOrder) {
  EXPECT_EQ(letters({}), "-------");
  EXPECT_EQ(letters({.proved = true, .oracle = true}), "P-O----");
  EXPECT_EQ(
      letters({.bytes = true, .upstream = true, .gpu = true, .sampled = true, .waived = true}),
      "-B-UGSW");
  EXPECT_EQ(letters(Evidence{.proved = true} | Evidence{.bytes = true}), "PB-----");
}

TEST(VerdictId, IsClaimRuleLayout) {
  Verdict one = verdict(Outcome::Proved, "placement");
  EXPECT_EQ(one.id(), "placement.r0");
  one.layout = "tp2pp1ep1";
  EXPECT_EQ(one.id(), "placement.r0.tp2pp1ep1");
  one.rule.clear();
  EXPECT_EQ(one.id(), "placement.model.tp2pp1ep1");
  one.hf = {"lm_head.weight"};
  EXPECT_EQ(one.id(), "placement.lm_head.weight.tp2pp1ep1");
}

TEST(ClaimResult, TakesTheWorstOutcomeAndSharedEvidence) {
  bv::Run run = run_of({Outcome::Proved, Outcome::Held});
  run.verdicts[0].evidence = {.proved = true, .oracle = true};
  run.verdicts[1].evidence = {.proved = true};
  const ClaimResult green = result_of(run, "names");
  EXPECT_EQ(green.outcome, Outcome::Held);
  EXPECT_EQ(letters(green.all), "P------");
  EXPECT_EQ(letters(green.some), "P-O----");
  run.verdicts.push_back(verdict(Outcome::Inconclusive));
  EXPECT_EQ(result_of(run, "names").outcome, Outcome::Inconclusive);
  run.verdicts.push_back(verdict(Outcome::Refuted));
  EXPECT_EQ(result_of(run, "names").outcome, Outcome::Refuted);
  EXPECT_FALSE(result_of(run, "bytes").checked);
}

TEST(Codes, NumbersAndNamesAreUniqueAndExplained) {
  std::set<unsigned> numbers;
  std::set<std::string_view> names;
  unsigned before = 0;
  for (const CodeInfo& code : all_codes()) {
    const auto number = static_cast<unsigned>(code.code);
    EXPECT_TRUE(numbers.insert(number).second) << "number used twice: " << number;
    EXPECT_TRUE(names.insert(code.name).second) << "name used twice: " << code.name;
    EXPECT_GT(number, before) << code.name << " is out of order";
    before = number;
    EXPECT_FALSE(code.title.empty()) << code.name;
    for (const char* part : {"Meaning: ", "\nHow it arises: ", "\nWhat to do: "}) {
      EXPECT_NE(code.text.find(part), std::string_view::npos)
          << code.name << " lacks \"" << part << "\"";
    }
  }
  EXPECT_GE(numbers.size(), 60U);
}

TEST(Codes, TextIsReadInEveryForm) {
  EXPECT_EQ(code_from_text("BV2006"), Code::WrongPlacement);
  EXPECT_EQ(code_from_text("bv2006"), Code::WrongPlacement);
  EXPECT_EQ(code_from_text("2006"), Code::WrongPlacement);
  EXPECT_EQ(code_from_text("BV"), std::nullopt);
  EXPECT_EQ(code_from_text("BV2006x"), std::nullopt);
  EXPECT_EQ(code_from_text("4294967296000002006"), std::nullopt);
}

}  // namespace
}  // namespace bv

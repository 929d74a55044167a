// Whatever the processes of a world find, and in whichever order: the worst is the verdict of all,
// nobody who found something bad is left out or told twice, and the counts stay those of one.

#include <fmt/format.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <functional>
#include <optional>
#include <regex>
#include <set>

#include "core/base/text.hpp"
#include "tests/core/verdict/worlds.hpp"

namespace bv {
namespace {

using ::testing::ElementsAre;
using ::testing::IsEmpty;

/// What one process may find of one subject; the first is green.
std::vector<Verdict> possible(const std::string& rule) {
  std::vector<Verdict> out = {
      about_rule(rule, Outcome::Held),
      about_rule(rule, Outcome::Refuted, "w is wrong"),
      about_rule(rule, Outcome::Refuted, "v is wrong"),
      about_rule(rule, Outcome::Inconclusive, "w could not be read"),
      about_rule(rule, Outcome::Unsupported, "w has a type that is not supported"),
      about_rule(rule, Outcome::Broken, "the judge failed")};
  out[4].code = Code::DtypeUnsupported;
  return out;
}

std::string rank_name(std::size_t rank) {
  return "rank " + std::to_string(rank);
}

/// How often a verdict says the name of a rank, in any line.
std::ptrdiff_t mentions(const Verdict& verdict, std::size_t rank) {
  const std::regex name(rank_name(rank) + "[:,\n]|" + rank_name(rank) + "$");
  std::string lines = verdict.title + "\n";
  for (const std::string& fact : verdict.facts) {
    lines += fact + "\n";
  }
  return std::distance(std::sregex_iterator(lines.begin(), lines.end(), name), {});
}

int worst_of(const std::vector<Verdict>& found) {
  int out = 0;
  for (const Verdict& one : found) {
    out = std::max(out, badness(one.outcome));
  }
  return out;
}

/// Held against what was found, without the rule that made it.
void expect_is_of_all(const Verdict& united, const std::vector<Verdict>& found) {
  EXPECT_EQ(badness(united.outcome), worst_of(found));
  EXPECT_EQ(united.cases, 3);
  EXPECT_EQ(united.refuted_cases > 0, united.outcome == Outcome::Refuted);
  const bool alike = std::all_of(found.begin(), found.end(), [&](const Verdict& one) {
    return one.outcome == found[0].outcome && one.title == found[0].title;
  });
  for (std::size_t rank = 0; rank < found.size(); ++rank) {
    const bool green = found[rank].outcome == Outcome::Held;
    EXPECT_EQ(mentions(united, rank), green || alike ? 0 : 1) << rank;
  }
  if (alike) {
    EXPECT_EQ(united.title, found[0].title);
    EXPECT_THAT(united.facts, IsEmpty());
    return;
  }
  const auto first = std::find_if(found.begin(), found.end(), [&](const Verdict& one) {
    return badness(one.outcome) == worst_of(found);
  });
  const auto at = static_cast<std::size_t>(first - found.begin());
  EXPECT_EQ(united.title, rank_name(at) + ": " + first->title);
  EXPECT_EQ(united.code, first->code);
  EXPECT_EQ(united.evidence, first->evidence);
  const std::string lines = united.title + "\n" + join(united.facts, "\n");
  for (const Verdict& one : found) {  // each once, however many found it
    if (!one.title.empty()) {
      const std::size_t told = lines.find(": " + one.title);
      ASSERT_NE(told, std::string::npos) << one.title;
      EXPECT_EQ(lines.find(": " + one.title, told + 1), std::string::npos) << lines;
    }
  }
}

TEST(UniteRanks, TheWorstOfEveryThreeIsTheVerdictOfAll) {
  const std::vector<Verdict> all = possible("r");
  std::set<int> exit_codes;
  for (std::size_t i = 0; i < all.size() * all.size() * all.size(); ++i) {
    const std::vector<Verdict> found = {all[i % all.size()], all[i / all.size() % all.size()],
                                        all[i / all.size() / all.size()]};
    std::vector<bv::Run> runs;
    int worst_exit = 0;
    for (const Verdict& one : found) {
      runs.push_back(found_by({about_rule("q", Outcome::Held), one}));
      const int exit = conclude(runs.back()).exit_code;
      worst_exit = exit == 4 || worst_exit == 4   ? 4
                   : exit == 1 || worst_exit == 1 ? 1
                                                  : std::max(worst_exit, exit);
    }
    SCOPED_TRACE(found[0].title + " | " + found[1].title + " | " + found[2].title);
    for (const bv::Run& run : all_united(runs)) {
      ASSERT_EQ(run.verdicts.size(), 2U);
      EXPECT_EQ(run.verdicts[0].outcome, Outcome::Held);
      EXPECT_TRUE(run.verdicts[0].evidence.gpu);
      EXPECT_EQ(run.claims[0].subjects, 6);
      expect_is_of_all(run.verdicts[1], found);
      EXPECT_EQ(conclude(run).exit_code, worst_exit);
      exit_codes.insert(worst_exit);
    }
  }
  EXPECT_THAT(exit_codes, ElementsAre(0, 1, 3, 4));
}

/// The names aside, which follow the rank.
TEST(UniteRanks, TheOrderOfTheProcessesDecidesNothingButTheNames) {
  const std::vector<Verdict> r = possible("r");
  const std::vector<Verdict> q = possible("q");
  std::vector<std::vector<Verdict>> found = {
      {q[0], r[1]}, {q[3], r[0]}, {q[0], r[3]}, {q[4], r[4]}};
  std::sort(found.begin(), found.end(),
            [](const auto& a, const auto& b) { return a[1].title < b[1].title; });
  std::optional<std::string> first;
  do {
    std::vector<bv::Run> runs;
    for (const std::vector<Verdict>& one : found) {
      runs.push_back(found_by(one));
    }
    const bv::Run run = all_united(runs)[0];
    std::string said;
    for (const Verdict& one : run.verdicts) {
      said += fmt::format("{} {} {} {} {} {};", one.rule, name(one.outcome), label(one.code),
                          one.cases, one.refuted_cases, one.facts.size());
    }
    said += std::to_string(conclude(run).exit_code);
    EXPECT_EQ(said, first.value_or(said));
    first = said;
  } while (std::next_permutation(found.begin(), found.end(), [](const auto& a, const auto& b) {
    return a[1].title < b[1].title;
  }));
}

TEST(UniteRanks, TwoOfOneSubjectStayTwo) {
  const Verdict green = about_rule("r", Outcome::Held);
  const Verdict a = about_rule("r", Outcome::Refuted, "a is wrong");
  const Verdict b = about_rule("r", Outcome::Refuted, "b is wrong");
  struct Case {
    std::vector<std::vector<Verdict>> found;
    std::vector<std::string> titles;
  };
  const std::vector<Case> cases = {
      {{{green, a}, {green, a}}, {"", "a is wrong"}},
      {{{a, green}, {a, green}}, {"a is wrong", ""}},
      {{{green, green}, {green, a}}, {"rank 1: a is wrong", ""}},
      {{{green, green}, {a, b}}, {"rank 1: a is wrong", "rank 1: b is wrong"}},
      {{{a, b}, {green, green}}, {"rank 0: a is wrong", "rank 0: b is wrong"}},
      {{{green, a}, {a, b}}, {"rank 1: b is wrong", "a is wrong"}},
      {{{a, b}, {a, b}}, {"a is wrong", "b is wrong"}}};
  for (const Case& one : cases) {
    std::vector<bv::Run> runs;
    for (const std::vector<Verdict>& verdicts : one.found) {
      runs.push_back(found_by(verdicts));
    }
    const bv::Run run = all_united(runs)[0];
    std::vector<std::string> titles;
    for (const Verdict& verdict : run.verdicts) {
      titles.push_back(verdict.title);
      EXPECT_EQ(verdict.outcome == Outcome::Held, verdict.title.empty());
    }
    EXPECT_EQ(titles, one.titles);
    EXPECT_EQ(run.claims[0].subjects, 6);
  }
}

/// Other processes say what they know with the verdict that they make it of.
TEST(UniteRanks, TheWorstKeepsItsOwnFactsCounterexampleAndCode) {
  Verdict wrong = about_rule("r", Outcome::Refuted, "w is wrong");
  wrong.facts = {"row 3 is row 4"};
  wrong.found = "4";
  wrong.wanted = "3";
  wrong.help = "look at w";
  wrong.counterexamples.emplace_back().tensor = "w";
  wrong.counterexamples[0].index = {3};
  Verdict undecided = about_rule("r", Outcome::Inconclusive, "the GPU failed");
  undecided.code = Code::NoGpu;
  undecided.facts = {"not of the worst"};
  for (const bv::Run& run :
       all_united({found_by({undecided}), found_by({about_rule("r", Outcome::Held)}),
                   found_by({wrong})})) {
    Verdict wanted = wrong;
    wanted.title = "rank 2: w is wrong";
    wanted.facts.emplace_back("rank 0: the GPU failed");
    EXPECT_EQ(run.verdicts[0].title, wanted.title);
    EXPECT_EQ(run.verdicts[0].facts, wanted.facts);
    EXPECT_EQ(run.verdicts[0].code, Code::CpuGpuDiffer);
    EXPECT_EQ(run.verdicts[0].found, "4");
    EXPECT_EQ(run.verdicts[0].wanted, "3");
    EXPECT_EQ(run.verdicts[0].help, "look at w");
    ASSERT_EQ(run.verdicts[0].counterexamples.size(), 1U);
    EXPECT_EQ(run.verdicts[0].counterexamples[0].index, std::vector<std::int64_t>{3});
    EXPECT_FALSE(run.verdicts[0].evidence.gpu);
  }
}

TEST(UniteRanks, TheSameWordsOfAnotherOutcomeOrCodeAreAnotherFinding) {
  const Verdict wrong = about_rule("r", Outcome::Refuted, "w is wrong");
  Verdict undecided = wrong;
  undecided.outcome = Outcome::Inconclusive;
  Verdict other = wrong;
  other.code = Code::BytesDiffer;
  for (const Verdict& second : {undecided, other}) {
    const Verdict united = all_united({found_by({wrong}), found_by({second})})[0].verdicts[0];
    EXPECT_EQ(united.title, "rank 0: w is wrong");
    EXPECT_EQ(united.outcome, Outcome::Refuted);
    EXPECT_THAT(united.facts, ElementsAre("rank 1: w is wrong"));
  }
}

/// A subject is its claim, rule, layout and names: none of them may be left out.
TEST(UniteRanks, WhatDiffersInOneThingIsAnotherSubject) {
  const Verdict green = about_rule("r", Outcome::Held);
  const std::vector<std::function<void(Verdict&)>> changes = {
      [](Verdict& one) { one.claim = "bytes"; }, [](Verdict& one) { one.rule = "q"; },
      [](Verdict& one) { one.layout = "tp2"; }, [](Verdict& one) { one.megatron = "w"; },
      [](Verdict& one) { one.hf = {"w"}; }};
  for (std::size_t i = 0; i < changes.size(); ++i) {
    Verdict other = about_rule("r", Outcome::Refuted, "wrong");
    changes[i](other);
    Verdict green_other = green;
    changes[i](green_other);
    bv::Run host = found_by({green, green_other});
    bv::Run guest = found_by({green, other});
    for (bv::Run* run : {&host, &guest}) {
      run->claims = {{.claim = "gpu", .subjects = i == 0 ? 3 : 6}};
      run->claims.resize(i == 0 ? 2 : 1, {.claim = "bytes", .subjects = 3});
    }
    const bv::Run united = all_united({host, guest})[0];
    ASSERT_EQ(united.verdicts.size(), 2U) << i;
    EXPECT_EQ(united.verdicts[0].outcome, Outcome::Held) << i;
    EXPECT_EQ(united.verdicts[1].outcome, Outcome::Refuted) << i;
  }
}

/// The row of a claim that rank 0 had no subject of says what the verdict of another process says.
TEST(UniteRanks, ARowThatSaysNothingIsTakenFromWhoMadeTheVerdict) {
  const Verdict wrong = about_rule("r", Outcome::Refuted, "wrong");
  const std::vector<ClaimSummary> rows = {
      {.claim = "gpu", .note = "not asked", .requested = false},
      {.claim = "gpu", .note = "no subject", .vacuous = true},
      {.claim = "gpu", .note = "the names are wrong", .reached = false},
      {.claim = "gpu", .note = "left out", .skipped = true}};
  for (const ClaimSummary& row : rows) {
    bv::Run host = found_by({});
    host.claims = {row};
    for (const bv::Run& run :
         all_united({host, found_by({wrong}), found_by({about_rule("q", Outcome::Held)})})) {
      ASSERT_EQ(run.claims.size(), 1U);
      EXPECT_TRUE(run.claims[0].requested && run.claims[0].reached);
      EXPECT_FALSE(run.claims[0].vacuous || run.claims[0].skipped);
      EXPECT_EQ(conclude(run).exit_code, 1);
    }
  }
  bv::Run without = found_by({});
  without.claims = {};
  const bv::Run united =
      all_united({without, found_by({wrong, about_rule("s", Outcome::Broken)})})[0];
  ASSERT_EQ(united.claims.size(), 1U);
  EXPECT_EQ(united.claims[0].subjects, 6);
  EXPECT_EQ(united.verdicts.size(), 2U);
}

TEST(UniteRanks, AVerdictOfAClaimThatNobodyListsGetsARow) {
  bv::Run host = found_by({});
  host.claims = {{.claim = "bytes", .vacuous = true}};
  bv::Run guest = found_by({about_rule("r", Outcome::Refuted, "wrong")});
  guest.claims = {};  // a run without a table: its verdicts say all
  const bv::Run united = all_united({host, guest})[0];
  ASSERT_EQ(united.claims.size(), 2U);
  EXPECT_EQ(united.claims[1].claim, "gpu");
  EXPECT_EQ(united.claims[1].subjects, 3);
}

TEST(UniteRanks, CasesAreThoseOfThisProcess) {
  Verdict more = about_rule("r", Outcome::Refuted, "wrong");
  more.cases = 7;
  more.refuted_cases = 7;
  bv::Run guest = found_by({more});
  guest.claims[0].subjects = 7;
  const bv::Run united = all_united({found_by({about_rule("r", Outcome::Held)}), guest})[0];
  EXPECT_EQ(united.verdicts[0].cases, 3);
  EXPECT_EQ(united.verdicts[0].refuted_cases, 3);
}

TEST(UniteRanks, WarningsAreToldOnceHoweverManyHaveThem) {
  const bv::Run quiet = found_by({about_rule("r", Outcome::Held)});
  bv::Run loud = quiet;
  loud.warnings = {fail(Code::NoGpu, "a"), fail(Code::NoGpu, "b")};
  loud.input_errors = {fail(Code::ReadFailed, "w cannot be read")};
  bv::Run louder = loud;
  louder.warnings.push_back(fail(Code::NoBytes, "c"));
  const auto texts = [](const std::vector<Error>& errors) {
    std::vector<std::string> out;
    for (const Error& one : errors) {
      out.push_back(one.message);
    }
    return out;
  };
  const auto runs = all_united({quiet, loud, louder, loud});
  EXPECT_THAT(texts(runs[0].warnings), ElementsAre("rank 1: a", "rank 1: b", "rank 2: c"));
  EXPECT_THAT(texts(runs[0].input_errors), ElementsAre("rank 1: w cannot be read"));
  EXPECT_THAT(texts(runs[1].warnings), ElementsAre("a", "b", "rank 2: c"));
  EXPECT_THAT(texts(runs[1].input_errors), ElementsAre("w cannot be read"));
}

TEST(UniteRanks, FindingsAreAllThatIsNotGreen) {
  bv::Run run = found_by(possible("r"));
  run.claims = {{.claim = "gpu", .subjects = 18}, {.claim = "bytes", .vacuous = true}};
  Verdict proved = about_rule("p", Outcome::Proved);
  proved.evidence.proved = true;
  run.verdicts.push_back(proved);
  run.verdicts.push_back(about_rule("w", Outcome::Waived, "known"));
  const bv::Run told = findings(run);
  std::vector<std::string> outcomes;
  for (const Verdict& one : told.verdicts) {
    outcomes.emplace_back(name(one.outcome));
  }
  EXPECT_THAT(outcomes,
              ElementsAre("Refuted", "Refuted", "Inconclusive", "Unsupported", "Broken", "Waived"));
  ASSERT_EQ(told.claims.size(), 2U);
  EXPECT_EQ(told.claims[0].subjects, 18);
  EXPECT_EQ(told.claims[1].subjects, 0);
}

}  // namespace
}  // namespace bv

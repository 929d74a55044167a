#include "core/verdict/waive.hpp"

#include <gtest/gtest.h>

namespace bv {
namespace {

constexpr toml::Date kToday{2026, 11, 28};

constexpr std::string_view kGood =
    "[[waiver]]\n"
    "code = \"BV2006\"\n"
    "subject = \"decoder.layers.*.linear_qkv.weight\"\n"
    "reason = \"known\"\n"
    "issue = \"https://example.org/1\"\n"
    "expires = 2027-03-01\n";

std::vector<Waiver> waivers(std::string_view text) {
  const auto read = read_waivers(text, "w.toml", kToday);
  EXPECT_TRUE(read.has_value()) << (read ? "" : read.error().message);
  return read ? *read : std::vector<Waiver>{};
}

Verdict verdict(Outcome outcome, Code code, std::string megatron, std::string layout = "tp2") {
  Verdict out;
  out.claim = "placement";
  out.outcome = outcome;
  out.code = code;
  out.megatron = std::move(megatron);
  out.layout = std::move(layout);
  out.cases = 1;
  return out;
}

Run run_of(std::vector<Verdict> verdicts) {
  Run run;
  run.verdicts = std::move(verdicts);
  return run;
}

const std::string kName = "decoder.layers.3.linear_qkv.weight";

TEST(Waive, AWaivedFaultIsGreenAndNamesItsWaiver) {
  const bv::Run before = run_of({verdict(Outcome::Refuted, Code::WrongPlacement, kName)});
  EXPECT_EQ(conclude(before).exit_code, 1);
  const bv::Run run = waive(before, waivers(kGood), kToday);
  EXPECT_EQ(run.verdicts[0].outcome, Outcome::Waived);
  EXPECT_TRUE(run.verdicts[0].evidence.waived);
  EXPECT_EQ(run.verdicts[0].waiver, "w.toml:1:1");
  EXPECT_EQ(conclude(run).exit_code, 0);
  ASSERT_EQ(run.waivers.size(), 1U);
  EXPECT_EQ(run.waivers[0].matched, 1);
  EXPECT_EQ(run.waivers[0].issue, "https://example.org/1");
  EXPECT_EQ(run.waivers[0].expires, "2027-03-01");
}

TEST(Waive, LeavesOtherCodesNamesLayoutsAndOutcomesAlone) {
  const std::string text = std::string(kGood) + "layouts = \"tp2*\"\n";
  const bv::Run run =
      waive(run_of({verdict(Outcome::Refuted, Code::BytesDiffer, kName),
                    verdict(Outcome::Refuted, Code::WrongPlacement, "output.weight"),
                    verdict(Outcome::Refuted, Code::WrongPlacement, kName, "tp4"),
                    verdict(Outcome::Broken, Code::WrongPlacement, kName),
                    verdict(Outcome::Proved, Code::WrongPlacement, kName)}),
            waivers(text), kToday);
  EXPECT_EQ(count(run).waived, 0);
  EXPECT_EQ(count(run).refuted, 3);
  EXPECT_EQ(count(run).broken, 1);
  EXPECT_EQ(count(run).proved, 1);
  ASSERT_EQ(run.warnings.size(), 1U);
  EXPECT_EQ(run.warnings[0].code, Code::WaiverUnused);
}

TEST(Waive, TheNextStepDoesNotRepeatWhatIsWaived) {
  Verdict known = verdict(Outcome::Refuted, Code::WrongPlacement, kName);
  known.replay = "bridge-verify check --only placement";
  Verdict fresh = verdict(Outcome::Refuted, Code::BytesDiffer, kName);
  fresh.replay = "bridge-verify check --only bytes";
  bv::Run alone = run_of({known});
  alone.next = known.replay;
  alone.next_note = "repeats it";
  const bv::Run green = waive(alone, waivers(kGood), kToday);
  EXPECT_EQ(green.next + green.next_note, "");
  bv::Run both = run_of({known, fresh});
  both.next = known.replay;
  EXPECT_EQ(waive(both, waivers(kGood), kToday).next, fresh.replay);
  both.next = "bridge-verify roundtrip";
  EXPECT_EQ(waive(both, waivers(kGood), kToday).next, "bridge-verify roundtrip");
}

TEST(Waive, MatchesHfNamesToo) {
  Verdict unused = verdict(Outcome::Refuted, Code::HfTensorUnused, "");
  unused.hf = {"model.visual.bias"};
  std::string text(kGood);
  text.replace(text.find("BV2006"), 6, "BV1001");
  text.replace(text.find("decoder.layers.*.linear_qkv.weight"), 34, "model.visual.*");
  EXPECT_EQ(count(waive(run_of({unused}), waivers(text), kToday)).waived, 1);
}

Run run_of_several(std::vector<std::string> subjects) {
  Verdict one = verdict(Outcome::Refuted, Code::WrongPlacement, subjects.front());
  one.subjects = std::move(subjects);
  return run_of({one});
}

TEST(Waive, AFaultOfSeveralTensorsIsWaivedWhenEveryOneOfThemIs) {
  const auto of_layer = [](const std::string& layer) {
    std::string text(kGood);
    return text.replace(text.find('*'), 1, layer);
  };
  const std::string other = "decoder.layers.5.linear_qkv.weight";
  const bv::Run all = waive(run_of_several({kName, other}), waivers(kGood), kToday);
  EXPECT_EQ(all.verdicts[0].outcome, Outcome::Waived);
  const bv::Run half = waive(run_of_several({kName, other}), waivers(of_layer("3")), kToday);
  EXPECT_EQ(half.verdicts[0].outcome, Outcome::Refuted);
  EXPECT_EQ(half.waivers[0].matched, 1);
  EXPECT_EQ(
      half.verdicts[0].facts,
      std::vector<std::string>({"waived for 1 of these 2 by w.toml:1:1, and not for " + other}));
  EXPECT_TRUE(half.warnings.empty());
  const bv::Run both =
      waive(run_of_several({kName, other}), waivers(of_layer("3") + of_layer("5")), kToday);
  EXPECT_EQ(both.verdicts[0].outcome, Outcome::Waived);
  EXPECT_EQ(both.waivers[1].matched, 1);
}

TEST(Waive, AnExpiredWaiverChangesNothingAndWarns) {
  const toml::Date after{2027, 3, 2};
  const bv::Run run = waive(run_of({verdict(Outcome::Refuted, Code::WrongPlacement, kName)}),
                            waivers(kGood), after);
  EXPECT_EQ(run.verdicts[0].outcome, Outcome::Refuted);
  EXPECT_EQ(conclude(run).exit_code, 1);
  ASSERT_EQ(run.warnings.size(), 1U);
  EXPECT_EQ(run.warnings[0].code, Code::WaiverExpired);
  EXPECT_EQ(run.warnings[0].where, "w.toml:1:1");
  const bv::Run last_day = waive(run_of({verdict(Outcome::Refuted, Code::WrongPlacement, kName)}),
                                 waivers(kGood), {2027, 3, 1});
  EXPECT_EQ(last_day.verdicts[0].outcome, Outcome::Waived);
}

TEST(Waive, APartialRunDoesNotCallAWaiverUnused) {
  bv::Run partial = run_of({verdict(Outcome::Proved, Code::WrongPlacement, "a")});
  partial.partial = true;
  EXPECT_TRUE(waive(partial, waivers(kGood), kToday).warnings.empty());
}

TEST(Waive, WithoutWaiversNothingChanges) {
  const bv::Run run =
      waive(run_of({verdict(Outcome::Refuted, Code::WrongPlacement, kName)}), {}, kToday);
  EXPECT_EQ(run.verdicts[0].outcome, Outcome::Refuted);
  EXPECT_TRUE(run.waivers.empty());
  EXPECT_TRUE(run.warnings.empty());
}

TEST(WaiversFile, FaultsNameTheLine) {
  const auto with = [](std::string_view from, std::string_view to) {
    std::string text(kGood);
    text.replace(text.find(from), from.size(), to);
    return text;
  };
  struct Row {
    std::string text;
    Code code;
    std::string where, message;
  };
  for (const Row& row : std::vector<Row>{
           {with("issue = \"https://example.org/1\"\n", ""), Code::WaiversInvalid, "w.toml:1:1",
            "the waiver has no issue"},
           {with("expires = 2027-03-01\n", ""), Code::WaiversInvalid, "w.toml:1:1",
            "the waiver has no last day"},
           {with("2027-03-01", "2028-03-01"), Code::WaiversInvalid, "w.toml:6:11",
            "2028-03-01 is more than 400 days ahead"},
           {with("2027-03-01", "\"2027-03-01\""), Code::WaiversInvalid, "w.toml:6:11",
            "expires is not a date"},
           {with("2027-03-01", "2027-03-01T00:00:00Z"), Code::WaiversInvalid, "w.toml:6:11",
            "expires is not a date"},
           {with("2027-03-01", "2027"), Code::WaiversInvalid, "w.toml:6:11",
            "expires is not a date"},
           {with("\"BV2006\"", "2006"), Code::WaiversInvalid, "w.toml:2:8", "code is not a text"},
           {with("[[waiver]]", "[waiver]"), Code::WaiversInvalid, "w.toml:1:2",
            "waiver is a table, and not a list of tables"},
           {with("BV2006", "BV9999"), Code::WaiversInvalid, "w.toml:2:8",
            "\"BV9999\" is not a code"},
           {with("BV2006", "BV26"), Code::WaiversInvalid, "w.toml:2:8", "\"BV26\" is not a code"},
           {with("BV2006", "BV9001"), Code::WaiversInvalid, "w.toml:2:8",
            "BV9001 is a fault of bridge-verify, which is never waived"},
           {with("decoder.layers.*.linear_qkv.weight", "*"), Code::WaiverTooBroad, "w.toml:3:11",
            "the subject \"*\" covers everything"},
           {with("decoder.layers.*.linear_qkv.weight", "*.*"), Code::WaiverTooBroad, "w.toml:3:11",
            "the subject \"*.*\" covers everything"},
           {with("decoder.layers.*.linear_qkv.weight", "*e*"), Code::WaiverTooBroad, "w.toml:3:11",
            "the subject \"*e*\" covers everything"},
           {with("decoder.layers.*.linear_qkv.weight", "*.?e?.*"), Code::WaiverTooBroad,
            "w.toml:3:11", "the subject \"*.?e?.*\" covers everything"},
           {with("https://", "see "), Code::WaiversInvalid, "w.toml:5:9",
            "the issue \"see example.org/1\" is not a link"},
           {with("reason", "reson"), Code::WaiversInvalid, "w.toml:4:1",
            "\"reson\" is not a key of a waiver"},
           {with("[[waiver]]", "[[waver]]"), Code::WaiversInvalid, "w.toml:1:3",
            "\"waver\" does not belong in a waivers file"},
       }) {
    const auto read = read_waivers(row.text, "w.toml", kToday);
    ASSERT_FALSE(read.has_value()) << row.text;
    EXPECT_EQ(read.error().code, row.code) << row.message;
    EXPECT_EQ(read.error().where, row.where) << row.message;
    EXPECT_EQ(read.error().message, row.message);
    EXPECT_FALSE(read.error().help.empty()) << row.message;
  }
}

/// The day that is proposed is one on which the waiver still holds.
TEST(WaiversFile, ADayThatIsProposedLiesAhead) {
  std::string text(kGood);
  text.erase(text.find("expires = 2027-03-01\n"), 21);
  EXPECT_EQ(read_waivers(text, "w.toml", kToday).error().help,
            "add expires = 2027-02-26, or another day at most 400 days ahead");
}

/// "*.weight" may name one sort of tensor in one model and all of them in another.
TEST(Waive, ASubjectThatTakesEveryNameOfTheRunWaivesNothing) {
  std::string text(kGood);
  text.replace(text.find("decoder.layers.*.linear_qkv.weight"), 34, "*.weight");
  std::vector<Verdict> verdicts = {verdict(Outcome::Refuted, Code::WrongPlacement, kName)};
  for (const char* name : {"embedding.weight", "decoder.layers.0.mlp.weight", "norm.weight",
                           "output.weight", "router.weight"}) {
    verdicts.push_back(verdict(Outcome::Proved, Code::WrongPlacement, name));
  }
  const bv::Run run = waive(run_of(verdicts), waivers(text), kToday);
  EXPECT_EQ(run.verdicts[0].outcome, Outcome::Refuted);
  EXPECT_EQ(conclude(run).exit_code, 1);
  ASSERT_EQ(run.warnings.size(), 1U);
  EXPECT_EQ(run.warnings[0].code, Code::WaiverTooBroad);
  EXPECT_EQ(run.warnings[0].message,
            "the waiver of BV2006 for *.weight takes each of the 6 names of this run, right ones "
            "too, and waives nothing");
  EXPECT_EQ(run.waivers[0].matched, 0);
  verdicts.push_back(verdict(Outcome::Proved, Code::WrongPlacement, "norm.bias"));
  EXPECT_EQ(waive(run_of(verdicts), waivers(text), kToday).verdicts[0].outcome, Outcome::Waived);
  std::vector<Verdict> red(verdicts.begin(), verdicts.begin() + 6);  // only faults are listed
  for (Verdict& one : red) {
    one.outcome = Outcome::Refuted;
  }
  EXPECT_EQ(waive(run_of(red), waivers(text), kToday).verdicts[0].outcome, Outcome::Waived);
  verdicts.resize(5);  // few names: a run of a part
  EXPECT_EQ(waive(run_of(verdicts), waivers(text), kToday).verdicts[0].outcome, Outcome::Waived);
}

TEST(DateOf, ReadsTheDayOfATime) {
  EXPECT_EQ(date_of("2026-11-28T10:00:00Z"), kToday);
  EXPECT_EQ(date_text(kToday), "2026-11-28");
  EXPECT_EQ(date_of("yesterday"), toml::Date{});
}

TEST(WaiversFile, ADateOfAnotherTypeIsSaidAsItWasFoundAndWanted) {
  const auto error = [](std::string_view value) {
    std::string text(kGood);
    text.replace(text.find("2027-03-01"), 10, value);
    return read_waivers(text, "w.toml", kToday).error();
  };
  EXPECT_EQ(error("\"2027-03-01\"").found, "a string, \"2027-03-01\"");
  EXPECT_EQ(error("\"2027-03-01\"").help, "write expires = 2027-03-01");
  EXPECT_EQ(error("\"soon\"").help, "write expires = 2027-02-26");
  EXPECT_EQ(error("\"2027-02-31\"").help, "write expires = 2027-02-26");
  EXPECT_EQ(error("2027-03-01T10:00:00Z").found, "a time or a date with a time");
  EXPECT_EQ(error("10:00:00").found, "a time or a date with a time");
  EXPECT_EQ(error("2027").wanted, "a date, without quotes and without a time");
}

}  // namespace
}  // namespace bv

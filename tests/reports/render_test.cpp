#include <fmt/format.h>
#include <gtest/gtest.h>

#include <regex>
#include <set>

#include "reports/causes.hpp"
#include "reports/error_text.hpp"
#include "reports/printable.hpp"
#include "reports/text.hpp"
#include "tests/support/golden_text.hpp"

namespace bv::reports {
namespace {

using support::expect_golden;

constexpr TextStyle kPlainStyle{.color = false, .ascii = false, .width = 120, .verbosity = 0};

Verdict green(std::string claim, std::string rule, std::string layout, Evidence evidence,
              std::int64_t cases) {
  Verdict out;
  out.claim = std::move(claim);
  out.rule = std::move(rule);
  out.kind = "column";
  out.layout = std::move(layout);
  out.outcome = evidence.bytes ? Outcome::Held : Outcome::Proved;
  out.evidence = evidence;
  out.cases = cases;
  return out;
}

bv::Run passing() {
  bv::Run run;
  run.model_ref = "Qwen/Qwen3.6-35B-A3B";
  run.revision = "995ad9600000000000000000000000000000000f";
  run.model_source = "HF cache";
  run.tensors = 1045;
  run.bytes = 71903645408U;
  run.shards = 26;
  run.family = "qwen3_5_vl_moe, built in";
  run.rules = 64;
  run.family_reason = "chosen by architecture Qwen3_5MoeForConditionalGeneration";
  run.detected = {{"experts", "packed", "gate_up_proj present"},
                  {"MTP experts", "packed", "1 layer"},
                  {"embeddings", "untied", ""}};
  run.layouts = {{"tp1pp1ep1etp1"}, {"tp2pp1ep1etp2", 2, 1, 1, 2, 1, 1, 2}};
  run.layouts_note = "2 of 2 legal up to 2 ranks (auto)";
  run.claims = {{.claim = "names",
                 .title = "every HF tensor used once, every Megatron parameter filled",
                 .subjects = 1045},
                {.claim = "placement",
                 .title = "same rows on same ranks as the independent oracle",
                 .subjects = 2090},
                {.claim = "values",
                 .title = "out_norm adds -1: exact for every element",
                 .subjects = 30,
                 .note = "30 small tensors read"},
                {.claim = "bytes", .title = "level data", .requested = false},
                {.claim = "lora", .note = "no adapter given", .vacuous = true}};
  const Evidence proved{.proved = true};
  const Evidence both{.proved = true, .oracle = true};
  run.verdicts = {green("names", "", "", proved, 1045),
                  green("placement", "r1", "tp1pp1ep1etp1", both, 1045),
                  green("placement", "r1", "tp2pp1ep1etp2", proved, 1045),
                  green("values", "r2", "", {.bytes = true}, 30)};
  run.next = "bridge-verify roundtrip --model Qwen/Qwen3.6-35B-A3B";
  run.next_note = "moves the bytes (71.9 GB)";
  run.seconds = 0.91;
  return run;
}

Verdict misplaced(std::string layout) {
  Verdict bad;
  bad.claim = "placement";
  bad.rule = "r31";
  bad.kind = "column_after_concat";
  bad.rule_source = "my_bridge.rules.json: rule 31";
  bad.layout = std::move(layout);
  bad.outcome = Outcome::Refuted;
  bad.code = Code::WrongPlacement;
  bad.evidence = {.proved = true, .oracle = true};
  bad.megatron = "decoder.layers.0.self_attention.in_proj.weight";
  bad.cases = 3;
  bad.refuted_cases = 3;
  bad.title =
      "rows are on the wrong tensor-parallel rank; the round trip is exact, the model is not";
  bad.facts = {"rank tp0 wanted  qkv[0:8] qkv[16:24] z[0:16]", "rank tp0 found   qkv[0:56]"};
  bad.found = "qkv[0:56]";
  bad.wanted = "qkv[0:8] qkv[16:24] z[0:16]";
  bad.extent = "100 of 112 rows misplaced";
  bad.why = "each of q, k, v, z, b, a must be cut over TP before they are joined";
  bad.help = "use kind gdn4";
  bad.replay = "bridge-verify check --model tiny --only placement --layout " + bad.layout;
  bad.counterexamples = {
      {"in_proj.weight", "tp0", {8, 0}, {"qkv", {16, 0}}, {"qkv", {8, 0}}, "", ""}};
  return bad;
}

bv::Run failing() {
  bv::Run run = passing();
  run.verdicts.push_back(misplaced("tp2pp1ep1etp2"));
  run.verdicts.push_back(misplaced("tp4pp1ep1etp4"));
  Verdict unknown;
  unknown.claim = "placement";
  unknown.rule = "r40";
  unknown.outcome = Outcome::Inconclusive;
  unknown.code = Code::NoTargetLayout;
  unknown.megatron = "decoder.new_module.weight";
  unknown.title = "the table of target layouts does not know decoder.new_module.weight";
  unknown.help = "add it to the table";
  run.verdicts.push_back(unknown);
  run.warnings = {fail(Code::RuleDead, "rule r9 matches nothing")
                      .at("my_bridge.rules.json:40")
                      .advise("delete it")};
  run.input_errors = {fail(Code::CacheIncomplete, "1 of 26 shards is missing")
                          .fact("model-00003-of-00026.safetensors")
                          .advise("fetch it")};
  return run;
}

TEST(RenderText, PassingRunEqualsItsGoldenText) {
  expect_golden("run_pass", render_text(passing(), kPlainStyle));
}

TEST(RenderText, FailingRunEqualsItsGoldenText) {
  expect_golden("run_fail", render_text(failing(), kPlainStyle));
}

TEST(RenderText, VerboseAndQuietEqualTheirGoldenText) {
  TextStyle style = kPlainStyle;
  style.verbosity = 1;
  std::string out = render_text(passing(), style) + "=== -vv ===\n";
  style.verbosity = 2;
  out += render_text(passing(), style) + "=== -q ===\n";
  style.verbosity = -1;
  out += render_text(failing(), style) + "=== plain ===\n" + render_plain(failing());
  expect_golden("run_verbosity", out);
}

TEST(RenderText, SilentAtMinusTwo) {
  TextStyle style = kPlainStyle;
  style.verbosity = -2;
  EXPECT_EQ(render_text(failing(), style), "");
}

/// At every width nothing is cut, nothing is glued, and only commands and single names are longer
/// than a line.
TEST(RenderText, FitsEveryWidthAndLosesNoWord) {
  bv::Run run = failing();
  run.claims[0].title = "a sentence of many words that says what is claimed and has no end so soon";
  run.detected.assign(12, {"something", "found", "because of a name"});
  std::multiset<std::string> wanted;
  for (const int width : {40, 60, 80, 100, 120, 200}) {
    TextStyle style = kPlainStyle;
    style.width = width;
    const std::string text = render_text(run, style);
    EXPECT_EQ(text.find("\u2026"), std::string::npos);
    std::istringstream lines(text);
    std::size_t fitted = 0;
    for (std::string line; std::getline(lines, line);) {
      const std::size_t last_blank = line.find_last_of(' ');
      const std::size_t first = line.find_first_not_of(" =|");
      const bool one_word = last_blank == std::string::npos || last_blank < first + 8;
      const bool command = line.find("bridge-verify") != std::string::npos;
      EXPECT_TRUE(columns(line) <= static_cast<std::size_t>(width) || one_word || command)
          << width << ": " << line;
      ++fitted;
    }
    EXPECT_GT(fitted, 30U);
    std::multiset<std::string> words;
    std::istringstream all(text);
    for (std::string word; all >> word;) {
      if (word != "|") {
        words.insert(word);
      }
    }
    if (wanted.empty()) {
      wanted = words;
    }
    EXPECT_EQ(words, wanted) << width;
  }
}

TEST(RenderText, APersonsLastLineLeavesZerosOutAndFitsEightyColumns) {
  EXPECT_EQ(short_last_line(passing()), "bridge-verify: PASS  proved 3  held 1  layouts 2  0.9 s");
  TextStyle style = kPlainStyle;
  style.person = true;
  const std::string text = render_text(passing(), style);
  EXPECT_TRUE(text.ends_with(short_last_line(passing()) + "\n")) << text;
  EXPECT_TRUE(render_text(passing(), kPlainStyle).ends_with(last_line(passing()) + "\n"));
}

TEST(RenderText, ClaimsBehindAFailedOneAreNotReached) {
  bv::Run run = passing();
  run.claims.push_back(
      {.claim = "coverage", .subjects = 0, .note = "the names are wrong", .reached = false});
  const std::string out = render_text(run, kPlainStyle);
  EXPECT_NE(out.find("  coverage         -  not reached           the names are wrong\n"),
            std::string::npos)
      << out;
  EXPECT_EQ(out.find("coverage          -  not asked"), std::string::npos);
}

TEST(RenderHeader, IsTheBeginningOfTheReport) {
  const std::string header = render_header(passing(), kPlainStyle);
  EXPECT_TRUE(header.starts_with("model    Qwen/Qwen3.6-35B-A3B @ 995ad96 (HF cache)"));
  EXPECT_TRUE(render_text(passing(), kPlainStyle).starts_with(header));
  TextStyle rest = kPlainStyle;
  rest.header = false;
  EXPECT_EQ(header + render_text(passing(), rest), render_text(passing(), kPlainStyle));
}

TEST(RenderText, ColourAddsNothingButColour) {
  TextStyle colour = kPlainStyle;
  colour.color = true;
  const std::string with = render_text(failing(), colour);
  EXPECT_NE(with, render_text(failing(), kPlainStyle));
  EXPECT_EQ(std::regex_replace(with, std::regex("\x1b\\[[0-9]+m"), ""),
            render_text(failing(), kPlainStyle));
}

TEST(RenderText, AsciiHasNoOtherCharacter) {
  bv::Run run = failing();
  run.model_ref = "m\u00f6del";
  TextStyle style = kPlainStyle;
  style.ascii = true;
  style.width = 60;
  for (const char c : render_text(run, style)) {
    ASSERT_LT(static_cast<unsigned char>(c), 0x80);
  }
}

TEST(RenderText, HostileNamesCannotMoveTheCursor) {
  bv::Run run = failing();
  run.model_ref = "x\x1b[2Jy";
  run.verdicts.back().title = "a\nbridge-verify: PASS\rb\u202e";
  const std::string out = render_text(run, kPlainStyle);
  EXPECT_EQ(out.find('\x1b'), std::string::npos);
  EXPECT_EQ(out.find('\r'), std::string::npos);
  EXPECT_EQ(out.find("\nbridge-verify: PASS"), std::string::npos);
  EXPECT_NE(out.find("a\\nbridge-verify: PASS\\x0db\\u{202e}"), std::string::npos);
}

TEST(RenderText, AtMostTwentyBlocksThenACount) {
  bv::Run run;
  for (int i = 0; i < 25; ++i) {
    Verdict bad = misplaced("tp2pp1ep1etp2");
    bad.title = fmt::format("cause {} of a fault", static_cast<char>('a' + i));
    run.verdicts.push_back(bad);
  }
  const std::string out = render_text(run, kPlainStyle);
  std::size_t blocks = 0;
  for (std::size_t at = out.find("error["); at != std::string::npos;
       at = out.find("error[", at + 1)) {
    ++blocks;
  }
  EXPECT_EQ(blocks, 20U);
  EXPECT_NE(out.find("\n5 more causes are not shown; --format plain lists every verdict\n"),
            std::string::npos);
}

TEST(RenderText, SkippedAndUndecidedClaimsAreSeen) {
  bv::Run run = passing();
  run.claims.push_back({.claim = "coverage", .requested = false, .skipped = true});
  const std::string out = render_text(run, kPlainStyle);
  EXPECT_NE(out.find("  coverage         -  skipped"), std::string::npos) << out;
  EXPECT_NE(out.find("open     claim coverage was skipped"), std::string::npos);
  EXPECT_NE(out.find("bridge-verify: INCOMPLETE"), std::string::npos);
}

TEST(Causes, NamesOfSubjectsInTitlesDoNotSplitACause) {
  bv::Run run;
  for (int i = 0; i < 512; ++i) {
    Verdict bad;
    bad.claim = "names";
    bad.outcome = Outcome::Refuted;
    bad.code = Code::HfTensorUnused;
    bad.hf = {"layers." + std::to_string(i) + ".bias"};
    bad.title = bad.hf.front() + " is used by no rule";
    run.verdicts.push_back(bad);
  }
  run.verdicts.push_back(run.verdicts[0]);
  run.verdicts.back().hf = {"lm_head.weight"};
  run.verdicts.back().title = "lm_head.weight is used by no rule";
  const std::vector<Cause> found = causes(run);
  ASSERT_EQ(found.size(), 1U);
  EXPECT_EQ(found[0].verdicts.size(), 513U);
  EXPECT_NE(block_of(found[0]).title.find("and 512 more like it"), std::string::npos);
}

TEST(Causes, SubjectsAreNamedOnceAndFewOfThem) {
  bv::Run run;
  for (int i = 0; i < 30; ++i) {
    Verdict bad;
    bad.claim = "offsets";
    bad.outcome = Outcome::Inconclusive;
    bad.code = Code::ValueRuleUndecided;
    bad.megatron = "decoder.layers." + std::to_string(i) + ".norm.weight";
    bad.title = "nobody knows how " + bad.megatron + " is stored";
    bad.found = bad.megatron + " is stored as it is";
    run.verdicts.push_back(bad);
  }
  const std::vector<Cause> found = causes(run);
  ASSERT_EQ(found.size(), 1U);
  const std::string text = render_block(block_of(found[0]), kPlainStyle);
  for (const auto& [name, times] : {std::pair("layers.0.norm", 1), std::pair("layers.1.norm", 1),
                                    std::pair("layers.29.norm", 0)}) {
    std::size_t seen = 0;
    for (std::size_t at = text.find(name); at != std::string::npos; at = text.find(name, at + 1)) {
      ++seen;
    }
    EXPECT_EQ(seen, static_cast<std::size_t>(times)) << name << "\n" << text;
  }
  EXPECT_NE(text.find(", and 29 more like it"), std::string::npos) << text;
}

/// "first X[]: wants zero padding, has zero padding" was printed for faults without an element.
TEST(Causes, NoLineSaysThatFoundIsWanted) {
  Verdict bad = misplaced("tp2");
  bad.facts.clear();
  bad.found = bad.wanted = "fc[0:10]";
  bad.counterexamples = {{"model.embed_tokens.weight", "", {}, {}, {}, "", ""}};
  bv::Run run;
  run.verdicts = {bad};
  const std::string text = render_block(block_of(causes(run)[0]), kPlainStyle);
  for (const char* never : {"= first", "= found", "= wanted", "zero padding"}) {
    EXPECT_EQ(text.find(never), std::string::npos) << text;
  }
  run.verdicts[0].counterexamples = {
      {"X", "", {0, 0}, {"hf.weight", {0, 0}}, {"hf.weight", {0, 0}}, "3f80", "3f81"}};
  const std::string bits = render_block(block_of(causes(run)[0]), kPlainStyle);
  EXPECT_NE(bits.find("= first   X[0, 0]: wanted hf.weight[0, 0] = 3f80, found 3f81"),
            std::string::npos)
      << bits;
}

TEST(Causes, GreenVerdictsAreNone) {
  EXPECT_TRUE(causes(passing()).empty());
}

TEST(RenderError, EqualsItsGoldenText) {
  std::string out;
  out += render_error(
      fail(Code::UnknownOption, "unknown option --modle").advise("did you mean --model?"),
      kPlainStyle);
  Error header =
      fail(Code::HeaderTruncated, "model-00003-of-00026.safetensors ends inside its header")
          .at("m/model-00003-of-00026.safetensors")
          .fact("length word says 81,920 bytes, 40,112 are there (file 40,120 bytes)")
          .pair("40,112 bytes", "81,920 bytes")
          .advise("the download was cut: delete and fetch it again");
  out += render_error(header, kPlainStyle);
  header.facts.assign(12, "one more line");
  out += render_error(header, kPlainStyle);
  out += render_error(fail(Code::RuleShadowed, "rule 40 can never match").at("a\nb"), kPlainStyle);
  expect_golden("errors", out);
}

TEST(RenderPlain, HasElevenColumnsWhateverTheNames) {
  bv::Run run = failing();
  run.verdicts[0].title = "a\tb\nc";
  std::istringstream lines(render_plain(run));
  std::string line;
  std::size_t count = 0;
  while (std::getline(lines, line)) {
    EXPECT_EQ(std::count(line.begin(), line.end(), '\t'), 10) << line;
    ++count;
  }
  EXPECT_EQ(count, run.verdicts.size());
}

}  // namespace
}  // namespace bv::reports

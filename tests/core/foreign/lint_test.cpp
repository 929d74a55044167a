#include "core/foreign/lint.hpp"

#include <fmt/format.h>
#include <gtest/gtest.h>

#include "core/foreign/pattern.hpp"
#include "core/kinds/catalogue.hpp"
#include "tests/core/model/sample.hpp"

namespace bv::foreign {
namespace {

using namespace model::test;

std::vector<LintFinding> lint(const std::string& part, const std::string& golden_name = "") {
  std::ifstream in(std::filesystem::path(BV_FIXTURES) / part, std::ios::binary);
  const std::string text{std::istreambuf_iterator<char>(in), {}};
  const auto rules = parse_rules_file(text, part);
  EXPECT_TRUE(rules.has_value()) << part;
  const auto kinds = foreign_kinds().value();
  std::vector<LintFinding> out = lint_rules(*rules, kinds);
  for (LintFinding& idle : golden_name.empty() ? std::vector<LintFinding>()
                                               : idle_rules(*rules, golden_headers(golden_name))) {
    out.push_back(std::move(idle));
  }
  return out;
}

const LintFinding* finding_of(const std::vector<LintFinding>& findings, Code code) {
  for (const LintFinding& one : findings) {
    if (one.code == code) {
      return &one;
    }
  }
  return nullptr;
}

TEST(Lint, RightRulesHaveNoFinding) {
  for (const char* part : {"rules/qwen3.rules.json", "rules/qwen3_next.rules.json",
                           "rules/qwen3_moe.rules.json", "rules/qwen3_5_moe_packed.rules.json"}) {
    const auto findings = lint(part);
    EXPECT_TRUE(findings.empty()) << part << ": " << findings.front().message;
  }
  EXPECT_TRUE(lint("rules/qwen3_moe.rules.json", "qwen3_moe").empty());
}

TEST(Lint, AnUnknownKindIsNamedWithTheNearest) {
  const auto findings = lint("broken/unknown_kind.rules.json");
  ASSERT_EQ(findings.size(), 1U);
  EXPECT_EQ(findings[0].code, Code::RuleKindUnknown);
  EXPECT_EQ(findings[0].severity, LintFinding::Severity::Unsupported);
  EXPECT_EQ(findings[0].rule, "r4");
  EXPECT_EQ(findings[0].help, "did you mean qkv?");
}

TEST(Lint, WildcardCountsAreCompared) {
  const auto findings = lint("broken/wildcard_count.rules.json");
  ASSERT_EQ(findings.size(), 1U);
  EXPECT_EQ(findings[0].code, Code::WildcardCount);
  EXPECT_EQ(findings[0].severity, LintFinding::Severity::Error);
}

TEST(Lint, AWildcardBeforeItsSpecialCasesShadowsThem) {
  const auto findings = lint("broken/wildcard_order.rules.json");
  const LintFinding* shadowed = finding_of(findings, Code::RuleShadowed);
  ASSERT_NE(shadowed, nullptr);
  EXPECT_EQ(shadowed->severity, LintFinding::Severity::Warning);
  EXPECT_NE(shadowed->message.find("rule r5 is tried first"), std::string::npos)
      << shadowed->message;
}

TEST(Lint, RulesThatFindNothingAreOneWarningASort) {
  const auto findings = lint("broken/per_expert_on_packed.rules.json", "qwen3_5_moe_packed");
  const LintFinding* never = finding_of(findings, Code::RuleDead);
  ASSERT_NE(never, nullptr);
  EXPECT_EQ(never->severity, LintFinding::Severity::Warning);
  std::string rules;
  for (const char* name : {"mtp.layers.*.a", "mtp.layers.*.b", "decoder.layers.*.c"}) {
    rules += fmt::format(R"({}{{"kind":"row","megatron":"{}","hf":"no.*"}})",
                         rules.empty() ? "" : ",", name);
  }
  const auto parsed =
      parse_rules_file(R"({"schema":"bridge-rules/1","rules":[)" + rules + "]}", "x").value();
  const auto idle = idle_rules(parsed, golden_headers("qwen3"));
  ASSERT_EQ(idle.size(), 2U);
  EXPECT_EQ(idle[0].message, "2 rules for MTP layers find no tensor in the checkpoint: r0, r1");
  EXPECT_EQ(idle[1].message, "rule r2 finds no tensor in the checkpoint");
}

std::vector<LintFinding> lint_text(const std::string& rules) {
  const auto parsed =
      parse_rules_file(R"({"schema":"bridge-rules/1","rules":[)" + rules + "]}", "x");
  EXPECT_TRUE(parsed.has_value());
  return lint_rules(*parsed, foreign_kinds().value());
}

TEST(Lint, TwoRulesForOneNameAreAnErrorUnlessTheyAreTheSame) {
  const std::string one = R"({"kind":"column","megatron":"a.*","hf":"b.*"})";
  const std::string other = R"({"kind":"column","megatron":"a.*","hf":"c.*"})";
  ASSERT_EQ(lint_text(one + "," + other).size(), 1U);
  EXPECT_EQ(lint_text(one + "," + other)[0].code, Code::DuplicateClaim);
  const auto same = lint_text(one + "," + one);
  ASSERT_EQ(same.size(), 1U);
  EXPECT_EQ(same[0].severity, LintFinding::Severity::Warning);
}

TEST(Lint, APartThatIsMissingIsNamedAndAStackNeedsNoOrientation) {
  EXPECT_TRUE(lint_text(R"({"kind":"fused_expert","megatron":"a.*.weight*","hf":"b.*"})").empty());
  const auto part = lint_text(R"({"kind":"qkv","megatron":"a","hf":{"q":"x","k":"y"}})");
  ASSERT_EQ(part.size(), 1U);
  EXPECT_EQ(part[0].code, Code::RuleMalformed);
  EXPECT_EQ(part[0].message, "rule r0 of kind qkv has no HF name for v");
}

TEST(Lint, MixedWildcardsAreRefused) {
  const auto findings = lint_text(R"({"kind":"auto","megatron":"a.*.**","hf":"b.*.**"})");
  EXPECT_NE(finding_of(findings, Code::WildcardCount), nullptr);
  EXPECT_TRUE(lint_text(R"({"kind":"column","megatron":"a.**.x.**","hf":"b.**.x.**"})").empty());
}

TEST(Lint, AModuleWithoutAParallelismNeedsAKind) {
  const auto findings = lint_text(R"({"kind":"auto","megatron":"x.*.mystery.weight","hf":"b.*"})");
  ASSERT_EQ(findings.size(), 1U);
  EXPECT_EQ(findings[0].code, Code::RuleModuleUnknown);
  EXPECT_EQ(findings[0].severity, LintFinding::Severity::Unsupported);
  EXPECT_TRUE(lint_text(R"({"kind":"row","megatron":"x.*.mystery.weight","hf":"b.*"})").empty());
}

TEST(Lint, KeysThatNobodyReadsAreWarningsWithTheNearest) {
  const auto findings = lint_text(R"({"kind":"row","megatron":"a","hf":"b","value":"minus_one"})");
  ASSERT_EQ(findings.size(), 1U);
  EXPECT_EQ(findings[0].code, Code::RulesKeyUnknown);
  EXPECT_EQ(findings[0].severity, LintFinding::Severity::Warning);
  EXPECT_EQ(findings[0].help, "did you mean values?");
}

TEST(Lint, PlantedFaultsAreNeverOffered) {
  const auto findings = lint_text(R"({"kind":"column_after_conca","megatron":"a","hf":"b"})");
  ASSERT_EQ(findings.size(), 1U);
  EXPECT_EQ(findings[0].help.find("column_after_concat"), std::string::npos) << findings[0].help;
  const std::vector<std::string> all = foreign_kinds().value().offered();
  for (const std::string& offered : all) {
    EXPECT_NE(offered, "hidden_first");
  }
}

/// Every kind of the catalogue can be written in a rules file.
TEST(Lint, KindsOfTheCatalogueAreKnownInARulesFile) {
  const auto kinds = foreign_kinds().value();
  const auto catalogue = kinds::load_catalogue().value();
  for (const layout::Rule& line : catalogue.rules()) {
    EXPECT_NE(kinds.find(line.name), nullptr) << line.name;
  }
}

/// Ten thousand rules were compared pair by pair, and six ** on one name searched for hours.
TEST(Lint, ManyRulesAndManyWildcardsAreAnsweredAtOnce) {
  std::string rules;
  for (int i = 0; i < 10000; ++i) {
    rules += fmt::format(R"({}{{"kind":"row","megatron":"a.{}.*.x","hf":"b.{}.*"}})",
                         i == 0 ? "" : ",", i, i);
  }
  EXPECT_TRUE(lint_text(rules).empty());
  const auto six =
      lint_text(R"({"kind":"row","megatron":"**a**a**a**a**a**a","hf":"**a**a**a**a**a**a"})");
  EXPECT_TRUE(six.empty());
  EXPECT_FALSE(match_pattern("**a**a**a**a**a**a**b", std::string(20000, 'a')).has_value());
  EXPECT_TRUE(match_pattern("**a**a**a**a**a**a", std::string(20000, 'a')).has_value());
}

TEST(Lint, NamesOfAMegabyteAreShortenedAndEscaped) {
  const std::string name = "\\u001b[31m" + std::string(1000000, 'k');
  const auto findings =
      lint_text(R"({"id":")" + name + R"(","kind":")" + name + R"(","megatron":"a","hf":"b"})");
  ASSERT_EQ(findings.size(), 1U);
  const LintFinding& one = findings[0];
  for (const std::string& text :
       {one.message, one.found, one.wanted, one.help, one.rule, one.source}) {
    EXPECT_LT(text.size(), 1000U);
    EXPECT_EQ(text.find('\x1b'), std::string::npos);
  }
}

}  // namespace
}  // namespace bv::foreign

#include "core/foreign/lint.hpp"

#include <gtest/gtest.h>

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
  if (golden_name.empty()) {
    return lint_rules(*rules, kinds, nullptr);
  }
  const Headers headers = golden_headers(golden_name);
  return lint_rules(*rules, kinds, &headers);
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
  EXPECT_EQ(findings[0].code, Code::RulesInvalid);
  EXPECT_EQ(findings[0].rule, "r4");
  EXPECT_EQ(findings[0].help, "did you mean qkv?");
}

TEST(Lint, WildcardCountsAreCompared) {
  const auto findings = lint("broken/wildcard_count.rules.json");
  ASSERT_EQ(findings.size(), 1U);
  EXPECT_EQ(findings[0].code, Code::WildcardCount);
  EXPECT_TRUE(findings[0].error);
}

TEST(Lint, AWildcardBeforeItsSpecialCasesShadowsThem) {
  const auto findings = lint("broken/wildcard_order.rules.json");
  const LintFinding* shadowed = finding_of(findings, Code::RuleShadowed);
  ASSERT_NE(shadowed, nullptr);
  EXPECT_FALSE(shadowed->error);
  EXPECT_NE(shadowed->message.find("rule r5 is tried first"), std::string::npos)
      << shadowed->message;
}

TEST(Lint, UnusedTensorsAreNamedWhenTheCheckpointIsGiven) {
  const auto findings = lint("broken/missing_k_norm.rules.json", "qwen3");
  const LintFinding* unused = finding_of(findings, Code::HfTensorUnused);
  ASSERT_NE(unused, nullptr);
  EXPECT_NE(unused->message.find("model.layers.0.self_attn.k_norm.weight"), std::string::npos);
  EXPECT_EQ(finding_of(lint("broken/missing_k_norm.rules.json"), Code::HfTensorUnused), nullptr);
}

TEST(Lint, ARuleThatNeverFiresIsAWarningAndOneThatHalfFiresAnError) {
  const auto dead = lint("broken/per_expert_on_packed.rules.json", "qwen3_5_moe_packed");
  const LintFinding* never = finding_of(dead, Code::RuleDead);
  ASSERT_NE(never, nullptr);
  EXPECT_FALSE(never->error);
  Headers headers = golden_headers("qwen3");
  std::erase_if(headers,
                [](const auto& one) { return one.first.find("v_proj") != std::string::npos; });
  std::ifstream in(std::filesystem::path(BV_FIXTURES) / "rules/qwen3.rules.json");
  const std::string text{std::istreambuf_iterator<char>(in), {}};
  const auto findings =
      lint_rules(parse_rules_file(text, "x").value(), foreign_kinds().value(), &headers);
  const LintFinding* half = finding_of(findings, Code::HfTensorMissing);
  ASSERT_NE(half, nullptr);
  EXPECT_TRUE(half->error);
}

std::vector<LintFinding> lint_text(const std::string& rules) {
  const auto parsed =
      parse_rules_file(R"({"schema":"bridge-rules/1","rules":[)" + rules + "]}", "x");
  EXPECT_TRUE(parsed.has_value());
  return lint_rules(*parsed, foreign_kinds().value(), nullptr);
}

TEST(Lint, TwoRulesForOneNameAreAnErrorUnlessTheyAreTheSame) {
  const std::string one = R"({"kind":"column","megatron":"a.*","hf":"b.*"})";
  const std::string other = R"({"kind":"column","megatron":"a.*","hf":"c.*"})";
  ASSERT_EQ(lint_text(one + "," + other).size(), 1U);
  EXPECT_EQ(lint_text(one + "," + other)[0].code, Code::DuplicateClaim);
  EXPECT_TRUE(lint_text(one + "," + one).empty());
}

TEST(Lint, AMissingOrientationAndAMissingPartAreNamed) {
  const auto findings = lint_text(R"({"kind":"fused_expert","megatron":"a.*.weight*","hf":"b.*"})");
  ASSERT_EQ(findings.size(), 1U);
  EXPECT_EQ(findings[0].code, Code::AmbiguousTranspose);
  const auto part = lint_text(R"({"kind":"qkv","megatron":"a","hf":{"q":"x","k":"y"}})");
  ASSERT_EQ(part.size(), 1U);
  EXPECT_NE(part[0].message.find("\"v\""), std::string::npos);
}

TEST(Lint, MixedWildcardsAreRefused) {
  const auto findings = lint_text(R"({"kind":"auto","megatron":"a.*.**","hf":"b.*.**"})");
  EXPECT_NE(finding_of(findings, Code::WildcardCount), nullptr);
  EXPECT_TRUE(lint_text(R"({"kind":"column","megatron":"a.**.x.**","hf":"b.**.x.**"})").empty());
}

TEST(Lint, AModuleWithoutAParallelismNeedsAKind) {
  const auto findings = lint_text(R"({"kind":"auto","megatron":"x.*.mystery.weight","hf":"b.*"})");
  ASSERT_EQ(findings.size(), 1U);
  EXPECT_EQ(findings[0].code, Code::RulesInvalid);
  EXPECT_NE(findings[0].message.find(""), std::string::npos);
  EXPECT_TRUE(lint_text(R"({"kind":"row","megatron":"x.*.mystery.weight","hf":"b.*"})").empty());
}

}  // namespace
}  // namespace bv::foreign

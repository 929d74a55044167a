#include <gtest/gtest.h>

#include "tests/ci/run_command.hpp"

namespace bv::cli::testing {
namespace {

std::string rules_file(const std::string& part) {
  return (std::filesystem::path(BV_FIXTURES) / part).string();
}

TEST(RulesLint, RightRulesExitZeroAndBrokenOnesExitOneWithTheirCode) {
  EXPECT_EQ(run_line({"rules", "lint", rules_file("rules/qwen3.rules.json")}).code, 0);
  for (const auto& [file, code] : std::vector<std::pair<std::string, std::string>>{
           {"unknown_kind", "BV7011"}, {"wildcard_count", "BV1009"}}) {
    const Ended ended = run_line({"rules", "lint", rules_file("broken/" + file + ".rules.json")});
    EXPECT_EQ(ended.code, 1) << file;
    EXPECT_NE(ended.out.find(code), std::string::npos) << ended.out;
  }
}

TEST(RulesLint, WarningsFailOnlyWhenStrict) {
  const std::string file = rules_file("broken/wildcard_order.rules.json");
  const Ended lax = run_line({"rules", "lint", file});
  EXPECT_EQ(lax.code, 0) << lax.out;
  EXPECT_NE(lax.out.find("BV1005"), std::string::npos) << lax.out;
  EXPECT_EQ(run_line({"rules", "lint", file, "--strict"}).code, 1);
}

TEST(RulesLint, ParametersThatNoRuleMakesAreNamedWhenTheModelIsGiven) {
  const std::string file = rules_file("broken/missing_k_norm.rules.json");
  EXPECT_EQ(run_line({"rules", "lint", file}).out.find("BV1003"), std::string::npos);
  const Ended ended = run_line({"rules", "lint", file, "--model", hf_case("qwen3")});
  EXPECT_EQ(ended.code, 1) << ended.out;
  EXPECT_NE(ended.out.find("BV1003"), std::string::npos) << ended.out;
  EXPECT_NE(ended.out.find("self_attention.k_layernorm.weight"), std::string::npos) << ended.out;
  EXPECT_EQ(run_line({"rules", "lint", rules_file("rules/qwen3_moe.rules.json"), "--model",
                      hf_case("qwen3_moe")})
                .code,
            0);
}

TEST(RulesLint, AFileThatIsNoRulesFileExitsFive) {
  EXPECT_EQ(run_line({"rules", "lint", hf_case("qwen3") + "/config.json"}).code, 5);
  EXPECT_EQ(run_line({"rules", "lint", "/nowhere/x.json"}).code, 5);
}

TEST(RulesUnderTest, NamesAndShapesOfRightRulesAreProved) {
  for (const char* name : {"qwen3", "qwen3_next", "qwen3_moe", "qwen3_5_moe_packed"}) {
    const Ended ended = run_line({"check", "--model", hf_case(name), "--rules",
                                  rules_file(std::string("rules/") + name + ".rules.json"),
                                  "--only", "names,shapes,coverage,inverse"});
    EXPECT_EQ(ended.code, 0) << name << ended.out << ended.err;
  }
}

TEST(RulesUnderTest, WrongNamesAreRefutedWithCodeAndTensor) {
  const Ended missing = run_line({"check", "--model", hf_case("qwen3"), "--rules",
                                  rules_file("broken/missing_k_norm.rules.json")});
  EXPECT_EQ(missing.code, 1) << missing.out << missing.err;
  EXPECT_NE(missing.out.find("BV1003"), std::string::npos) << missing.out;
  EXPECT_NE(missing.out.find("k_layernorm"), std::string::npos) << missing.out;
  const Ended packed = run_line({"check", "--model", hf_case("qwen3_5_moe_packed"), "--rules",
                                 rules_file("broken/per_expert_on_packed.rules.json")});
  EXPECT_EQ(packed.code, 1) << packed.out << packed.err;
  EXPECT_NE(packed.out.find("BV1004"), std::string::npos) << packed.out;
}

TEST(RulesUnderTest, ExchangedNormsOfOneShapeAreRefuted) {
  const Ended ended = run_line({"check", "--model", hf_case("qwen3"), "--rules",
                                rules_file("broken/swapped_qk_norms.rules.json")});
  EXPECT_EQ(ended.code, 1) << ended.out << ended.err;
  EXPECT_NE(ended.out.find("BV1011"), std::string::npos) << ended.out;
  EXPECT_NE(ended.out.find("wanted  model.layers.0.self_attn.q_norm.weight"), std::string::npos)
      << ended.out;
}

TEST(RulesUnderTest, UnknownKindsExitFive) {
  const Ended ended = run_line({"check", "--model", hf_case("qwen3"), "--rules",
                                rules_file("broken/unknown_kind.rules.json")});
  EXPECT_EQ(ended.code, 5) << ended.out;
  EXPECT_NE(ended.err.find("did you mean qkv?"), std::string::npos) << ended.err;
}

}  // namespace
}  // namespace bv::cli::testing

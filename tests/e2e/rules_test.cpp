// Foreign rules that every round trip takes for right: the oracles refute them.

#include <array>

#include "tests/e2e/process.hpp"

namespace bv::e2e {
namespace {

TEST(ForeignRules, RightOnesPass) {
  for (const char* name : {"qwen3", "qwen3_moe", "qwen3_5_moe_packed"}) {
    const Ended ended =
        run({"check", "--model", golden_hf(name).string(), "--rules",
             fixture(std::string("rules/") + name + ".rules.json"), "--only", "names,placement"});
    EXPECT_EQ(ended.code, 0) << name << ended.all();
  }
}

TEST(ForeignRules, WrongPlacementIsRefutedWithItsParameter) {
  for (const auto& [model, file, parameter] : std::vector<std::array<std::string, 3>>{
           {"qwen3", "swapped_gate_up", "mlp.linear_fc1.weight"},
           {"qwen3", "qkv_concat", "self_attention.linear_qkv.weight"},
           {"qwen3_5_moe_packed", "gdn_concat", "self_attention.in_proj.weight"}}) {
    const Ended ended = run({"check", "--model", golden_hf(model).string(), "--rules",
                             fixture("broken/" + file + ".rules.json")});
    EXPECT_EQ(ended.code, 1) << file << ended.all();
    EXPECT_NE(ended.out.find("BV2006"), std::string::npos) << ended.out;
    EXPECT_NE(ended.out.find(parameter), std::string::npos) << ended.out;
  }
}

/// The wanted value comes from the oracles: forgotten, doubled, and where it must not be.
TEST(ForeignRules, WrongValueRulesAreRefutedWithTensorAndElement) {
  for (const auto& [model, file, parameter, wanted] : std::vector<std::array<std::string, 4>>{
           {"qwen3_next", "norm_kept", "decoder.layers.0.self_attention.out_norm.weight",
            "must hold the value -1"},
           {"qwen3_next", "norm_twice", "decoder.layers.0.self_attention.out_norm.weight",
            "the rule puts the value -2 there"},
           {"qwen3", "norm_minus_one", "decoder.layers.0.self_attention.q_layernorm.weight",
            "must hold the value as it is"}}) {
    const Ended ended = run({"check", "--model", golden_hf(model).string(), "--rules",
                             fixture("broken/" + file + ".rules.json"), "--only", "offsets"});
    EXPECT_EQ(ended.code, 1) << file << ended.all();
    EXPECT_NE(ended.out.find("error[BV3007]: " + parameter), std::string::npos) << ended.out;
    EXPECT_NE(ended.out.find(wanted), std::string::npos) << ended.out;
    EXPECT_NE(ended.out.find("element 0"), std::string::npos) << ended.out;
  }
}

TEST(ForeignRules, RightValueRulesAreProvedAgainstTheOracle) {
  for (const char* name : {"qwen3", "qwen3_moe"}) {
    const Ended ended =
        run({"check", "--model", golden_hf(name).string(), "--rules",
             fixture(std::string("rules/") + name + ".rules.json"), "--only", "offsets"});
    EXPECT_EQ(ended.code, 0) << name << ended.all();
  }
}

/// Headers alone decide whether a value rule is the wanted one.
TEST(ForeignRules, AForgottenMinusOneIsRefutedFromHeaders) {
  const TempFolder folder;
  const Ended dumped = run({"inspect", "--model", golden_hf("qwen3_next").string(),
                            "--dump-headers", folder / "h.json"});
  ASSERT_EQ(dumped.code, 0) << dumped.all();
  const Ended ended = run({"check", "--headers", folder / "h.json", "--rules",
                           fixture("broken/norm_kept.rules.json"), "--only", "offsets"});
  EXPECT_EQ(ended.code, 1) << ended.all();
  EXPECT_NE(ended.out.find("BV3007"), std::string::npos) << ended.out;
}

/// 5 of 12 wrong rule sets passed `convert`.
TEST(ForeignRules, NoWrongRuleSetPassesConvert) {
  for (const auto& [model, file] :
       std::vector<std::array<std::string, 2>>{{"qwen3_5_dense_mtp", "eh_proj_halves"},
                                               {"qwen3_5_moe_packed", "gdn_concat"},
                                               {"qwen3", "missing_k_norm"},
                                               {"qwen3_next", "norm_kept"},
                                               {"qwen3", "norm_minus_one"},
                                               {"qwen3_next", "norm_twice"},
                                               {"qwen3_5_moe_packed", "per_expert_on_packed"},
                                               {"qwen3", "qkv_concat"},
                                               {"qwen3", "swapped_gate_up"},
                                               {"qwen3", "swapped_qk_norms"},
                                               {"qwen3", "transposed_o_proj"},
                                               {"qwen3", "unknown_kind"},
                                               {"qwen3", "wildcard_count"}}) {
    const TempFolder folder;
    const Ended ended = run({"convert", "--model", golden_hf(model).string(), "--rules",
                             fixture("broken/" + file + ".rules.json"), "--to", "megatron", "--tp",
                             "2", "--make-vocab-size-divisible-by", "1", "--out", folder / "out"});
    EXPECT_EQ(ended.code, file == "unknown_kind" ? 3 : 1) << file << ended.all();
    EXPECT_FALSE(std::filesystem::exists(folder.path() / "out")) << file;
  }
}

TEST(ForeignRules, StdinIsAFileToo) {
  const Ended none = run({"rules", "lint", "-"});
  EXPECT_EQ(none.code, 5) << none.all();
  EXPECT_NE(none.err.find("stdin is not JSON"), std::string::npos) << none.err;
}

TEST(ForeignRules, AnUnknownValueRuleIsNoInput) {
  const TempFolder folder;
  std::string text = file_text(fixture("rules/qwen3.rules.json"));
  const std::string key = "\"id\": \"r3\",";
  ASSERT_NE(text.find(key), std::string::npos);
  text.insert(text.find(key), "\"values\": [\"minus_one\", \"halved\"], ");
  write_text(folder / "r.json", text);
  const Ended ended =
      run({"check", "--model", golden_hf("qwen3").string(), "--rules", folder / "r.json"});
  EXPECT_EQ(ended.code, 5) << ended.all();
  EXPECT_NE(ended.err.find("BV7011"), std::string::npos) << ended.err;
  EXPECT_NE(ended.err.find("halved"), std::string::npos) << ended.err;
}

}  // namespace
}  // namespace bv::e2e

// A family that is read at run time: docs/howto/family-without-a-build.md, followed with the binary
// alone.

#include "tests/e2e/lumen.hpp"

namespace bv::e2e {
namespace {
namespace fs = std::filesystem;

TEST_F(Families, TheHowToMakesANewArchitectureGreen) {
  const Ended without = run({"check", "--model", folder_ / "lumen"});
  EXPECT_EQ(without.code, 5) << without.all();
  const Ended with = check({"--level", "full", "--layouts", "quick"});
  EXPECT_EQ(with.code, 0) << with.all();
  EXPECT_EQ(with.word(), "PASS");
}

TEST_F(Families, TheEnvironmentNamesTheFolderToo) {
  const Ended ended = run({"check", "--model", folder_ / "lumen", "--only", "names"},
                          {{"BRIDGE_VERIFY_FAMILIES", folder_ / "families"}});
  EXPECT_NE(ended.out.find("lumen_moe"), std::string::npos) << ended.all();
}

TEST_F(Families, NormsThatOnlyAStatementDecidesAreNotGreenWithoutForward) {
  const Ended ended = check({"--only", "offsets"});
  EXPECT_EQ(ended.code, 3) << ended.all();
  EXPECT_NE(ended.all().find("--level full"), std::string::npos) << ended.all();
}

TEST_F(Families, BothWaysGiveEveryByteAgain) {
  const std::string shards = folder_ / "shards";
  const std::string back = folder_ / "back";
  const Ended there =
      run({"convert", "--to", "megatron", "--model", folder_ / "lumen", "--families",
           folder_ / "families", "--tp", "2", "--ep", "2", "--out", shards});
  ASSERT_EQ(there.code, 0) << there.all();
  const Ended again = run({"convert", "--to", "hf", "--model", shards, "--families",
                           folder_ / "families", "--out", back});
  ASSERT_EQ(again.code, 0) << again.all();
  EXPECT_EQ(read_tensors(back), read_tensors(folder_ / "lumen"));
}

TEST_F(Families, AModelThatComputesWithoutSomeTensorsIsRefuted) {
  // Qwen's experts have no shared expert and no bias of the router.
  const Ended ended =
      forward_with(R"("computes_like": "glm4_moe")", R"("computes_like": "qwen3_moe")");
  EXPECT_EQ(ended.code, 1) << ended.all();
  EXPECT_NE(ended.out.find("computes_like"), std::string::npos) << ended.all();
}

TEST_F(Families, AModelWithOtherTensorsIsRefuted) {
  const Ended ended = forward_with(R"("computes_like": "glm4_moe")", R"("computes_like": "llama")");
  EXPECT_EQ(ended.code, 1) << ended.all();
}

TEST_F(Families, AModelThatNeedsOtherFieldsIsRefuted) {
  const Ended ended =
      forward_with(R"("computes_like": "glm4_moe")", R"("computes_like": "deepseek_v3")");
  EXPECT_EQ(ended.code, 1) << ended.all();
}

TEST_F(Families, NormsStatedZeroCentredAreRefuted) {
  const Ended ended = forward_with(R"("computes_like": "glm4_moe",)",
                                   R"("computes_like": "glm4_moe",
    "layernorm_zero_centered_gamma": true,)");
  EXPECT_EQ(ended.code, 1) << ended.all();
}

TEST_F(Families, AForgottenNewNameIsRefuted) {
  const Ended ended =
      forward_with(R"("mlp.router.": "mlp.gate.")", R"("mlp.rooter.": "mlp.gate.")");
  EXPECT_EQ(ended.code, 1) << ended.all();
}

TEST_F(Families, AModelThatNoOracleKnowsLeavesForwardOpen) {
  const Ended ended =
      forward_with(R"("computes_like": "glm4_moe")", R"("computes_like": "nobody_knows_this")");
  EXPECT_EQ(ended.code, 3) << ended.all();
  EXPECT_NE(ended.all().find("nobody_knows_this"), std::string::npos);
}

TEST_F(Families, ANameThatABuiltInFamilyHasIsRefused) {
  for (const auto& [from, to] : std::map<std::string, std::string>{
           {R"("family": "lumen_moe")", R"("family": "llama")"},
           {R"(["LumenMoeForCausalLM"])", R"(["LlamaForCausalLM"])"},
           {R"("model_types": ["lumen_moe"])", R"("model_types": ["llama"])"}}) {
    write(replaced(family_of_howto(), from, to));
    const Ended ended = check();
    EXPECT_EQ(ended.code, 5) << to << ended.all();
    EXPECT_NE(ended.all().find("llama.json"), std::string::npos) << ended.all();
    EXPECT_NE(ended.all().find("lumen_moe.json"), std::string::npos) << ended.all();
  }
}

TEST_F(Families, FilesAreCheckedAsBuiltInOnesAre) {
  write(replaced(family_of_howto(), R"("use": ["embedding"])", R"("use": ["embeding"])"));
  const Ended typo = check();
  EXPECT_EQ(typo.code, 5) << typo.all();
  EXPECT_NE(typo.all().find("perhaps \"embedding\""), std::string::npos) << typo.all();
  write("{\"schema\": ");
  const Ended cut = check();
  EXPECT_EQ(cut.code, 5) << cut.all();
  EXPECT_NE(cut.all().find("lumen_moe.json:1:"), std::string::npos) << cut.all();
}

TEST_F(Families, AFolderWithoutFamiliesIsRefused) {
  for (const std::string& folder : {folder_ / "nowhere", folder_ / "lumen/model.safetensors"}) {
    const Ended ended = run({"check", "--model", folder_ / "lumen", "--families", folder});
    EXPECT_EQ(ended.code, 5) << ended.all();
    EXPECT_NE(ended.all().find(folder), std::string::npos) << ended.all();
  }
}

TEST_F(Families, ATableOfTheFolderServesItsFamilies) {
  const std::string table =
      R"({"rules": [{"kind": "replicated", "megatron": "{M}decoder.final_layernorm.weight",
    "hf": "{HF}norm.weight", "rest": ["hidden_size"]}]})";
  fs::create_directories(folder_.path() / "families/tables");
  write_text(folder_.path() / "families/tables/lumen_norm.json", table);
  write(replaced(family_of_howto(), R"("use": ["final_norm"])", R"("use": ["lumen_norm"])"));
  const Ended ended = check({"--only", "names,shapes,coverage,inverse,placement"});
  EXPECT_EQ(ended.code, 0) << ended.all();
}

/// Biases and norms that the config of a family may ask for, though its published models have none.
TEST(FamilyBiases, AreConvertedWhereTheConfigHasThem) {
  for (const auto& [fixture, field] : std::initializer_list<std::pair<const char*, const char*>>{
           {"bailing_moe_v2", "use_bias"},
           {"bailing_moe_v2", "use_qkv_bias"},
           {"dots1", "attention_bias"},
           {"ernie4_5", "use_bias"},
           {"falcon_h1", "attention_bias"},
           {"falcon_h1", "mlp_bias"},
           {"flex_olmo", "attention_bias"},
           {"gemma", "attention_bias"},
           {"gemma2", "attention_bias"},
           {"gemma3_text", "attention_bias"},
           {"gemma4", "text_config.attention_bias"},
           {"gemma4_text", "attention_bias"},
           {"hy_v3", "attention_bias"},
           {"mimo_v2_flash", "attention_bias"},
           {"nemotron", "attention_bias"},
           {"nemotron", "mlp_bias"},
           {"nemotron_nas", "attention_bias"},
           {"nemotron_nas", "mlp_bias"},
           {"olmo2", "attention_bias"},
           {"olmo3", "attention_bias"},
           {"olmoe", "attention_bias"},
           {"phi", "qk_layernorm"},
           {"qwen3_5", "attention_bias"},
           {"qwen3_5_moe", "attention_bias"},
           {"qwen3_next", "attention_bias"},
           {"sarvam_moe", "use_qkv_bias"},
           {"seed_oss", "mlp_bias"},
           {"smollm3", "attention_bias"},
           {"smollm3", "mlp_bias"},
           {"vaultgemma", "attention_bias"}}) {
    SCOPED_TRACE(fixture);
    const TempFolder folder;
    const std::string model = folder / "m";
    ASSERT_EQ(
        run({"fixture", "make", fixture, "--out", model, "--set", std::string(field) + "=true"})
            .code,
        0);
    const auto tensors = read_tensors(model);
    EXPECT_TRUE(std::any_of(tensors.begin(), tensors.end(), [](const auto& one) {
      return one.first.ends_with("_proj.bias") || one.first.ends_with("dense.bias") ||
             one.first.ends_with("query_key_value.bias") || one.first.ends_with("layernorm.bias");
    }));
    const Ended ended = run({"roundtrip", "--model", model, "--layout", "tp2pp1ep1etp1"});
    EXPECT_EQ(ended.code, 0) << ended.all();
    const Ended without = run({"check", "--model", model, "--set", std::string(field) + "=false"});
    EXPECT_EQ(without.code, 1) << without.all();
  }
}

}  // namespace
}  // namespace bv::e2e

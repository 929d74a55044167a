// Many wrong names with one cause are one fault.

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "tests/core/model/resolved.hpp"

namespace bv::model::test {
namespace {

using ::testing::HasSubstr;

TEST(NameGaps, GroupManyMissingExpertsWithCountAndRange) {
  const json config = golden_config("qwen3_moe");
  Headers headers = golden_headers("qwen3_moe");
  for (int e = 1; e < 8; ++e) {
    headers.erase("model.layers.2.mlp.experts." + std::to_string(e) + ".gate_proj.weight");
  }
  const Model model = must(resolve_with(config, headers));
  ASSERT_EQ(model.faults.size(), 1U) << all_faults(model);
  EXPECT_EQ(model.faults[0].code, Code::HfTensorMissing);
  EXPECT_EQ(model.faults[0].subject, "model.layers.2.mlp.experts.1.gate_proj.weight");
  EXPECT_THAT(
      model.faults[0].message,
      HasSubstr("7 HF tensors model.layers.{i}.mlp.experts.{e}.gate_proj.weight are missing "
                "(i 2; e 1-7)"));
  EXPECT_THAT(model.faults[0].message,
              HasSubstr("decoder.layers.2.mlp.experts.linear_fc1.weight1 would keep"));
}

TEST(NameGaps, GroupUnusedTensorsThatDifferInNumbers) {
  Headers headers = golden_headers("llama");
  for (int i = 0; i < 4; ++i) {
    add(headers, "model.layers." + std::to_string(i) + ".self_attn.q_proj.scale", {80});
  }
  const Model model = must(resolve_with(golden_config("llama"), headers));
  ASSERT_EQ(model.faults.size(), 1U) << all_faults(model);
  EXPECT_EQ(model.faults[0].code, Code::HfTensorUnused);
  EXPECT_EQ(
      model.faults[0].message,
      "4 HF tensors model.layers.*.self_attn.q_proj.scale are used by no rule of family llama");
}

TEST(NameGaps, SuggestTheUnusedTensorForARenamedOne) {
  Headers headers = golden_headers("llama");
  headers.erase("model.layers.1.mlp.down_proj.weight");
  add(headers, "model.layers.1.mlp.down_prj.weight", {24, 36});
  const Model model = must(resolve_with(golden_config("llama"), headers));
  ASSERT_EQ(model.faults.size(), 2U) << all_faults(model);
  EXPECT_EQ(model.faults[0].subject, "model.layers.1.mlp.down_prj.weight");
  EXPECT_EQ(model.faults[1].subject, "model.layers.1.mlp.down_proj.weight");
  EXPECT_THAT(model.faults[1].help,
              HasSubstr("model.layers.1.mlp.down_prj.weight, which no rule uses"));
}

TEST(NameGaps, OfAWrongLayerCountAreOneFaultThatNamesTheField) {
  json config = golden_config("llama");
  config["num_hidden_layers"] = 3;
  const Model fewer = must(resolve_with(config, golden_headers("llama")));
  ASSERT_EQ(fewer.faults.size(), 1U) << all_faults(fewer);
  EXPECT_EQ(fewer.faults[0].code, Code::HfTensorUnused);
  EXPECT_EQ(fewer.faults[0].message,
            "layer 3 is too many: 9 HF tensors model.layers.3.*; config.json: num_hidden_layers=3");
  EXPECT_THAT(fewer.faults[0].help, HasSubstr("--set num_hidden_layers=4"));
  config["num_hidden_layers"] = 6;
  const Model more = must(resolve_with(config, golden_headers("llama")));
  ASSERT_EQ(more.faults.size(), 1U) << all_faults(more);
  EXPECT_EQ(more.faults[0].code, Code::HfTensorMissing);
  EXPECT_EQ(more.faults[0].message,
            "layers 4-5 are missing: 18 HF tensors model.layers.*; config.json: "
            "num_hidden_layers=6");
  EXPECT_THAT(more.faults[0].help, HasSubstr("--set num_hidden_layers=4"));
}

TEST(NameGaps, OfAWrongExpertCountAreOneFaultThatNamesTheField) {
  for (const auto& [name, field] :
       std::vector<std::pair<std::string, std::string>>{{"qwen3_moe", "num_local_experts"},
                                                        {"mixtral", "num_local_experts"},
                                                        {"deepseek_v3", "n_routed_experts"},
                                                        {"glm4_moe", "n_routed_experts"},
                                                        {"qwen3_next", "num_experts"}}) {
    for (const int count : {7, 10}) {
      json config = golden_config(name);
      config[field] = count;
      const Model model = must(resolve_with(config, golden_headers(name)));
      ASSERT_EQ(model.faults.size(), 1U) << name << "\n" << all_faults(model);
      EXPECT_THAT(model.faults[0].message,
                  HasSubstr(count == 7 ? "expert 7 is too many" : "experts 8-9 are missing"));
      EXPECT_THAT(model.faults[0].message, HasSubstr(field + "=" + std::to_string(count)));
      EXPECT_THAT(model.faults[0].help, HasSubstr("--set " + field + "=8"));
    }
  }
}

TEST(NameGaps, OfALayerInTheMiddleAreOneFault) {
  Headers headers = golden_headers("llama");
  std::erase_if(headers, [](const auto& row) { return row.first.starts_with("model.layers.1."); });
  const Model model = must(resolve_with(golden_config("llama"), headers));
  ASSERT_EQ(model.faults.size(), 1U) << all_faults(model);
  EXPECT_THAT(model.faults[0].message, HasSubstr("layer 1 is missing: 9 HF tensors"));
  EXPECT_THAT(model.faults[0].help, HasSubstr("every shard of the checkpoint"));
}

TEST(NameGaps, ThatAConditionOfTheConfigRulesOutAreOneFault) {
  json config = golden_config("deepseek_v3");
  config["first_k_dense_replace"] = 2;
  const Model dense = must(resolve_with(config, golden_headers("deepseek_v3")));
  ASSERT_EQ(dense.faults.size(), 1U) << all_faults(dense);
  EXPECT_THAT(dense.faults[0].message, HasSubstr("first_k_dense_replace=2"));
  config = golden_config("qwen3_5_dense");
  config["layer_types"][0] = "full_attention";
  const Model kinds = must(resolve_with(config, golden_headers("qwen3_5_dense")));
  ASSERT_EQ(kinds.faults.size(), 1U) << all_faults(kinds);
  EXPECT_THAT(kinds.faults[0].message, HasSubstr("layer_types"));
  config = golden_config("llama");
  config["attention_bias"] = true;
  const Model bias = must(resolve_with(config, golden_headers("llama")));
  ASSERT_EQ(bias.faults.size(), 1U) << all_faults(bias);
  EXPECT_THAT(bias.faults[0].help, HasSubstr("--set attention_bias=false"));
}

TEST(NameGaps, OfAVisionTowerThatIsNotThereAreOneFault) {
  Headers headers = golden_headers("qwen3_vl");
  std::erase_if(headers, [](const auto& row) { return row.first.starts_with("model.visual."); });
  const Model model = must(resolve_with(golden_config("qwen3_vl"), headers));
  ASSERT_EQ(model.faults.size(), 1U) << all_faults(model);
  EXPECT_THAT(model.faults[0].message, HasSubstr("the checkpoint holds no model.visual.*"));
}

TEST(NameGaps, OfAnEmptyOrForeignCheckpointAreOneFault) {
  const Model empty = must(resolve_with(golden_config("llama"), {}));
  ASSERT_EQ(empty.faults.size(), 1U) << all_faults(empty);
  EXPECT_EQ(empty.faults[0].message, "the checkpoint holds no tensor");
  Headers headers;
  add(headers, "encoder.block.0.layer.0.SelfAttention.q.weight");
  add(headers, "shared.weight");
  const Model foreign = must(resolve_with(golden_config("llama"), headers));
  ASSERT_EQ(foreign.faults.size(), 1U) << all_faults(foreign);
  EXPECT_EQ(foreign.faults[0].message,
            "none of the 2 HF tensors has a name that family llama knows");
}

}  // namespace
}  // namespace bv::model::test

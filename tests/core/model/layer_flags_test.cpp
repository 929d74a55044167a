#include <gtest/gtest.h>

#include "tests/core/model/geometry_of.hpp"

namespace bv::model::test {
namespace {

std::string linear_layers(const json& config) {
  const auto geometry = geometry_of(config);
  std::string text;
  for (const auto& flags : geometry->layer_flags) {
    text += flags.contains("linear") ? 'l' : 'f';
  }
  return text;
}

TEST(LayerFlags, ComeFromTheListBeforeTheInterval) {
  json config = golden_config("qwen3_5_dense");
  config["layer_types"] = {"full_attention", "linear_attention", "linear_attention",
                           "full_attention"};
  EXPECT_EQ(linear_layers(config), "fllf");
  config.erase("layer_types");
  config["full_attention_interval"] = 2;
  EXPECT_EQ(linear_layers(config), "lflf");
  config.erase("full_attention_interval");
  EXPECT_EQ(linear_layers(config), "lllf");
}

TEST(LayerFlags, RefuseAListOfTheWrongLength) {
  json config = golden_config("qwen3_5_dense");
  config["layer_types"] = {"full_attention", "linear_attention"};
  const Error error = refusal(config);
  EXPECT_EQ(error.code, Code::ConfigField);
  EXPECT_EQ(error.message, "config.json layer_types has 2 entries for 4 layers");
}

TEST(LayerFlags, RefuseALayerKindWithoutRules) {
  json config = golden_config("qwen3_5_dense");
  config["layer_types"][1] = "mamba";
  EXPECT_EQ(refusal(config).message,
            "config.json layer_types names the layer kind \"mamba\" at entry 1");
  config["layer_types"][1] = 3;
  EXPECT_EQ(refusal(config).code, Code::ConfigField);
  config["layer_types"] = "linear_attention";
  EXPECT_EQ(refusal(config).code, Code::ConfigField);
}

/// 'F' for each layer of GLM-5 that has an indexer of its own, 'S' for one that shares.
std::string indexers(const json& config) {
  const auto geometry = geometry_of(config);
  std::string text = geometry ? "" : geometry.error().message;
  for (const auto& flags : geometry ? geometry->layer_flags : decltype(geometry->layer_flags)()) {
    text += flags.contains("indexer") ? 'F' : 'S';
  }
  return text;
}

/// The letters are what GlmMoeDsaConfig of transformers 5.12.1 makes of the same fields.
TEST(LayerFlags, ComeFromAListFromLettersOrFromAScheduleInThisOrder) {
  json config = golden_config("glm_moe_dsa");
  config["num_hidden_layers"] = 6;
  config.erase("mlp_layer_types");
  config["indexer_types"] = {"full", "shared", "shared", "full", "full", "shared"};
  config["index_topk_pattern"] = "FSFSSF";
  EXPECT_EQ(indexers(config), "FSSFFS");
  config.erase("indexer_types");
  EXPECT_EQ(indexers(config), "FSFSSF");
  config["index_topk_pattern"] = nullptr;
  config["index_topk_freq"] = 3;
  config["index_skip_topk_offset"] = 2;
  EXPECT_EQ(indexers(config), "FFSSFS");
  config["index_skip_topk_offset"] = 0;
  EXPECT_EQ(indexers(config), "SSFSSF");
  config["index_topk_freq"] = 2;
  config.erase("index_skip_topk_offset");
  EXPECT_EQ(indexers(config), "FFSFSF");
  config.erase("index_topk_freq");
  EXPECT_EQ(indexers(config), "FFFFFF");
}

/// The layers are those that is_dsa_skip_topk_layer of Megatron-Core 0.19.2 takes an indexer from.
TEST(LayerFlags, AScheduleAloneCountsFromALeastDistance) {
  const std::vector<std::tuple<int, int, std::string>> cases = {
      {1, 0, "BBBBBB"}, {2, 0, "B-B-B-"}, {2, 1, "B-B-B-"}, {2, 2, "BB-B-B"},
      {3, 0, "B--B--"}, {3, 2, "BB--B-"}, {3, 3, "BBB--B"}, {4, 9, "BBBBBB"}};
  for (const auto& [every, after, wanted] : cases) {
    json config = golden_config("glm_moe_dsa");
    config["num_hidden_layers"] = 6;
    config.erase("mlp_layer_types");
    config["indexer_types"] = {"full", "shared", "shared", "full", "full", "shared"};
    config["index_topk_freq"] = every;
    config["index_skip_topk_offset"] = after;
    const auto geometry = geometry_of(config);
    ASSERT_TRUE(geometry) << geometry.error().message;
    std::string built;
    for (const auto& flags : geometry->layer_flags) {
      built += flags.contains("indexer_built") ? 'B' : '-';
    }
    EXPECT_EQ(built, wanted) << every << " " << after;
  }
}

TEST(LayerFlags, RefuseLettersAndSchedulesThatSayNothingOfTheLayers) {
  json config = golden_config("glm_moe_dsa");
  config.erase("indexer_types");
  config["index_topk_pattern"] = "FSF";
  EXPECT_EQ(refusal(config).message, "config.json index_topk_pattern has 3 entries for 4 layers");
  config["index_topk_pattern"] = "FSXF";
  EXPECT_EQ(refusal(config).message,
            "config.json index_topk_pattern names the layer kind \"X\" at entry 2");
  config["index_topk_pattern"] = 3;
  EXPECT_EQ(refusal(config).code, Code::ConfigField);
  config.erase("index_topk_pattern");
  config["index_topk_freq"] = 0;
  EXPECT_EQ(refusal(config).code, Code::ConfigField);
  config["index_topk_freq"] = 2;
  config["index_skip_topk_offset"] = -1;
  EXPECT_EQ(refusal(config).code, Code::ConfigField);
}

TEST(LayerFlags, TakeTheListBeforeTheFirstLayers) {
  json config = golden_config("glm_moe_dsa");
  config["mlp_layer_types"] = {"sparse", "dense", "sparse", "dense"};
  EXPECT_EQ(geometry_of(config)->layer_flags[0].contains("dense"), false);
  EXPECT_EQ(geometry_of(config)->layer_flags[3].contains("dense"), true);
  config.erase("mlp_layer_types");
  EXPECT_EQ(geometry_of(config)->layer_flags[0].contains("dense"), true);
  EXPECT_EQ(geometry_of(config)->layer_flags[3].contains("dense"), false);
}

TEST(LayerFlags, RefuseAnIntervalBelowOne) {
  json config = golden_config("qwen3_5_dense");
  config.erase("layer_types");
  config["full_attention_interval"] = 0;
  EXPECT_EQ(refusal(config).code, Code::ConfigField);
}

TEST(LayerFlags, TakeDenseLayersByNumberAndByStep) {
  json config = golden_config("qwen3_moe");
  config["mlp_only_layers"] = {2};
  config["decoder_sparse_step"] = 2;
  const auto geometry = geometry_of(config);
  ASSERT_TRUE(geometry) << geometry.error().message;
  EXPECT_TRUE(geometry->layer_flags[0].contains("dense"));
  EXPECT_FALSE(geometry->layer_flags[1].contains("dense"));
  EXPECT_TRUE(geometry->layer_flags[2].contains("dense"));
  config["mlp_only_layers"] = {4};
  EXPECT_EQ(refusal(config).code, Code::ConfigField);
}

TEST(LayerFlags, TakeTheFirstLayersAsDense) {
  const auto geometry = geometry_of(golden_config("deepseek_v3"));
  EXPECT_TRUE(geometry->layer_flags[0].contains("dense"));
  EXPECT_FALSE(geometry->layer_flags[1].contains("dense"));
  json config = golden_config("deepseek_v3");
  config.erase("first_k_dense_replace");
  EXPECT_EQ(geometry_of(config)->at("first_k_dense_replace"), 3);
}

/// 'E' for each layer of ERNIE 4.5 that has experts, 'D' for a dense one.
std::string experts(std::int64_t layers, const json& more) {
  json config = {{"model_type", "ernie4_5_moe"}, {"num_hidden_layers", layers}};
  config.update(more);
  const auto geometry = geometry_of(config);
  std::string text = geometry ? "" : geometry.error().message;
  for (const auto& flags : geometry ? geometry->layer_flags : decltype(geometry->layer_flags)()) {
    text += flags.contains("dense") ? 'D' : 'E';
  }
  return text;
}

/// The letters are what Ernie4_5_MoeDecoderLayer of transformers 5.12.1 makes of the same fields.
TEST(LayerFlags, ComeFromEdgesAndFromAnIntervalBetweenThem) {
  EXPECT_EQ(experts(5, json::object()), "DEEEE");
  EXPECT_EQ(experts(5, {{"moe_layer_start_index", 2}, {"moe_layer_end_index", -1}}), "DDEEE");
  EXPECT_EQ(experts(5, {{"moe_layer_end_index", 2}}), "DEEDD");
  EXPECT_EQ(experts(5, {{"moe_layer_end_index", 9}}), "DEEEE");
  EXPECT_EQ(experts(6, {{"moe_layer_interval", 2}, {"moe_layer_end_index", 4}}), "DEDEDD");
  EXPECT_EQ(experts(6, {{"moe_layer_interval", 3}, {"moe_layer_start_index", 0}}), "DDEDDE");
  EXPECT_NE(experts(2, {{"moe_layer_end_index", nullptr}}), "DE");  // refused, as by the class
}

}  // namespace
}  // namespace bv::model::test

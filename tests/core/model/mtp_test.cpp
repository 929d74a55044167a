#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "tests/core/model/resolved.hpp"

namespace bv::model::test {
namespace {

using ::testing::HasSubstr;

TEST(Mtp, WithoutTensorsAsksForDropMtp) {
  json config = golden_config("qwen3_5_dense");
  config["mtp_num_hidden_layers"] = 1;
  const Model model = must(resolve_with(config, golden_headers("qwen3_5_dense")));
  ASSERT_EQ(model.faults.size(), 1U) << all_faults(model);
  EXPECT_EQ(model.faults[0].code, Code::HfTensorMissing);
  EXPECT_THAT(model.faults[0].help, HasSubstr("--drop-mtp"));
  ResolveOptions options;
  options.drop_mtp = true;
  const Model dropped = must(resolve_with(config, golden_headers("qwen3_5_dense"), options));
  EXPECT_TRUE(dropped.faults.empty()) << all_faults(dropped);
  EXPECT_EQ(dropped.mtp_layers, 0);
}

TEST(Mtp, ThatIsDroppedListsItsTensors) {
  ResolveOptions options;
  options.drop_mtp = true;
  const Model model = must(resolve_golden("qwen3_5_dense_mtp", options));
  EXPECT_TRUE(model.faults.empty()) << all_faults(model);
  EXPECT_EQ(model.dropped.size(), 15U);
  EXPECT_EQ(model.mtp_layers, 0);
  EXPECT_EQ(model.geometry.at("mtp_num_layers"), 0);
  EXPECT_EQ(must(resolve_golden("qwen3_5_dense_mtp")).mtp_layers, 1);
}

TEST(Mtp, TensorsThatTheConfigDeniesAreOneFault) {
  json config = golden_config("qwen3_5_dense_mtp");
  config["mtp_num_hidden_layers"] = 0;
  const Model model = must(resolve_with(config, golden_headers("qwen3_5_dense_mtp")));
  ASSERT_EQ(model.faults.size(), 1U) << all_faults(model);
  EXPECT_EQ(model.faults[0].code, Code::HfTensorUnused);
  EXPECT_EQ(model.faults[0].message,
            "the checkpoint holds 1 MTP layer (15 HF tensors mtp.*), but config.json counts 0 "
            "(mtp_num_hidden_layers=0)");
  EXPECT_EQ(model.faults[0].help,
            "say so: --set mtp_num_hidden_layers=1, or leave the MTP layers out with --drop-mtp");
}

TEST(Mtp, OtherLayersAreNotTakenForIt) {
  ResolveOptions options;
  options.drop_mtp = true;
  json config = golden_config("deepseek_v3");
  config["num_hidden_layers"] = 2;  // layer 2 is a decoder layer, wherever the config ends
  const Model model = must(resolve_with(config, golden_headers("deepseek_v3"), options));
  EXPECT_TRUE(model.dropped.empty());
  ASSERT_EQ(model.faults.size(), 1U) << all_faults(model);
  EXPECT_THAT(model.faults[0].message, HasSubstr("layer 2 is too many"));
  const Model without = must(resolve_golden("llama", options));
  EXPECT_TRUE(without.dropped.empty());
  EXPECT_TRUE(without.faults.empty());
}

TEST(Mtp, BehindOtherDecoderLayersThanTheConfigCountsIsOneFault) {
  for (const int layers : {2, 5}) {
    json config = golden_config("deepseek_v3");
    config["num_nextn_predict_layers"] = 1;
    const Headers headers = wanted_headers(from_config(config));
    config["num_hidden_layers"] = layers;
    const Model model = must(resolve_with(config, headers));
    ASSERT_EQ(model.faults.size(), 1U) << layers << "\n" << all_faults(model);
    EXPECT_THAT(model.faults[0].message, HasSubstr("the first MTP layer"));
    EXPECT_THAT(model.faults[0].message, HasSubstr("num_hidden_layers=" + std::to_string(layers)));
    EXPECT_THAT(model.faults[0].help, HasSubstr("--set num_hidden_layers=3"));
  }
}

TEST(Mtp, IsCountedInTheNamesWhereTheConfigIsSilent) {
  json config = golden_config("qwen3_5_dense_mtp");
  config.erase("mtp_num_hidden_layers");
  const Model model = must(resolve_with(config, golden_headers("qwen3_5_dense_mtp")));
  EXPECT_TRUE(model.faults.empty()) << all_faults(model);
  EXPECT_EQ(model.mtp_layers, 1);
}

TEST(Mtp, BehindTheLastLayerHasSharedCopies) {
  json config = golden_config("deepseek_v3");
  config["num_nextn_predict_layers"] = 1;
  Headers headers = wanted_headers(from_config(config));
  EXPECT_TRUE(headers.contains("model.layers.3.eh_proj.weight"));
  EXPECT_TRUE(headers.contains("model.layers.3.shared_head.norm.weight"));
  add(headers, "model.layers.3.embed_tokens.weight");
  add(headers, "model.layers.3.shared_head.head.weight");
  const Model model = must(resolve_with(config, headers));
  EXPECT_TRUE(model.faults.empty()) << all_faults(model);
  ASSERT_EQ(model.must_equal.size(), 2U);
  EXPECT_EQ(model.must_equal[0].second, "model.embed_tokens.weight");
  EXPECT_EQ(model.must_equal[1].second, "lm_head.weight");
  const Mapping* experts =
      mapping_of(model, "mtp.layers.0.mtp_model_layer.mlp.experts.linear_fc1.weight7");
  ASSERT_NE(experts, nullptr);
  EXPECT_EQ(experts->hf[0], "model.layers.3.mlp.experts.7.gate_proj.weight");
}

TEST(Mtp, BehindTheLastLayerIsDroppedWhole) {
  json config = golden_config("glm4_moe");
  config["num_nextn_predict_layers"] = 2;
  const Headers headers = wanted_headers(from_config(config));
  config["num_nextn_predict_layers"] = 1;  // one layer more in the file than the config says
  ResolveOptions options;
  options.drop_mtp = true;
  const Model model = must(resolve_with(config, headers, options));
  EXPECT_TRUE(model.faults.empty()) << all_faults(model);
  EXPECT_EQ(model.dropped.size(), headers.size() - golden_headers("glm4_moe").size());
  EXPECT_FALSE(must(resolve_with(config, headers)).faults.empty());
}

}  // namespace
}  // namespace bv::model::test

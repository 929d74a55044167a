#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <chrono>

#include "core/family/family.hpp"
#include "core/model/resolve.hpp"
#include "tests/core/model/resolved.hpp"

namespace bv::model::test {
namespace {

using ::testing::HasSubstr;

TEST(Names, EscapeWhatAnUntrustedHeaderHolds) {
  Headers headers = golden_headers("llama");
  add(headers, "evil\n\x1b[31mname");
  const Model model = must(resolve_with(golden_config("llama"), headers));
  ASSERT_EQ(model.faults.size(), 1U);
  EXPECT_EQ(model.faults[0].message.find('\n'), std::string::npos);
  EXPECT_EQ(model.faults[0].message.find('\x1b'), std::string::npos);
}

TEST(Names, AreNotCheckedForAConfigAlone) {
  EXPECT_TRUE(from_config(golden_config("llama")).faults.empty());
}

TEST(Names, OfBuffersAreIgnoredInEveryFamily) {
  for (const std::string& name : golden_cases()) {
    Headers headers = golden_headers(name);
    const std::string layer = must(resolve_golden(name)).prefixes.at("HF") + "layers.0.";
    add(headers, layer + "self_attn.rotary_emb.inv_freq", {5});
    add(headers, layer + "self_attn.masked_bias", {});
    add(headers, layer + "self_attn.bias", {1, 1, 8, 8});
    const Model model = must(resolve_with(golden_config(name), headers));
    EXPECT_TRUE(model.faults.empty()) << name << "\n" << all_faults(model);
    EXPECT_EQ(model.ignored,
              (std::vector<std::string>{layer + "self_attn.bias", layer + "self_attn.masked_bias",
                                        layer + "self_attn.rotary_emb.inv_freq"}))
        << name;
    EXPECT_EQ(detected(model, "ignored"), "3");
  }
}

TEST(Names, OfABiasAreNotThoseOfABuffer) {
  Headers headers = golden_headers("llama");
  add(headers, "model.layers.0.self_attn.bias", {80});
  const Model model = must(resolve_with(golden_config("llama"), headers));
  ASSERT_EQ(model.faults.size(), 1U) << all_faults(model);
  EXPECT_EQ(model.faults[0].subject, "model.layers.0.self_attn.bias");
}

TEST(Names, ExplainQuantisedStorage) {
  Headers headers = golden_headers("deepseek_v3");
  add(headers, "model.layers.0.self_attn.o_proj.weight_scale_inv", {1, 1});
  const Model model = must(resolve_with(golden_config("deepseek_v3"), headers));
  ASSERT_EQ(model.faults.size(), 1U) << all_faults(model);
  EXPECT_THAT(model.faults[0].message, HasSubstr("FP8"));
  EXPECT_THAT(model.faults[0].help, HasSubstr("dequantise"));
}

TEST(Names, OfFaultsAreBounded) {
  Headers headers = golden_headers("llama");
  for (int i = 0; i < 5000; ++i) {
    add(headers, "x" + std::string(1, static_cast<char>('a' + i % 26)) +
                     std::string(static_cast<std::size_t>(i / 26), 'y'));
  }
  EXPECT_EQ(must(resolve_with(golden_config("llama"), headers)).faults.size(), 1000U);
}

TEST(Tied, HaveNoOutputRule) {
  const Model model = must(resolve_golden("qwen3"));
  EXPECT_TRUE(model.tied);
  EXPECT_EQ(mapping_of(model, "output_layer.weight"), nullptr);
  EXPECT_NE(mapping_of(must(resolve_golden("llama")), "output_layer.weight"), nullptr);
}

TEST(Tied, AcceptAStoredHeadThatMustEqualTheEmbedding) {
  Headers headers = golden_headers("qwen3");
  add(headers, "lm_head.weight", {131, 24});
  const Model model = must(resolve_with(golden_config("qwen3"), headers));
  EXPECT_TRUE(model.faults.empty()) << all_faults(model);
  ASSERT_EQ(model.must_equal.size(), 1U);
  EXPECT_EQ(model.must_equal[0],
            (std::pair<std::string, std::string>{"lm_head.weight", "model.embed_tokens.weight"}));
  EXPECT_EQ(model.ignored, std::vector<std::string>{"lm_head.weight"});
  EXPECT_EQ(detected(model, "stored_copy"), "lm_head.weight");
}

TEST(Tied, FlagIsMissedWhenTheHeadIs) {
  Headers headers = golden_headers("llama");
  headers.erase("lm_head.weight");
  const Model model = must(resolve_with(golden_config("llama"), headers));
  ASSERT_EQ(model.faults.size(), 1U);
  EXPECT_EQ(model.faults[0].subject, "lm_head.weight");
}

TEST(Latent, QueriesWithoutLowRankUseOneProjection) {
  json config = golden_config("deepseek_v3");
  config["q_lora_rank"] = nullptr;
  const Model model = from_config(config);
  const Mapping* direct = mapping_of(model, "decoder.layers.0.self_attention.linear_q_proj.weight");
  ASSERT_NE(direct, nullptr);
  EXPECT_EQ(direct->hf, std::vector<std::string>{"model.layers.0.self_attn.q_proj.weight"});
  EXPECT_EQ(mapping_of(model, "decoder.layers.0.self_attention.linear_q_down_proj.weight"),
            nullptr);
  EXPECT_EQ(mapping_of(must(resolve_golden("deepseek_v3")),
                       "decoder.layers.0.self_attention.linear_q_proj.weight"),
            nullptr);
}

TEST(Spelling, WithoutTransformerEngineNamesTheNormsPlainly) {
  ResolveOptions options;
  options.spelling.transformer_engine = false;
  const Model model = must(resolve_golden("qwen3_5_dense_mtp", options));
  const std::set<std::string> names = megatron_names(model);
  for (const char* name :
       {"decoder.layers.0.input_layernorm.weight", "decoder.layers.3.input_layernorm.weight",
        "decoder.layers.0.pre_mlp_layernorm.weight",
        "mtp.layers.0.mtp_model_layer.input_layernorm.weight"}) {
    EXPECT_TRUE(names.contains(name)) << name;
  }
  for (const std::string& name : names) {
    EXPECT_EQ(name.find("layer_norm_weight"), std::string::npos) << name;
  }
}

TEST(Spelling, OfSequentialExpertsCountsThemInTheModule) {
  ResolveOptions options;
  options.spelling.grouped_experts = false;
  const Model model = must(resolve_golden("qwen3_5_vl_moe_mtp_packed", options));
  const std::set<std::string> names = megatron_names(model);
  EXPECT_TRUE(names.contains(
      "language_model.decoder.layers.0.mlp.experts.local_experts.7.linear_fc1.weight"));
  EXPECT_TRUE(names.contains(
      "language_model.mtp.layers.0.mtp_model_layer.mlp.experts.local_experts.7.linear_fc2.weight"));
}

TEST(LocalName, CountsFromTheStageAndTheExpertRank) {
  const Model model = must(resolve_golden("qwen3_moe"));
  const Mapping* mapping = mapping_of(model, "decoder.layers.3.mlp.experts.linear_fc1.weight6");
  ASSERT_NE(mapping, nullptr);
  EXPECT_EQ(model.local_name(*mapping, 1, 2), "decoder.layers.1.mlp.experts.linear_fc1.weight2");
}

TEST(Constraints, AreThoseOfTheRulesInUse) {
  const auto codes = [](const std::string& name) {
    std::set<std::string> out;
    for (const family::Constraint& constraint : must(resolve_golden(name)).constraints) {
      out.insert(constraint.code);
    }
    return out;
  };
  EXPECT_EQ(codes("llama"),
            (std::set<std::string>{"E010", "E011", "E013", "E014", "E018", "E023"}));
  EXPECT_EQ(codes("qwen3_5_vl_moe_mtp_packed"),
            (std::set<std::string>{"E010", "E011", "E013", "E015", "E016", "E017", "E019", "E020",
                                   "E022", "E023", "E025"}));
  EXPECT_FALSE(codes("qwen3_5_token_cls").contains("E025"));
}

TEST(Constraints, EvaluateOverTheGeometry) {
  for (const std::string& name : golden_cases()) {
    const Model model = must(resolve_golden(name));
    for (const family::Constraint& constraint : model.constraints) {
      EXPECT_TRUE(family::evaluate(constraint.dividend, model.geometry.symbols))
          << name << " " << constraint.code;
    }
  }
}

TEST(Ranges, AreShort) {
  EXPECT_EQ(ranges_text({0, 1, 2, 3, 7}), "0-3, 7");
  std::set<std::int64_t> odd;
  for (std::int64_t i = 1; i < 100; i += 2) {
    odd.insert(i);
  }
  EXPECT_EQ(ranges_text(odd), "1, 3, 5, 7, 9, 11, 13, 15, ...");
}

TEST(Resolve, IsFastForAHundredThousandTensors) {
  json config = golden_config("qwen3_next");
  config["num_hidden_layers"] = 64;
  config.erase("layer_types");
  config["num_experts"] = 512;
  const Headers headers = wanted_headers(from_config(config));
  ASSERT_GT(headers.size(), 98000U);
  const auto begin = std::chrono::steady_clock::now();
  const Model model = must(resolve_with(config, headers));
  const std::chrono::duration<double> took = std::chrono::steady_clock::now() - begin;
  EXPECT_TRUE(model.faults.empty()) << all_faults(model);
  RecordProperty("seconds", std::to_string(took.count()));
  EXPECT_LT(took.count(),
            20.0);  // quadratic scans take minutes; sanitizers and busy machines some seconds
}

TEST(Resolve, RefusesToEnumerateAbsurdCounts) {
  json config = golden_config("qwen3_moe");
  config["num_hidden_layers"] = 5;
  config["num_local_experts"] = 1000000;
  const auto model = resolve_with(config, golden_headers("qwen3_moe"));
  ASSERT_FALSE(model);
  EXPECT_EQ(model.error().code, Code::SizeOutOfBounds);
  EXPECT_NE(model.error().message.find("(num_local_experts)"), std::string::npos)
      << model.error().message;
  config["num_hidden_layers"] = 60000;
  config["num_local_experts"] = 4;
  const auto layers = resolve_with(config, golden_headers("qwen3_moe"));
  ASSERT_FALSE(layers);
  EXPECT_NE(layers.error().message.find("(num_hidden_layers)"), std::string::npos)
      << layers.error().message;
}

}  // namespace
}  // namespace bv::model::test

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <chrono>

#include "core/family/family.hpp"
#include "core/model/resolve.hpp"
#include "tests/core/model/sample.hpp"

namespace bv::model::test {
namespace {

using ::testing::HasSubstr;

void add(Headers& headers, const std::string& name, Shape shape = {1}) {
  headers[name] = {name, DType::BF16, std::move(shape)};
}

Model must(Result<Model> model) {
  if (!model) {
    throw std::runtime_error(model.error().message);
  }
  return *std::move(model);
}

std::string detected(const Model& model, const std::string& what) {
  for (const Detected& entry : model.detected) {
    if (entry.what == what) {
      return entry.value;
    }
  }
  return "";
}

const Mapping* mapping_of(const Model& model, const std::string& parameter) {
  for (const Mapping& mapping : model.mappings) {
    if (model.megatron_name(mapping) == parameter) {
      return &mapping;
    }
  }
  return nullptr;
}

TEST(Names, GroupManyMissingExpertsWithCountAndRange) {
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

TEST(Names, GroupUnusedTensorsThatDifferInNumbers) {
  Headers headers = golden_headers("llama");
  for (int i = 0; i < 4; ++i) {
    add(headers, "model.layers." + std::to_string(i) + ".self_attn.q_proj.bias", {80});
  }
  const Model model = must(resolve_with(golden_config("llama"), headers));
  ASSERT_EQ(model.faults.size(), 1U) << all_faults(model);
  EXPECT_EQ(model.faults[0].code, Code::HfTensorUnused);
  EXPECT_EQ(
      model.faults[0].message,
      "4 HF tensors model.layers.*.self_attn.q_proj.bias are used by no rule of family llama");
}

TEST(Names, SuggestTheUnusedTensorForARenamedOne) {
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

TEST(Names, ReportAWrongLayerCountFromBothSides) {
  json config = golden_config("llama");
  config["num_hidden_layers"] = 3;
  const Model fewer = must(resolve_with(config, golden_headers("llama")));
  EXPECT_EQ(fewer.faults.size(), 9U) << all_faults(fewer);
  EXPECT_EQ(fewer.faults[0].code, Code::HfTensorUnused);
  config["num_hidden_layers"] = 5;
  const Model more = must(resolve_with(config, golden_headers("llama")));
  EXPECT_EQ(more.faults.size(), 9U) << all_faults(more);
  EXPECT_EQ(more.faults[0].code, Code::HfTensorMissing);
}

TEST(Names, EscapeWhatAnUntrustedHeaderHolds) {
  Headers headers = golden_headers("llama");
  add(headers, "evil\n\x1b[31mname");
  const Model model = must(resolve_with(golden_config("llama"), headers));
  ASSERT_EQ(model.faults.size(), 1U);
  EXPECT_EQ(model.faults[0].message.find('\n'), std::string::npos);
  EXPECT_EQ(model.faults[0].message.find('\x1b'), std::string::npos);
}

TEST(Names, OfAnEmptyCheckpointAreAllMissing) {
  const Model model = must(resolve_with(golden_config("llama"), {}));
  EXPECT_EQ(model.faults.size(), 12U)
      << all_faults(model);  // nine of a layer, embedding, norm and head
}

TEST(Names, AreNotCheckedForAConfigAlone) {
  EXPECT_TRUE(from_config(golden_config("llama")).faults.empty());
}

TEST(Names, LetAllowedBuffersStayUnused) {
  Headers headers = golden_headers("llama");
  add(headers, "model.layers.0.self_attn.rotary_emb.inv_freq", {5});
  const Model model = must(resolve_with(golden_config("llama"), headers));
  EXPECT_TRUE(model.faults.empty()) << all_faults(model);
  EXPECT_EQ(model.ignored,
            std::vector<std::string>{"model.layers.0.self_attn.rotary_emb.inv_freq"});
  EXPECT_EQ(detected(model, "ignored"), "1");
  Headers other = golden_headers("qwen2");
  add(other, "model.layers.0.self_attn.rotary_emb.inv_freq", {5});
  EXPECT_EQ(must(resolve_with(golden_config("qwen2"), other)).faults.size(), 1U);
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

TEST(Prefix, ComesFromTheEmbeddingThatIsThere) {
  EXPECT_EQ(must(resolve_golden("qwen3_5_dense")).prefixes.at("HF"), "model.");
  EXPECT_EQ(must(resolve_golden("qwen3_5_dense_from_vl")).prefixes.at("HF"),
            "model.language_model.");
}

TEST(Prefix, ComesFromTheOtherNamesWhenTheEmbeddingIsMissing) {
  Headers headers = golden_headers("qwen3_5_dense_from_vl");
  headers.erase("model.language_model.embed_tokens.weight");
  const Model model = must(resolve_with(golden_config("qwen3_5_dense_from_vl"), headers));
  ASSERT_EQ(model.faults.size(), 1U) << all_faults(model);
  EXPECT_EQ(model.faults[0].subject, "model.language_model.embed_tokens.weight");
}

TEST(Prefix, MustBeUnique) {
  Headers headers = golden_headers("qwen3_5_dense");
  add(headers, "model.language_model.embed_tokens.weight", {131, 24});
  const Model model = must(resolve_with(golden_config("qwen3_5_dense"), headers));
  ASSERT_EQ(model.faults.size(), 2U) << all_faults(model);
  EXPECT_EQ(model.faults[0].code, Code::DuplicateClaim);
  EXPECT_EQ(model.faults[1].code, Code::HfTensorUnused);
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

TEST(Mtp, TensorsThatTheConfigDeniesAreUnused) {
  json config = golden_config("qwen3_5_dense_mtp");
  config["mtp_num_hidden_layers"] = 0;
  const Model model = must(resolve_with(config, golden_headers("qwen3_5_dense_mtp")));
  EXPECT_EQ(model.faults.size(), 15U) << all_faults(model);
  EXPECT_EQ(model.faults[0].code, Code::HfTensorUnused);
  EXPECT_THAT(model.faults[0].help, HasSubstr("--drop-mtp"));
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
  config["num_hidden_layers"] = 60000;
  config["num_local_experts"] = 1000000;
  const auto model = resolve_with(config, golden_headers("qwen3_moe"));
  ASSERT_FALSE(model);
  EXPECT_EQ(model.error().code, Code::ConfigField);
}

}  // namespace
}  // namespace bv::model::test

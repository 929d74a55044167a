#include "core/quantised/quantised.hpp"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <filesystem>
#include <nlohmann/json.hpp>

#include "core/io/checkpoint.hpp"
#include "core/io/headers_dump.hpp"

namespace bv::quantised {
namespace {

namespace fs = std::filesystem;
using nlohmann::json;
using Parameters = std::vector<std::tuple<std::string, DType, Shape>>;

/// Headers of one module, beside a norm that is not quantised.
Headers headers_of(const std::string& module, const Parameters& parameters) {
  Headers out;
  out["model.norm.weight"] = {"model.norm.weight", DType::BF16, {512}};
  for (const auto& [parameter, dtype, shape] : parameters) {
    const std::string name = module + "." + parameter;
    out[name] = {name, dtype, shape};
  }
  return out;
}

struct Row {
  std::string wanted;  // scheme
  Parameters parameters;
  json config = json::object();
  std::string module = "model.layers.0.mlp.up_proj";
};

json said(json value) {
  return {{"quantization_config", std::move(value)}};
}

std::vector<Row> float_schemes() {
  using D = DType;
  return {
      {"FP8 (E4M3) with 128 x 128 block scales",
       {{"weight", D::F8E4M3, {256, 512}}, {"weight_scale_inv", D::F32, {2, 4}}}},
      {"FP8 (E4M3) with 128 x 128 block scales",
       {{"weight", D::F8E4M3, {576, 7168}}, {"weight_scale_inv", D::F32, {5, 56}}},
       said({{"quant_method", "fp8"}, {"weight_block_size", {128, 128}}})},
      {"FP8 (E4M3) with 128 x 128 block scales",  // one block alone
       {{"weight", D::F8E4M3, {64, 24}}, {"weight_scale_inv", D::BF16, {1, 1}}},
       said({{"quant_method", "fp8"}, {"weight_block_size", {128, 128}}})},
      {"FP8 (E4M3) with a per-tensor scale",
       {{"weight", D::F8E4M3, {64, 24}},
        {"weight_scale", D::F32, {}},
        {"input_scale", D::F32, {}}}},
      {"FP8 (E5M2) with per-channel scales",
       {{"weight", D::F8E5M2, {64, 24}}, {"weight_scale", D::BF16, {64, 1}}}},
      {"FP8 (E4M3) with per-channel scales",  // packed experts
       {{"gate_up_proj", D::F8E4M3, {8, 64, 24}}, {"gate_up_proj_scale", D::F32, {8, 64, 1}}},
       json::object(),
       "model.layers.0.mlp.experts"},
      {"MXFP8 with scales of 32 values each",
       {{"weight", D::F8E4M3, {64, 96}}, {"weight_scale", D::U8, {64, 3}}}},
      {"MXFP8 with block scales",  // DeepSeek-V4
       {{"weight", D::F8E4M3, {256, 512}}, {"scale", D::F8E8M0, {2, 4}}}},
      {"NVFP4",
       {{"weight", D::U8, {64, 12}},
        {"weight_scale", D::F8E4M3, {64, 2}},
        {"weight_scale_2", D::F32, {}},
        {"input_scale", D::F32, {}}}},
      {"NVFP4 (compressed-tensors)",
       {{"weight_packed", D::U8, {64, 12}},
        {"weight_scale", D::F8E4M3, {64, 2}},
        {"weight_global_scale", D::F32, {1}}}},
      {"MXFP4 (blocks and scales)",
       {{"gate_up_proj_blocks", D::U8, {32, 5760, 90, 16}},
        {"gate_up_proj_scales", D::U8, {32, 5760, 90}},
        {"gate_up_proj_bias", D::BF16, {32, 5760}}},
       json::object(),
       "model.layers.0.mlp.experts"},
      {"MXFP4", {{"weight", D::I8, {64, 48}}, {"scale", D::F8E8M0, {64, 3}}}},
  };
}

std::vector<Row> integer_schemes() {
  using D = DType;
  return {
      {"GPTQ INT4",
       {{"qweight", D::I32, {8, 24}},
        {"qzeros", D::I32, {1, 3}},
        {"scales", D::F16, {1, 24}},
        {"g_idx", D::I32, {64}}}},
      {"GPTQ INT8",
       {{"qweight", D::I32, {16, 24}}, {"scales", D::F16, {1, 24}}, {"g_idx", D::I32, {64}}}},
      {"AWQ INT4",
       {{"qweight", D::I32, {64, 3}}, {"qzeros", D::I32, {1, 3}}, {"scales", D::F16, {1, 24}}}},
      {"compressed-tensors packed integers INT4",
       {{"weight_packed", D::I32, {64, 3}},
        {"weight_scale", D::BF16, {64, 1}},
        {"weight_shape", D::I64, {2}}},
       said({{"quant_method", "compressed-tensors"},
             {"config_groups", {{"group_0", {{"weights", {{"num_bits", 4}}}}}}}})},
      {"INT8 with per-channel scales",  // EETQ
       {{"weight", D::I8, {64, 24}}, {"weight_scales", D::F16, {64}}}},
      {"bitsandbytes 4-bit (NF4)",
       {{"weight", D::U8, {768, 1}},
        {"weight.absmax", D::U8, {24}},
        {"weight.nested_absmax", D::F32, {1}},
        {"weight.quant_map", D::F32, {16}},
        {"weight.quant_state.bitsandbytes__nf4", D::U8, {90}}}},
      {"bitsandbytes 8-bit",
       {{"weight", D::I8, {64, 24}}, {"SCB", D::F32, {64}}, {"weight_format", D::U8, {}}}},
      {"MLX (scales and biases)",
       {{"weight", D::U32, {64, 3}}, {"scales", D::BF16, {64, 1}}, {"biases", D::BF16, {64, 1}}}},
      {"HQQ",
       {{"W_q", D::U8, {32, 24}},
        {"scale", D::F16, {64, 1}},
        {"zero", D::F16, {64, 1}},
        {"nbits", D::I32, {}},
        {"shape", D::I32, {2}}}},
      {"optimum-quanto", {{"weight._data", D::I8, {64, 24}}, {"weight._scale", D::BF16, {64, 1}}}},
      {"torchao", {{"_weight_qdata", D::I8, {64, 24}}, {"_weight_scale", D::BF16, {64, 1}}}},
      {"sparse-24-bitmask (compressed-tensors)",
       {{"compressed", D::BF16, {64, 12}}, {"bitmask", D::U8, {64, 3}}, {"shape", D::I64, {2}}},
       said({{"quant_method", "compressed-tensors"},
             {"sparsity_config", {{"format", "sparse-24-bitmask"}}}})},
      {"sparse numbers beside a bitmask (compressed-tensors)",
       {{"compressed", D::F8E4M3, {768}},
        {"bitmask", D::U8, {64, 3}},
        {"row_offsets", D::I64, {64}},
        {"shape", D::I64, {2}},
        {"weight_scale", D::BF16, {64, 1}}}},
      {"EXL3", {{"trellis", D::I16, {4, 2, 64}}, {"suh", D::F16, {64}}, {"svh", D::F16, {24}}}},
      {"I16 values with companion tensors",  // nobody's scheme: recognised by its companions
       {{"weight", D::I16, {64, 24}}, {"weight_codebook", D::F16, {256}}}},
      {"I16 values of aqlm",
       {{"codes", D::I16, {64, 3, 1}}, {"codebooks", D::F16, {1, 256, 1, 8}}},
       said({{"quant_method", "aqlm"}})},
  };
}

std::vector<Row> schemes() {
  std::vector<Row> out = float_schemes();
  for (Row& row : integer_schemes()) {
    out.push_back(std::move(row));
  }
  return out;
}

TEST(Quantised, EverySchemeIsRecognisedFromNamesDtypesAndShapes) {
  for (const Row& row : schemes()) {
    const Headers headers = headers_of(row.module, row.parameters);
    const auto source = find(headers, row.config);
    ASSERT_TRUE(source.has_value()) << row.wanted;
    ASSERT_EQ(source->groups.size(), 1U) << row.wanted;
    EXPECT_EQ(source->groups[0].scheme, row.wanted);
    EXPECT_EQ(source->groups[0].weights.size(), 1U) << row.wanted;
    const auto plain = std::count_if(row.parameters.begin(), row.parameters.end(),
                                     [](auto& one) { return std::get<0>(one).ends_with("_bias"); });
    EXPECT_EQ(source->tensors, static_cast<std::int64_t>(row.parameters.size()) - plain)
        << row.wanted;
    EXPECT_EQ(source->left, 1 + plain) << row.wanted;
  }
}

/// The seam for a dequantiser: the weight's own name, its bits, and what gives its values back.
TEST(Quantised, AWeightKnowsItsNameBitsAndCompanions) {
  const Headers headers =
      headers_of("model.layers.3.self_attn.q_proj", {{"weight_packed", DType::I32, {64, 3}},
                                                     {"weight_scale", DType::BF16, {64, 1}},
                                                     {"weight_shape", DType::I64, {2}},
                                                     {"bias", DType::BF16, {64}}});
  const auto source = find(headers, json::object());
  ASSERT_TRUE(source.has_value());
  const Weight& weight = source->groups.at(0).weights.at(0);
  EXPECT_EQ(weight.name, "model.layers.3.self_attn.q_proj.weight");
  EXPECT_EQ(weight.bits->name, "model.layers.3.self_attn.q_proj.weight_packed");
  std::vector<std::string> companions;
  for (const TensorSpec* one : weight.companions) {
    companions.push_back(one->name);
  }
  EXPECT_EQ(companions, (std::vector<std::string>{"model.layers.3.self_attn.q_proj.weight_scale",
                                                  "model.layers.3.self_attn.q_proj.weight_shape"}));
}

TEST(Quantised, TwoSchemesInOneCheckpointAreTwoGroups) {
  Headers headers =
      headers_of("a", {{"weight", DType::F8E4M3, {64, 24}}, {"weight_scale", DType::F32, {}}});
  headers.merge(
      headers_of("b", {{"weight", DType::F8E4M3, {64, 24}}, {"weight_scale", DType::F32, {}}}));
  headers.merge(headers_of("c", {{"qweight", DType::I32, {8, 24}},
                                 {"scales", DType::F16, {1, 24}},
                                 {"g_idx", DType::I32, {64}}}));
  const auto source = find(headers, json::object());
  ASSERT_TRUE(source.has_value());
  EXPECT_EQ(summary(*source),
            "2 weights in FP8 (E4M3) with a per-tensor scale, 1 weight in GPTQ INT4");
}

TEST(Quantised, TheRefusalSaysSchemeCountsHowItIsKnownAndWhatToDo) {
  const Headers headers = headers_of(
      "m", {{"weight", DType::F8E4M3, {256, 512}}, {"weight_scale_inv", DType::BF16, {2, 4}}});
  const auto source = find(
      headers,
      json{{"text_config", said({{"quant_method", "fp8"}, {"weight_block_size", {128, 128}}})}});
  ASSERT_TRUE(source.has_value());
  const Error error = refusal(*source);
  EXPECT_EQ(error.code, Code::QuantisedSource);
  EXPECT_EQ(error.message,
            "the weights are quantised: 1 weight in FP8 (E4M3) with 128 x 128 block scales");
  EXPECT_EQ(error.facts, (std::vector<std::string>{
                             "m.weight F8_E4M3 [256, 512] with weight_scale_inv BF16 [2, 4]",
                             "known by the names and dtypes of the tensors, and by "
                             "text_config.quantization_config of config.json: quant_method fp8, "
                             "weight_block_size [128,128]"}));
  EXPECT_EQ(error.found, "quantised weights and their scales in 2 tensors, others in 1 tensor");
  EXPECT_EQ(error.help,
            "check, roundtrip, convert, diff and layout dequantise them with --dtype bfloat16 (or "
            "float16, "
            "float32), as transformers does, without an adapter; or give a dequantised checkpoint: "
            "load it with transformers and FineGrainedFP8Config(dequantize=True), then "
            "save_pretrained, or take the release that it was quantised from");
}

TEST(Quantised, WhatTheConfigSaysIsFoundWhereverItStands) {
  EXPECT_EQ(stated(json::object()), "");
  EXPECT_EQ(stated({{"quantization_config", nullptr}}), "");
  EXPECT_EQ(stated({{"quantization_config", json::object()}}), "");
  EXPECT_EQ(stated({{"compression_config", {{"format", "pack-quantized"}}}}),
            "compression_config of config.json: format pack-quantized");
  EXPECT_EQ(stated({{"quantization", {{"bits", 4}, {"group_size", 64}}}}),
            "quantization of config.json: bits 4, group_size 64");
  EXPECT_EQ(stated({{"llm_config", said({{"quant_method", "awq"}})}}),
            "llm_config.quantization_config of config.json: quant_method awq");
  const std::string hostile = stated(said({{"quant_method", "\x1b[31m" + std::string(1000, 'x')}}));
  EXPECT_LT(hostile.size(), 200U);
  EXPECT_EQ(hostile.find('\x1b'), std::string::npos);
  EXPECT_EQ(stated(json::array()), "");
}

/// Buffers, masks, counters and statistics are no quantised weights, also beside something that
/// sounds like a scale.
TEST(Quantised, IntegersOfHealthyModelsAreNoQuantisedWeights) {
  const std::vector<Parameters> healthy = {
      {{"position_ids", DType::I64, {1, 77}}, {"class_embedding", DType::F32, {64}}},
      {{"num_batches_tracked", DType::I64, {}},
       {"running_mean", DType::F32, {64}},
       {"weight", DType::F32, {64}}},
      {{"relative_position_index", DType::I64, {49, 49}}, {"logit_scale", DType::F32, {3, 1, 1}}},
      {{"bias", DType::Bool, {1, 1, 64, 64}}, {"masked_bias", DType::F32, {}}},
      {{"bias", DType::U8, {1, 1, 64, 64}}, {"weight", DType::F32, {64, 64}}},
      {{"tid2eid", DType::I32, {128, 8}}, {"weight", DType::BF16, {64, 24}}},
      {{"weight", DType::BF16, {64, 24}}, {"weight_scale_inv", DType::F32, {1, 1}}},
      {{"weight", DType::BF16, {64, 24}}, {"input_scale", DType::F32, {}}},
      {{"weight", DType::F8E4M3, {64, 24}}},  // without a scale nothing says how it is meant
      {{"logit_scale", DType::BF16, {}}, {"weight", DType::BF16, {64, 24}}},
  };
  for (const Parameters& parameters : healthy) {
    EXPECT_FALSE(find(headers_of("m", parameters), json::object()).has_value())
        << std::get<0>(parameters.front());
  }
}

/// An index states names alone: their dtype reads BF16, their shape is empty.
TEST(Quantised, NamesOfAbsentShardsAreEnoughWhereTheyAreUnmistakable) {
  const auto found = [](const std::vector<std::string>& names) {
    Parameters parameters;
    for (const std::string& name : names) {
      parameters.emplace_back(name, DType::BF16, Shape{});
    }
    const auto source = find(headers_of("m", parameters), json::object());
    return source ? summary(*source) : "";
  };
  EXPECT_EQ(found({"weight", "weight_scale_inv"}), "1 weight in FP8 with scales");
  EXPECT_EQ(found({"qweight", "qzeros", "scales", "g_idx"}), "1 weight in GPTQ");
  EXPECT_EQ(found({"up_proj_blocks", "up_proj_scales"}), "1 weight in MXFP4 (blocks and scales)");
  EXPECT_EQ(found({"weight", "bias"}), "");
}

TEST(Quantised, NoPublishedOrGoldenCheckpointOfThisProjectIsTakenForOne) {
  std::size_t looked_at = 0;
  for (const auto& entry : fs::directory_iterator(fs::path(BV_FIXTURES) / "headers")) {
    const auto dump = io::read_headers_dump(entry.path());
    ASSERT_TRUE(dump.has_value()) << entry.path();
    EXPECT_FALSE(find(dump->headers(), json::parse(dump->config)).has_value()) << entry.path();
    ++looked_at;
  }
  for (const auto& entry : fs::directory_iterator(fs::path(BV_FIXTURES) / "golden/hf")) {
    if (!entry.is_directory()) {
      continue;
    }
    const auto checkpoint = io::Checkpoint::open(entry.path());
    ASSERT_TRUE(checkpoint.has_value()) << entry.path();
    EXPECT_FALSE(find(checkpoint->headers(), json::object()).has_value()) << entry.path();
    ++looked_at;
  }
  EXPECT_GT(looked_at, 20U);
}

/// Every name and every shape is untrusted.
TEST(Quantised, OddHeadersEndInAnAnswer) {
  const std::string huge(100'000, '\x1b');
  const Headers headers =
      headers_of(huge, {{"weight", DType::F8E4M3, {0, std::int64_t{1} << 62}},
                        {"weight_scale", DType::F32, {std::int64_t{1} << 62, 0}},
                        {"qweight", DType::I32, {std::int64_t{1} << 62}},
                        {"scales", DType::F16, Shape(40'000, 1)}});
  const auto source = find(headers, said({{"weight_block_size", {0, -1}}, {"bits", 1e300}}));
  ASSERT_TRUE(source.has_value());
  const Error error = refusal(*source);
  for (const std::string& fact : error.facts) {
    EXPECT_LT(fact.size(), 4'000U);
    EXPECT_EQ(fact.find('\x1b'), std::string::npos);
  }
  EXPECT_FALSE(find(Headers{}, json::object()).has_value());
}

}  // namespace
}  // namespace bv::quantised

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "tests/core/model/sample.hpp"

namespace bv::model::test {
namespace {

using ::testing::HasSubstr;

void add(Headers& headers, const std::string& name, Shape shape = {1}) {
  headers[name] = {name, DType::BF16, std::move(shape)};
}

Detected first_detected(const Model& model, const std::string& what) {
  for (const Detected& entry : model.detected) {
    if (entry.what == what) {
      return entry;
    }
  }
  return {};
}

TEST(ExpertStorage, IsDecidedForEachSection) {
  const auto packed = resolve_golden("qwen3_5_vl_moe_mtp_packed");
  EXPECT_EQ(first_detected(*packed, "decoder_experts").value, "packed");
  EXPECT_EQ(first_detected(*packed, "mtp_experts").value, "packed");
  EXPECT_EQ(first_detected(*packed, "mtp_experts").because,
            "mtp.layers.0.mlp.experts.gate_up_proj is there");
  const auto mixed = resolve_golden("qwen3_5_vl_moe_mtp_per_expert");
  EXPECT_EQ(first_detected(*mixed, "decoder_experts").value, "packed");
  EXPECT_EQ(first_detected(*mixed, "mtp_experts").value, "per_expert");
}

TEST(ExpertStorage, WithoutNamesTakesTheFirstForm) {
  EXPECT_EQ(first_detected(from_config(golden_config("qwen3_5_moe")), "decoder_experts").value,
            "packed");
  EXPECT_EQ(first_detected(from_config(golden_config("qwen3_moe")), "decoder_experts").value,
            "per_expert");
}

TEST(ExpertStorage, MixedWithinALayerIsOneFaultNamingBoth) {
  Headers headers = golden_headers("qwen3_moe_packed");
  add(headers, "model.layers.0.mlp.experts.3.gate_proj.weight", {16, 24});
  const auto model = resolve_with(golden_config("qwen3_moe_packed"), headers);
  ASSERT_EQ(model->faults.size(), 1U) << all_faults(*model);
  EXPECT_EQ(model->faults[0].code, Code::ExpertStorageMismatch);
  EXPECT_THAT(model->faults[0].message,
              HasSubstr("model.layers.0.mlp.experts.3.gate_proj.weight (per_expert, 1 tensor)"));
  EXPECT_THAT(model->faults[0].message,
              HasSubstr("model.layers.0.mlp.experts.gate_up_proj (packed, 8 tensors)"));
}

TEST(ExpertStorage, MixedAcrossLayersIsOneFault) {
  Headers headers = golden_headers("qwen3_moe_packed");
  headers.erase("model.layers.3.mlp.experts.gate_up_proj");
  headers.erase("model.layers.3.mlp.experts.down_proj");
  for (const auto& [name, spec] : golden_headers("qwen3_moe")) {
    if (name.starts_with("model.layers.3.mlp.experts.")) {
      headers[name] = spec;
    }
  }
  const auto model = resolve_with(golden_config("qwen3_moe_packed"), headers);
  ASSERT_EQ(model->faults.size(), 1U) << all_faults(*model);
  EXPECT_EQ(model->faults[0].code, Code::ExpertStorageMismatch);
}

TEST(ExpertStorage, HalfAPairNamesTheMissingStack) {
  Headers headers = golden_headers("qwen3_5_vl_moe_mtp_packed");
  headers.erase("mtp.layers.0.mlp.experts.down_proj");
  const auto model = resolve_with(golden_config("qwen3_5_vl_moe_mtp_packed"), headers);
  ASSERT_EQ(model->faults.size(), 1U) << all_faults(*model);
  EXPECT_EQ(model->faults[0].code, Code::HfTensorMissing);
  EXPECT_EQ(model->faults[0].subject, "mtp.layers.0.mlp.experts.down_proj");
}

TEST(ExpertStorage, OneMissingExpertIsNamed) {
  Headers headers = golden_headers("qwen3_next");
  headers.erase("model.layers.1.mlp.experts.5.down_proj.weight");
  const auto model = resolve_with(golden_config("qwen3_next"), headers);
  ASSERT_EQ(model->faults.size(), 1U) << all_faults(*model);
  EXPECT_EQ(
      model->faults[0].message,
      "HF tensor model.layers.1.mlp.experts.5.down_proj.weight is missing: Megatron parameter "
      "decoder.layers.1.mlp.experts.linear_fc2.weight5 would keep its initial values");
}

TEST(ExpertStorage, OfMixtralHasTwoSetsOfNames) {
  EXPECT_EQ(first_detected(*resolve_golden("mixtral"), "decoder_experts").value,
            "block_sparse_moe");
  Headers headers = golden_headers("mixtral");
  for (auto at = headers.begin(); at != headers.end();) {
    at =
        at->first.find("block_sparse_moe") != std::string::npos ? headers.erase(at) : std::next(at);
  }
  for (const char* layer : {"model.layers.0.mlp.", "model.layers.1.mlp."}) {
    add(headers, std::string(layer) + "gate.weight", {8, 24});
    add(headers, std::string(layer) + "experts.gate_up_proj", {8, 56, 24});
    add(headers, std::string(layer) + "experts.down_proj", {8, 24, 28});
  }
  const auto model = resolve_with(golden_config("mixtral"), headers);
  EXPECT_TRUE(model->faults.empty()) << all_faults(*model);
  EXPECT_EQ(first_detected(*model, "decoder_experts").value, "packed");
}

TEST(ExpertStorage, OfGlmMayCarryASuffix) {
  const json config = golden_config("glm4_moe");
  Headers headers;
  for (const auto& [name, spec] : golden_headers("glm4_moe")) {
    if (name.find(".experts.") == std::string::npos || name.find("shared") != std::string::npos) {
      headers[name] = spec;
    }
  }
  for (const char* layer : {"model.layers.1.mlp.experts.", "model.layers.2.mlp.experts."}) {
    add(headers, std::string(layer) + "gate_up_proj.weight", {8, 32, 24});
    add(headers, std::string(layer) + "down_proj.weight", {8, 24, 16});
  }
  const auto model = resolve_with(config, headers);
  EXPECT_TRUE(model->faults.empty()) << all_faults(*model);
  EXPECT_EQ(first_detected(*model, "decoder_experts").value, "packed_weight");
}

TEST(Orientation, ComesFromTheShapes) {
  EXPECT_EQ(first_detected(*resolve_golden("qwen3_vl_moe"), "decoder_experts").value, "packed");
  EXPECT_EQ(first_detected(*resolve_golden("qwen3_vl_moe_transposed"), "decoder_experts").value,
            "packed_in_out");
}

/// Qwen3-VL-MoE with expert width `ie` at hidden size 24, stacks stored [E, in, out].
Headers stacks(std::int64_t ie) {
  Headers headers = golden_headers("qwen3_vl_moe_transposed");
  for (auto& [name, spec] : headers) {
    if (name.ends_with("experts.gate_up_proj")) {
      spec.shape = {8, 24, 2 * ie};
    } else if (name.ends_with("experts.down_proj")) {
      spec.shape = {8, ie, 24};
    }
  }
  return headers;
}

json width(std::int64_t ie) {
  json config = golden_config("qwen3_vl_moe_transposed");
  config["text_config"]["moe_intermediate_size"] = ie;
  return config;
}

TEST(Orientation, OfASquareStackIsAmbiguous) {
  for (const std::int64_t ie :
       {12, 24}) {  // 2 * 12 == 24 makes fc1 square, 24 == 24 makes fc2 square
    const auto model = resolve_with(width(ie), stacks(ie));
    ASSERT_EQ(model->faults.size(), 1U) << all_faults(*model);
    EXPECT_EQ(model->faults[0].code, Code::AmbiguousTranspose);
    EXPECT_THAT(model->faults[0].help, HasSubstr("--expert-orientation"));
    EXPECT_THAT(model->faults[0].help, HasSubstr("fits the form packed_in_out only"));
  }
}

TEST(Orientation, OfASquareStackMayBeDeclared) {
  ResolveOptions options;
  options.expert_orientation = family::Orientation::InOut;
  const auto model = resolve_with(width(12), stacks(12), options);
  EXPECT_TRUE(model->faults.empty()) << all_faults(*model);
  EXPECT_EQ(first_detected(*model, "decoder_experts").value, "packed_in_out");
}

TEST(Orientation, ThatTheShapesContradictIsAFault) {
  ResolveOptions options;
  options.expert_orientation = family::Orientation::OutIn;
  const auto model = resolve_golden("qwen3_vl_moe_transposed", options);
  ASSERT_EQ(model->faults.size(), 1U) << all_faults(*model);
  EXPECT_EQ(model->faults[0].code, Code::ShapeMismatch);
  const auto square = resolve_with(width(12), stacks(12), options);  // down_proj fits in_out only
  ASSERT_EQ(square->faults.size(), 1U) << all_faults(*square);
  EXPECT_EQ(square->faults[0].code, Code::ShapeMismatch);
}

TEST(Orientation, MustBeOneForAllLayers) {
  Headers headers = golden_headers("qwen3_vl_moe");
  headers["model.language_model.layers.1.mlp.experts.down_proj"].shape = {8, 16, 24};
  const auto model = resolve_with(golden_config("qwen3_vl_moe"), headers);
  ASSERT_EQ(model->faults.size(), 1U) << all_faults(*model);
  EXPECT_EQ(model->faults[0].code, Code::ExpertStorageMismatch);
  EXPECT_THAT(model->faults[0].message,
              HasSubstr("layers.1.mlp.experts.down_proj [8, 16, 24] (packed_in_out)"));
}

TEST(Orientation, OfFamiliesWithOneOrientationIsNeverAmbiguous) {
  json config = golden_config("gpt_oss");
  config["intermediate_size"] = 24;
  Headers headers = golden_headers("gpt_oss");
  const auto model = resolve_with(config, headers);
  EXPECT_TRUE(model->faults.empty()) << all_faults(*model);
}

}  // namespace
}  // namespace bv::model::test

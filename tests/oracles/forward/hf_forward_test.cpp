// The HF form against the float64 vectors of the real transformers classes.
#include <gtest/gtest.h>

#include <fmt/format.h>

#include "tests/oracles/forward/golden.hpp"

namespace bv::oracle::forward {
namespace {

constexpr double kSame = 1e-9;

class HfForwardCase : public testing::TestWithParam<const char*> {};

TEST_P(HfForwardCase, EqualsTransformersInEveryLayer) {
  const std::string name = GetParam();
  const ModelFacts facts = golden::facts_of(name);
  const NamedTensors vectors = golden::vectors_of(name);
  const auto outputs =
      hf_forward(facts, golden::read_checkpoint(name), golden::text_inputs(vectors));
  ASSERT_TRUE(outputs) << outputs.error().message << ": " << outputs.error().found;
  ASSERT_EQ(outputs->layer_outputs.size(), static_cast<std::size_t>(facts.layers));
  for (std::size_t i = 0; i < outputs->layer_outputs.size(); ++i) {
    const Tensor wanted = golden::squeezed(vectors.at(fmt::format("layer_output.{}", i)), 2);
    EXPECT_LT(largest_difference(outputs->layer_outputs[i], wanted), kSame) << "layer " << i;
  }
  const Tensor norm = golden::squeezed(vectors.at("final_norm_output"), 2);
  EXPECT_LT(largest_difference(outputs->final_norm_output, norm), kSame);
  EXPECT_LT(largest_difference(outputs->logits, golden::squeezed(vectors.at("logits"), 2)), kSame);
}

INSTANTIATE_TEST_SUITE_P(
    Golden, HfForwardCase,
    testing::Values("llama", "llama_tied_kv2", "qwen2", "qwen3", "qwen3_moe", "qwen3_moe_packed",
                    "qwen3_next", "qwen3_5_dense", "qwen3_5_dense_bf16_tied", "qwen3_5_dense_mtp",
                    "qwen3_5_dense_from_vl", "qwen3_5_moe", "qwen3_5_moe_packed",
                    "qwen3_5_vl_dense", "qwen3_5_vl_dense_mtp_tied", "qwen3_5_vl_moe",
                    "qwen3_5_vl_moe_mtp_packed", "qwen3_5_vl_moe_mtp_per_expert",
                    "qwen3_5_token_cls", "qwen3_vl", "qwen3_vl_moe", "qwen3_vl_moe_transposed",
                    "mixtral", "gpt_oss", "deepseek_v3", "glm4_moe", "gemma3_text", "gemma",
                    "gemma2", "glm", "glm4", "phi3", "qwen2_moe", "exaone4", "granite", "nemotron",
                    "olmo2", "olmo3", "olmoe", "starcoder2", "hy_v3", "exaone_moe",
                    "deepseek_v2_lite"),
    [](const auto& one) { return std::string(one.param); });

class HfImageCase : public testing::TestWithParam<const char*> {};

TEST_P(HfImageCase, EqualsTransformersWithAnImage) {
  const std::string name = GetParam();
  const ModelFacts facts = golden::facts_of(name);
  const NamedTensors vectors = golden::vectors_of(name);
  const auto outputs =
      hf_forward(facts, golden::read_checkpoint(name), golden::image_inputs(vectors));
  ASSERT_TRUE(outputs) << outputs.error().message << ": " << outputs.error().found;
  ASSERT_TRUE(outputs->vision_output);
  EXPECT_LT(largest_difference(*outputs->vision_output, vectors.at("image.vision_output")), kSame);
  ASSERT_EQ(outputs->deepstack_outputs.size(), facts.vision.deepstack.size());
  for (std::size_t k = 0; k < outputs->deepstack_outputs.size(); ++k) {
    const Tensor wanted =
        golden::squeezed(vectors.at(fmt::format("image.deepstack_output.{}", k)), 2);
    EXPECT_LT(largest_difference(outputs->deepstack_outputs[k], wanted), kSame)
        << "deepstack " << k;
  }
  const Tensor norm = golden::squeezed(vectors.at("image.final_norm_output"), 2);
  EXPECT_LT(largest_difference(outputs->final_norm_output, norm), kSame);
  EXPECT_LT(largest_difference(outputs->logits, golden::squeezed(vectors.at("image.logits"), 2)),
            kSame);
}

INSTANTIATE_TEST_SUITE_P(Golden, HfImageCase,
                         testing::Values("qwen3_5_vl_dense", "qwen3_5_vl_dense_mtp_tied",
                                         "qwen3_5_vl_moe", "qwen3_5_vl_moe_mtp_packed",
                                         "qwen3_5_vl_moe_mtp_per_expert", "qwen3_5_token_cls",
                                         "qwen3_vl", "qwen3_vl_moe", "qwen3_vl_moe_transposed"),
                         [](const auto& one) { return std::string(one.param); });

}  // namespace
}  // namespace bv::oracle::forward

// Where Megatron keeps a norm as its offset from one and HF does not.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "oracles/oracle.hpp"

namespace bv::oracle {
namespace {

WantedValue wanted(const std::string& parameter, const std::string& model_type) {
  Question question;
  question.parameter = parameter;
  question.model_type = model_type;
  return wanted_value(question);
}

TEST(WantedValue, OnlyTheGatedNormOfTheDeltaNetChanges) {
  for (const char* type :
       {"qwen3_next", "qwen3_5", "qwen3_5_text", "qwen3_5_moe", "qwen3_5_moe_text"}) {
    EXPECT_EQ(wanted("language_model.decoder.layers.3.self_attention.out_norm.weight", type).added,
              -1.0)
        << type;
    for (const char* name : {"decoder.layers.3.self_attention.q_layernorm.weight",
                             "decoder.layers.3.self_attention.in_proj.layer_norm_weight",
                             "decoder.final_layernorm.weight", "mtp.layers.0.enorm.weight",
                             "vision_model.merger.patch_norm.weight",
                             "decoder.layers.3.self_attention.out_proj.weight"}) {
      EXPECT_EQ(wanted(name, type).added, 0.0) << type << " " << name;
    }
  }
  EXPECT_EQ(wanted("decoder.final_layernorm.weight", "llama").added, 0.0);
  EXPECT_EQ(wanted("decoder.final_layernorm.weight", "gemma3_text").added, 0.0);
}

TEST(WantedValue, NormsOfAnUnknownModelAreUnknownAndNothingElse) {
  const WantedValue norm = wanted("decoder.final_layernorm.weight", "bloom");
  EXPECT_EQ(norm.added, std::nullopt);
  EXPECT_THAT(norm.because, testing::HasSubstr("bloom"));
  EXPECT_EQ(wanted("decoder.final_layernorm.bias", "bloom").added, 0.0);
  EXPECT_EQ(wanted("decoder.layers.0.mlp.linear_fc2.weight", "bloom").added, 0.0);
}

}  // namespace
}  // namespace bv::oracle

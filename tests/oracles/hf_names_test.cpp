#include "hf_names.hpp"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

namespace bv::oracle {
namespace {

using ::testing::ElementsAre;
using ::testing::IsEmpty;

TEST(HfNames, FollowTheStoredForm) {
  const std::string fc1 = "decoder.layers.0.mlp.experts.linear_fc1.weight7";
  EXPECT_THAT(hf_names_of(fc1, {{"model.embed_tokens.weight", {}},
                                {"model.layers.0.mlp.experts.gate_up_proj", {}}}),
              ElementsAre("model.layers.0.mlp.experts.gate_up_proj"));
  EXPECT_THAT(hf_names_of(fc1, {{"model.embed_tokens.weight", {}}}),
              ElementsAre("model.layers.0.mlp.experts.7.gate_proj.weight",
                          "model.layers.0.mlp.experts.7.up_proj.weight"));
}

TEST(HfNames, AreNoneForAnUnknownParameter) {
  EXPECT_THAT(hf_names_of("decoder.layers.0.self_attention.unknown.weight", {}), IsEmpty());
}

}  // namespace
}  // namespace bv::oracle

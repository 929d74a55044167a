#include "core/foreign/foreign_kinds.hpp"

#include <gtest/gtest.h>

#include "tests/core/model/sample.hpp"

namespace bv::foreign {
namespace {

using namespace model::test;

/// What the module MambaMixer holds itself: AutoMapping finds no parallelism for such a module, so
/// Falcon-H1's bridge names it.
bool stands_in_the_mixer(const std::string& parameter) {
  return parameter.ends_with("mamba_mixer.D") || parameter.ends_with("mamba_mixer.conv1d_weight") ||
         parameter.ends_with("mamba_mixer.conv1d_bias");
}

TEST(ForeignKinds, AutoKnowsEveryParameterOfEveryGoldenModelAndNoOther) {
  const auto kinds = foreign_kinds().value();
  for (const std::string& name : golden_cases()) {
    for (const std::string& parameter : megatron_names(*resolve_golden(name))) {
      EXPECT_EQ(kinds.parallelism(parameter).empty(), stands_in_the_mixer(parameter))
          << name << " " << parameter;
    }
  }
  EXPECT_EQ(kinds.parallelism("decoder.layers.0.self_attention.mystery.weight"), "");
}

TEST(ForeignKinds, AutoFollowsTheModule) {
  const auto kinds = foreign_kinds().value();
  EXPECT_EQ(kinds.parallelism("decoder.layers.0.self_attention.linear_proj.weight"), "row");
  EXPECT_EQ(kinds.parallelism("decoder.layers.0.mlp.linear_fc2.bias"), "replicated");
  EXPECT_EQ(kinds.parallelism("decoder.layers.0.mlp.router.weight"), "replicated");
  EXPECT_EQ(kinds.parallelism("decoder.layers.0.self_attention.A_log"), "column");
  EXPECT_EQ(kinds.find("NoSuchMapping"), nullptr);
}

}  // namespace
}  // namespace bv::foreign

// The proof over every legal layout covers those, and only those, that are accepted one by one.

#include "core/plan/all_layouts.hpp"

#include <gtest/gtest.h>

#include <filesystem>

#include "core/checkpoint/open_model.hpp"
#include "core/plan/legality.hpp"
#include "tests/support/golden_model.hpp"

namespace bv::plan {
namespace {

constexpr std::int64_t kBound = 12;

using support::catalogue;

class AllLayouts : public ::testing::TestWithParam<const char*> {};

TEST_P(AllLayouts, AreThoseThatAreAcceptedOneByOneAndEachRuleIsBoundOnThem) {
  const checkpoint::HfModel hf = support::open_golden(GetParam());
  parallel::Layout base;
  base.vocab_divisor = 1;
  const auto proof = plan::prove_all_layouts(hf.model, catalogue(), base, kBound);
  ASSERT_TRUE(proof) << proof.error().message;
  std::int64_t accepted = 0;
  parallel::Layout layout = base;
  for (layout.tp = 1; layout.tp <= kBound; ++layout.tp) {
    for (layout.pp = 1; layout.pp <= kBound; ++layout.pp) {
      for (layout.ep = 1; layout.ep <= kBound; ++layout.ep) {
        for (layout.etp = 1; layout.etp <= kBound; ++layout.etp) {
          const bool dense = hf.model.geometry.get("num_experts").value_or(0) == 0;
          accepted += (!dense || layout.etp == 1) && check_layout(hf.model, layout) ? 1 : 0;
        }
      }
    }
  }
  EXPECT_EQ(proof->layouts, accepted);
  EXPECT_GT(accepted, 1);
  EXPECT_GE(proof->bindings, proof->rules);
}

INSTANTIATE_TEST_SUITE_P(Models, AllLayouts,
                         ::testing::Values("llama", "qwen3_moe", "qwen3_5_dense_mtp",
                                           "qwen3_5_vl_moe_mtp_packed", "deepseek_v3", "gpt_oss"));

TEST(AllLayouts, ASizeThatTheConditionsAllowAndARuleDoesNotIsNamed) {
  checkpoint::HfModel hf = support::open_golden("qwen3");
  hf.model.constraints.clear();  // the planted fault: a family that forgot its conditions
  parallel::Layout base;
  base.vocab_divisor = 1;
  const auto proof = plan::prove_all_layouts(hf.model, catalogue(), base, kBound);
  ASSERT_FALSE(proof);
  EXPECT_EQ(proof.error().code, Code::IndivisibleDim);
  ASSERT_FALSE(proof.error().facts.empty());
  EXPECT_NE(proof.error().facts.back().find("TP="), std::string::npos);
}

}  // namespace
}  // namespace bv::plan

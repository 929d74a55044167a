// What Plan::make does with a layout or a model that nobody checked before: never a plan that has
// lost a parameter.

#include "core/plan/plan.hpp"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <filesystem>

#include "core/checkpoint/open_model.hpp"
#include "core/family/symbols.hpp"
#include "tests/support/library.hpp"

namespace bv::plan {
namespace {

using support::catalogue;
using ::testing::HasSubstr;

model::Model golden(const std::string& name) {
  static const auto families = family::builtin_families().value();
  auto hf =
      checkpoint::open_hf(std::filesystem::path(BV_FIXTURES) / "golden/hf" / name, families, {});
  EXPECT_TRUE(hf) << (hf ? "" : hf.error().message);
  return std::move(hf->model);
}

Error refusal(const model::Model& model, const parallel::Layout& layout) {
  const auto plan = Plan::make(model, catalogue(), layout);
  if (plan) {
    ADD_FAILURE() << "a plan was made";
    return {};
  }
  return plan.error();
}

TEST(Plan, OfAGoldenHasEveryParameter) {
  for (const char* name : {"llama", "qwen3_moe", "qwen3_5_vl_moe_mtp_packed"}) {
    const model::Model model = golden(name);
    const auto plan = Plan::make(model, catalogue(), {});
    ASSERT_TRUE(plan) << plan.error().message;
    for (std::size_t m = 0; m < model.mappings.size(); ++m) {
      EXPECT_GE(std::ssize(plan->owners()[m]), model.parameters_of(model.mappings[m]))
          << model.megatron_name(model.mappings[m], 0);
    }
  }
}

TEST(Plan, OfExpertsThatEpDoesNotDivideIsRefusedWithoutTheConditionsOfTheFamily) {
  model::Model model = golden("qwen3_moe");
  model.constraints.clear();  // the planted fault: a family that forgot them
  parallel::Layout layout;
  layout.ep = 3;
  const Error error = refusal(model, layout);
  EXPECT_EQ(error.code, Code::IndivisibleDim);
  EXPECT_THAT(error.message, HasSubstr("EP=3 does not divide"));
}

TEST(Plan, OfALayerThatStandsOnNoStageIsRefused) {
  model::Model model = golden("llama");
  --model.geometry.symbols[std::string(family::symbols::kLayers)];
  const Error error = refusal(model, {});
  EXPECT_EQ(error.code, Code::LayerOnNoStage);
  EXPECT_THAT(error.message, HasSubstr("is on no rank: 0 of 1 parameters"));
}

TEST(Plan, OfExpertsThatStandOnNoRankIsRefused) {
  model::Model model = golden("qwen3_moe");
  model.constraints.clear();
  model.geometry.symbols[std::string(family::symbols::kExperts)] /= 2;
  EXPECT_FALSE(Plan::make(model, catalogue(), {}));
}

}  // namespace
}  // namespace bv::plan

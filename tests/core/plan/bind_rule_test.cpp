// One rule bound twice: to the sizes of a weight, and to those of a factor of an adapter.

#include "core/plan/bind_rule.hpp"

#include <gtest/gtest.h>

#include <algorithm>
#include <filesystem>

#include "core/checkpoint/open_model.hpp"
#include "core/plan/plan.hpp"
#include "tests/support/golden_model.hpp"

namespace bv::plan {
namespace {

constexpr std::int64_t kRank = 5;

class BindRule : public ::testing::Test {
 protected:
  BindRule() {
    layout_.tp = 2;
    layout_.vocab_divisor = 1;
  }

  const model::Mapping& mapping(const std::string& megatron) const {
    const auto found = std::find_if(
        hf_.model.mappings.begin(), hf_.model.mappings.end(),
        [&](const model::Mapping& one) { return hf_.model.megatron_name(one, 0) == megatron; });
    EXPECT_NE(found, hf_.model.mappings.end()) << megatron;
    return *found;
  }
  std::int64_t size(const char* symbol) const { return hf_.model.geometry.at(symbol); }

  const kinds::Catalogue& kinds_ = support::catalogue();
  checkpoint::HfModel hf_ = support::open_golden("llama");
  parallel::Layout layout_;
};

TEST_F(BindRule, TheRestBoundToTheRankIsTheFactorBOfAFusedProjection) {
  const model::Mapping& qkv = mapping("decoder.layers.0.self_attention.linear_qkv.weight");
  const std::int64_t queries = size("num_attention_heads") * size("head_dim");
  const std::int64_t keys = size("num_query_groups") * size("head_dim");
  const auto weight = bind_rule(kinds_, hf_.model.geometry, *qkv.rule, layout_).value();
  const auto factor =
      bind_rule(kinds_, hf_.model.geometry, *qkv.rule, layout_, {.rest = {{kRank}}}).value();
  EXPECT_EQ(factor.source_shapes(),
            (std::vector<Shape>{{queries, kRank}, {keys, kRank}, {keys, kRank}}));
  EXPECT_EQ(factor.target_shapes()[0], (Shape{(queries + 2 * keys) / 2, kRank}));
  // Row for row, the factor lies where the weight does.
  const std::int64_t hidden = size("hidden_size");
  const auto rows_of = [](const layout::Shard& shard, std::int64_t width) {
    std::vector<std::array<std::int64_t, 3>> rows;
    for (const layout::Box& box : shard.boxes) {
      for (std::int64_t row = 0; row < shard.shape[0]; ++row) {
        if (const std::int64_t source = layout::source_of(box, row * width); source >= 0) {
          rows.push_back({row, box.source, source / width});
        }
      }
    }
    std::sort(rows.begin(), rows.end());
    return rows;
  };
  for (std::int64_t rank = 0; rank < 2; ++rank) {
    const auto of_factor = rows_of(factor.shard(0, {{"t", rank}}), kRank);
    EXPECT_EQ(of_factor.size(), static_cast<std::size_t>(factor.target_shapes()[0][0]));
    EXPECT_EQ(of_factor, rows_of(weight.shard(0, {{"t", rank}}), hidden));
  }
}

TEST_F(BindRule, TheOutputsBoundToTheRankAreTheFactorAOfARowParallelProjection) {
  const model::Mapping& proj = mapping("decoder.layers.0.self_attention.linear_proj.weight");
  const std::int64_t inputs = size("num_attention_heads") * size("head_dim");
  const auto factor =
      bind_rule(kinds_, hf_.model.geometry, *proj.rule, layout_, {.axes = {{"o", kRank}}}).value();
  EXPECT_EQ(factor.source_shapes(), (std::vector<Shape>{{kRank, inputs}}));
  EXPECT_EQ(factor.target_shapes()[0], (Shape{kRank, inputs / 2}));
}

TEST_F(BindRule, AnAxisThatTheRuleDoesNotHaveIsAnError) {
  const model::Mapping& qkv = mapping("decoder.layers.0.self_attention.linear_qkv.weight");
  const auto bound =
      bind_rule(kinds_, hf_.model.geometry, *qkv.rule, layout_, {.axes = {{"E", 2}}});
  ASSERT_FALSE(bound);
  EXPECT_EQ(bound.error().code, Code::RulesInvalid);
  EXPECT_EQ(bound.error().found, "E");
}

TEST_F(BindRule, ASymbolBoundAgainSizesEveryAxisThatItSizes) {
  const model::Mapping& proj = mapping("decoder.layers.0.self_attention.linear_proj.weight");
  const auto small =
      bind_rule(kinds_, hf_.model.geometry, *proj.rule, layout_, {.symbols = {{"hidden_size", 3}}})
          .value();
  EXPECT_EQ(small.source_shapes()[0][0], 3);
  EXPECT_EQ(small.target_shapes()[0][0], 3);
}

TEST_F(BindRule, APlanHoldsARuleOnceForEachRebinding) {
  const Rebinding rank{.rest = {{kRank}}};
  const model::Mapping& qkv = mapping("decoder.layers.0.self_attention.linear_qkv.weight");
  const std::vector<Factor> factors = {{qkv.rule, rank}};
  const auto plan = Plan::make(hf_.model, kinds_, layout_, factors).value();
  EXPECT_EQ(plan.bound(qkv).target_shapes()[0][1], size("hidden_size"));
  EXPECT_EQ(plan.bound(qkv, rank).target_shapes()[0][1], kRank);
}

}  // namespace
}  // namespace bv::plan

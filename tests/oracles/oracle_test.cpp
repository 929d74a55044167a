// What holds for every question, and the module as the command loads it.
#include "oracles/oracle.hpp"
#include "tests/oracles/aten.hpp"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "tagging.hpp"

namespace bv::oracle {
namespace {

using ::testing::HasSubstr;
using ::testing::IsEmpty;

Question norm() {
  Question question;
  question.parameter = "decoder.final_layernorm.weight";
  add_source(question, "model.norm.weight", {2});
  return question;
}

TEST(WantedShard, IsNoneForAParameterOutsideTheTable) {
  for (const char* parameter :
       {"", ".", "weight", "decoder.layers.0.self_attention.linear_qkv",
        "decoder.layers.0.mlp.linear_fc3.weight",
        "decoder.layers.0.self_attention.linear_qkv._extra_state",
        "decoder.layers.0.mlp.experts.linear_fc1.weight",
        "decoder.layers.0.mlp.experts.linear_fc1.weight-1",
        "decoder.layers.0.mlp.experts.linear_fc1.weight1x",
        "decoder.layers.0.mlp.experts.local_experts.linear_fc1.weight", "patch_embed.proj.weight",
        "side_tower.blocks.0.wqkv.weight",
        "decoder.layers.0.self_attention.linear_qkv.adapter.linear_in.weight"}) {
    Question question = norm();
    question.parameter = parameter;
    EXPECT_EQ(wanted_shard(question), std::nullopt) << parameter;
    EXPECT_THAT(why_unanswered(question), HasSubstr("the target-layout table has no row for"))
        << parameter;
  }
}

/// A parameter that the table does not know, and the module that was built for it.
Question of_module(std::vector<std::int64_t> shape, Built built) {
  Question question;
  question.parameter = "projector.mystery.weight";
  question.shard_size = 2;
  question.shard_rank = 1;
  add_source(question, "projector.mystery.weight", std::move(shape));
  question.built = std::move(built);
  return question;
}

std::vector<std::int64_t> tags_of(const Question& question) {
  const auto shard = wanted_shard(question);
  return shard ? shard->tags : std::vector<std::int64_t>{-1};
}

TEST(BuiltModule, AnswersForAParameterOutsideTheTableByHowItIsCut) {
  using Tags = std::vector<std::int64_t>;
  EXPECT_EQ(tags_of(of_module({2, 2}, {.cut = "column"})), (Tags{2, 3}));
  EXPECT_EQ(tags_of(of_module({2, 2}, {.cut = "row"})), (Tags{1, 3}));
  EXPECT_EQ(tags_of(of_module({2}, {.cut = "row"})), (Tags{0, 1})) << "a bias is whole";
  EXPECT_EQ(tags_of(of_module({2, 2}, {.cut = "replicated"})), (Tags{0, 1, 2, 3}));
  EXPECT_TRUE(answered_by_build(of_module({2}, {.cut = "row"})));
  EXPECT_FALSE(answered_by_build(of_module({2}, {})));
  EXPECT_EQ(tags_of(of_module({2, 2}, {})), (Tags{-1})) << "nobody looked";
}

TEST(BuiltModule, AMatrixThatStandsTheOtherWayRoundIsTurned) {
  using Sides = Built::Sides;
  const Question swapped = of_module({2, 3}, {.cut = "replicated", .sides = Sides::Swapped});
  EXPECT_EQ(tags_of(swapped), (std::vector<std::int64_t>{0, 3, 1, 4, 2, 5}));
  EXPECT_EQ(wanted_shard(swapped)->shape, (std::vector<std::int64_t>{3, 2}));
  const Question square = of_module({2, 2}, {.cut = "replicated", .sides = Sides::Unclear});
  EXPECT_EQ(wanted_shard(square), std::nullopt);
  EXPECT_THAT(why_unanswered(square), HasSubstr("it is square"));
  const Question squeezed = of_module({1, 2}, {.cut = "replicated", .sides = Sides::Squeezed});
  EXPECT_EQ(wanted_shard(squeezed)->shape, (std::vector<std::int64_t>{2}));
}

TEST(BuiltModule, SaysWhetherOneTensorHoldsAGate) {
  Question question = of_module({4}, {.cut = "column"});
  question.parameter = "tower.layers.0.mlp.linear_fc1.bias";
  question.hf_names = {"tower.0.bias"};
  EXPECT_EQ(wanted_shard(question), std::nullopt);
  question.built.gated = false;
  EXPECT_EQ(tags_of(question), (std::vector<std::int64_t>{2, 3}));
  question.built.gated = true;
  EXPECT_EQ(tags_of(question), (std::vector<std::int64_t>{1, 3}));
}

TEST(BuiltModule, ANormOverAllHeadsIsCutWithThemWhereTheModuleIs) {
  Question question = of_module({8}, {});
  question.parameter = "decoder.layers.0.self_attention.k_layernorm.weight";
  question.hf_names = {"model.layers.0.self_attn.k_norm.weight"};
  question.numbers = {{"head_dim", 2}};
  EXPECT_EQ(wanted_shard(question), std::nullopt);
  question.built.cut = "column";
  EXPECT_EQ(tags_of(question), (std::vector<std::int64_t>{4, 5, 6, 7}));
  question.built.cut = "replicated";
  EXPECT_EQ(tags_of(question).size(), 8U);
}

/// Step-3.5: layers of another number of heads, and a gate row a head.
TEST(BuiltModule, TheRowsOfTheModuleSayWhereGateRowsGo) {
  Question question;
  question.parameter = "decoder.layers.0.self_attention.linear_qkv.weight";
  for (const auto& [part, rows] : std::vector<std::pair<std::string, std::int64_t>>{
           {"q_proj", 8}, {"k_proj", 4}, {"v_proj", 4}, {"g_proj", 4}}) {
    add_source(question, "model.layers.0.self_attn." + part + ".weight", {rows});
  }
  EXPECT_EQ(wanted_shard(question), std::nullopt);
  question.built.rows = 20;  // behind all groups
  ASSERT_EQ(tags_of(question).size(), 20U);
  EXPECT_EQ(tags_of(question)[16], 3 * kTensorStride);
  question.built.rows = 24;  // inside each group, each gate row twice
  ASSERT_EQ(tags_of(question).size(), 24U);
  EXPECT_EQ(tags_of(question)[4], 3 * kTensorStride);
  EXPECT_EQ(tags_of(question)[5], 3 * kTensorStride);
}

TEST(WantedShard, SaysNothingAgainstAnAnsweredQuestion) {
  EXPECT_THAT(why_unanswered(norm()), IsEmpty());
  EXPECT_EQ(wanted_shard(norm())->tags, (std::vector<std::int64_t>{0, 1}));
}

TEST(WantedShard, RefusesAQuestionThatContradictsItself) {
  Question question = norm();
  question.shard_rank = 1;
  EXPECT_EQ(why_unanswered(question), "rank 1 is not in a group of 1");
  question = norm();
  question.shard_size = 0;
  EXPECT_EQ(why_unanswered(question), "rank 0 is not in a group of 0");
  question = norm();
  question.hf.at(0).shape = {3};
  EXPECT_EQ(why_unanswered(question), "a tagged tensor has 2 tags for 3 elements");
  question.hf.at(0).shape = {-2};
  EXPECT_EQ(why_unanswered(question), "a tagged tensor has an impossible shape");
  question.hf.at(0).shape = {std::int64_t{1} << 62, 4};
  EXPECT_EQ(why_unanswered(question), "a tagged tensor has an impossible shape");
  question = norm();
  question.hf_names.emplace_back("second");
  EXPECT_EQ(why_unanswered(question), "1 HF tensors under 2 names");
  add_source(question, "third", {2});
  question.hf.push_back(tagged_source(1, {2}));
  EXPECT_EQ(why_unanswered(question), "wanted one HF tensor, found norm, second, third");
  EXPECT_EQ(why_unanswered(Question{}), "0 HF tensors under 0 names");
}

TEST(WantedShard, RefusesScalarsWhereRowsAreNeeded) {
  Question question = norm();
  question.parameter = "decoder.layers.0.self_attention.linear_qkv.weight";
  question.numbers = {{"num_attention_heads", 1}, {"num_query_groups", 1}};
  question.hf_names = {"q_proj", "k_proj", "v_proj"};
  question.hf.assign(3, tagged_source(0, {}));
  EXPECT_EQ(wanted_shard(question), std::nullopt);
  EXPECT_FALSE(why_unanswered(question).empty());
}

TEST(WantedShard, EveryTestOfTheseFormulasAsksLibTorchToo) {
  if (!has_aten()) {
    GTEST_SKIP() << "built without LibTorch: the formulas are not held against it";
  }
  EXPECT_EQ(aten_shard(norm()), wanted_shard(norm()));
  EXPECT_EQ(aten_shard({}), std::nullopt);
}

}  // namespace
}  // namespace bv::oracle

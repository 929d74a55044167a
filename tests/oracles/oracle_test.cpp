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
        "vision_tower.blocks.0.wqkv.weight",
        "decoder.layers.0.self_attention.linear_qkv.adapter.linear_in.weight"}) {
    Question question = norm();
    question.parameter = parameter;
    EXPECT_EQ(wanted_shard(question), std::nullopt) << parameter;
    EXPECT_THAT(why_unanswered(question), HasSubstr("the target-layout table has no row for"))
        << parameter;
  }
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
  EXPECT_EQ(why_unanswered({}), "0 HF tensors under 0 names");
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

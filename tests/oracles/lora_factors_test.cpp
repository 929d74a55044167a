// The oracle of adapter modules on shapes that can be checked by hand
// (docs/reference/semantics.md#lora-shards).

#include "oracles/lora_factors.hpp"

#include <gtest/gtest.h>

#include <map>
#include <string>

namespace bv::oracle {
namespace {

using Tags = std::vector<std::int64_t>;

/// [rows, columns] with tags from `first` on.
TaggedTensor matrix(std::int64_t rows, std::int64_t columns, std::int64_t first) {
  TaggedTensor out{{rows, columns}, {}};
  for (std::int64_t i = 0; i < rows * columns; ++i) {
    out.tags.push_back(first + i);
  }
  return out;
}

/// A pair of rank 1 whose B has the tags first, first + 1, ... and whose A has 1000 and more.
AdapterPart part_of(std::size_t hf, std::int64_t rows, std::int64_t in, std::int64_t first) {
  AdapterPart out;
  out.hf = hf;
  out.a = matrix(1, in, 1000);
  out.b = matrix(rows, 1, first);
  return out;
}

AdapterQuestion fc1(std::int64_t ways, std::int64_t rank) {
  AdapterQuestion out;
  out.weight.parameter = "decoder.layers.0.mlp.linear_fc1.weight";
  out.weight.hf_names = {"model.layers.0.mlp.gate_proj.weight",
                         "model.layers.0.mlp.up_proj.weight"};
  out.weight.shard_size = ways;
  out.weight.shard_rank = rank;
  out.hf_rows = {4, 4};
  out.parts = {part_of(0, 4, 3, 0), part_of(1, 4, 3, 100)};
  out.rank = 1;
  out.in = 3;
  out.shared = true;
  return out;
}

/// TV-03: gate rows of the rank, then its up rows; the rank axis is padded to one row a rank.
TEST(LoraFactors, GateAndUpRowsFollowTheRanks) {
  const auto first = wanted_factors(fc1(2, 0));
  ASSERT_TRUE(first);
  EXPECT_EQ(first->a, (TaggedTensor{{1, 3}, {1000, 1001, 1002}}));
  EXPECT_EQ(first->b, (TaggedTensor{{4, 2}, {0, -1, 1, -1, 100, -1, 101, -1}}));
  const auto second = wanted_factors(fc1(2, 1));
  ASSERT_TRUE(second);
  EXPECT_EQ(second->a, (TaggedTensor{{1, 3}, {-1, -1, -1}}));
  EXPECT_EQ(second->b, (TaggedTensor{{4, 2}, {2, -1, 3, -1, 102, -1, 103, -1}}));
}

/// Pairs with an A each stand one above the other, and each B beside zeros.
TEST(LoraFactors, PairsWithTheirOwnAAreStacked) {
  AdapterQuestion question = fc1(1, 0);
  question.shared = false;
  question.rank = 2;
  question.parts[1].a = matrix(1, 3, 2000);
  const auto wanted = wanted_factors(question);
  ASSERT_TRUE(wanted);
  EXPECT_EQ(wanted->a, (TaggedTensor{{2, 3}, {1000, 1001, 1002, 2000, 2001, 2002}}));
  EXPECT_EQ(
      wanted->b,
      (TaggedTensor{{8, 2}, {0, -1, 1, -1, 2, -1, 3, -1, -1, 100, -1, 101, -1, 102, -1, 103}}));
}

/// TV-05: experts are cut by their own ranks; rows of gate and up that do not divide are no answer.
TEST(LoraFactors, RowsOfAnExpertFollowTheExpertRanks) {
  AdapterQuestion question;
  question.weight.parameter = "decoder.layers.0.mlp.experts.linear_fc1.weight3";
  question.weight.hf_names = {"model.layers.0.mlp.experts.gate_up_proj"};
  question.weight.expert = 3;
  question.weight.shard_size = 2;
  question.weight.shard_rank = 1;
  question.hf_rows = {4};
  question.parts = {part_of(0, 4, 2, 0)};
  question.rank = 1;
  question.in = 2;
  question.shared = true;
  const auto wanted = wanted_factors(question);
  ASSERT_TRUE(wanted);
  EXPECT_EQ(wanted->b, (TaggedTensor{{2, 2}, {1, -1, 3, -1}}));
  question.weight.model_type = "gpt_oss";  // gate and up alternate: gate 0 2, up 1 3
  EXPECT_EQ(wanted_factors(question)->b, (TaggedTensor{{2, 2}, {2, -1, 3, -1}}));
  question.weight.model_type = "gpt_oss_custom";
  EXPECT_FALSE(wanted_factors(question));
  EXPECT_NE(why_unanswered(question).find("gpt_oss_custom"), std::string::npos);
  question.weight.model_type = "gpt_oss";
  question.hf_rows = {6};
  question.parts = {part_of(0, 6, 2, 0)};
  EXPECT_FALSE(wanted_factors(question));
  EXPECT_NE(why_unanswered(question), "");
}

/// TV-01 on rank 1: the second group, its queries, key and value.
TEST(LoraFactors, QkvRowsFollowTheGroups) {
  AdapterQuestion question;
  question.weight.parameter = "decoder.layers.0.self_attention.linear_qkv.weight";
  question.weight.numbers = {{"num_attention_heads", 4}, {"num_query_groups", 2}};
  question.weight.hf_names = {"model.layers.0.self_attn.q_proj.weight",
                              "model.layers.0.self_attn.k_proj.weight",
                              "model.layers.0.self_attn.v_proj.weight"};
  question.weight.shard_size = 2;
  question.weight.shard_rank = 1;
  question.hf_rows = {8, 4, 4};
  question.parts = {part_of(0, 8, 2, 0), part_of(1, 4, 2, 100), part_of(2, 4, 2, 200)};
  question.rank = 1;
  question.in = 2;
  question.shared = true;
  const auto wanted = wanted_factors(question);
  ASSERT_TRUE(wanted);
  EXPECT_EQ(wanted->b.tags, (Tags{4, -1, 5, -1, 6, -1, 7, -1, 102, -1, 103, -1, 202, -1, 203, -1}));
  question.canonical = "adapter_k";  // one projection, cut as it is
  question.parts = {part_of(1, 4, 2, 100)};
  EXPECT_EQ(wanted_factors(question)->b, (TaggedTensor{{2, 2}, {102, -1, 103, -1}}));
}

/// One HF tensor of queries, then keys, then values: a projection is a block of its rows.
TEST(LoraFactors, AProjectionOfAFusedTensorIsABlockOfItsRows) {
  AdapterQuestion question;
  question.weight.parameter = "decoder.layers.0.self_attention.linear_qkv.weight";
  question.weight.numbers = {{"num_attention_heads", 4}, {"num_query_groups", 2}};
  question.weight.hf_names = {"model.layers.0.self_attn.qkv_proj.weight"};
  question.weight.shard_size = 2;
  question.weight.shard_rank = 1;
  question.hf_rows = {16};  // of heads of two rows
  question.parts = {part_of(0, 16, 2, 0)};
  question.rank = 1;
  question.in = 2;
  question.shared = true;
  for (const auto& [key, rows] : std::map<std::string, Tags>{
           {"q", {4, -1, 5, -1, 6, -1, 7, -1}}, {"k", {10, -1, 11, -1}}, {"v", {14, -1, 15, -1}}}) {
    question.canonical = "adapter_" + key;
    EXPECT_EQ(wanted_factors(question)->b.tags, rows) << key;
  }
  question.weight.parameter = "decoder.layers.0.mlp.linear_fc1.weight";
  question.weight.hf_names = {"model.layers.0.mlp.gate_up_proj.weight"};
  question.canonical = "adapter_up";
  EXPECT_EQ(wanted_factors(question)->b.tags, (Tags{12, -1, 13, -1, 14, -1, 15, -1}));
}

/// A row-parallel layer cuts the columns of A, a replicated one the rank axis of A; both cut the
/// rows of B.
TEST(LoraFactors, RowParallelAndReplicatedLayersCutTheRowsOfBEvenly) {
  AdapterQuestion question;
  question.weight.parameter = "decoder.layers.0.self_attention.linear_proj.weight";
  question.weight.hf_names = {"model.layers.0.self_attn.o_proj.weight"};
  question.weight.shard_size = 2;
  question.weight.shard_rank = 1;
  question.hf_rows = {4};
  question.parts = {part_of(0, 4, 6, 0)};
  question.rank = 1;
  question.in = 6;
  question.shared = true;
  const auto row = wanted_factors(question);
  ASSERT_TRUE(row);
  EXPECT_EQ(row->a, (TaggedTensor{{1, 3}, {1003, 1004, 1005}}));
  EXPECT_EQ(row->b, (TaggedTensor{{2, 1}, {2, 3}}));
  question.weight.parameter = "decoder.layers.0.mlp.router.weight";
  question.weight.hf_names = {"model.layers.0.mlp.gate.weight"};
  const auto router = wanted_factors(question);
  ASSERT_TRUE(router);
  EXPECT_EQ(router->a, (TaggedTensor{{1, 6}, {-1, -1, -1, -1, -1, -1}}));
  EXPECT_EQ(router->b, (TaggedTensor{{2, 2}, {2, -1, 3, -1}}));
  question.weight.parameter = "embedding.word_embeddings.weight";
  EXPECT_FALSE(wanted_factors(question));
}

/// A tower of HF has layers of PyTorch: every rank holds both factors as they are, of any rank.
TEST(LoraFactors, LayersOfHfAreNotCut) {
  AdapterQuestion question;
  question.weight.parameter = "vision_tower.blocks.0.attn.proj.weight";
  question.weight.hf_names = {"model.vision_model.blocks.0.attn.proj.weight"};
  question.weight.shard_size = 2;
  question.weight.shard_rank = 1;
  question.hf_rows = {3};
  question.parts = {part_of(0, 3, 2, 0)};
  question.rank = 1;
  question.in = 2;
  question.shared = true;
  const auto wanted = wanted_factors(question);
  ASSERT_TRUE(wanted) << why_unanswered(question);
  EXPECT_EQ(wanted->a, (TaggedTensor{{1, 2}, {1000, 1001}}));
  EXPECT_EQ(wanted->b, (TaggedTensor{{3, 1}, {0, 1, 2}}));
}

}  // namespace
}  // namespace bv::oracle

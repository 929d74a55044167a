// The vectors of docs/reference/semantics.md#vectors: (rank, local row) -> HF row, at the sizes of
// published models.
#include <gtest/gtest.h>

#include "tagging.hpp"

namespace bv::oracle {
namespace {

/// Row `local_row` of rank `shard_rank`, as "q_proj[row]"; the hidden size is 1 (or the kernel size
/// is 1).
std::string row_of(Question question, std::int64_t shard_rank, std::int64_t local_row) {
  question.shard_rank = shard_rank;
  const auto shard = wanted_shard(question);
  EXPECT_EQ(aten_shard(question), shard) << question.parameter;
  return shard ? word(question, shard->tags.at(static_cast<std::size_t>(local_row)))
               : why_unanswered(question);
}

std::int64_t rows_of(const Question& question) {
  return wanted_shard(question)->shape.front();
}

Question qkv(std::int64_t heads, std::int64_t groups, std::int64_t head_size, bool gated,
             std::int64_t tp) {
  Question question;
  question.parameter = "decoder.layers.3.self_attention.linear_qkv.weight";
  question.numbers = {{"num_attention_heads", heads}, {"num_query_groups", groups}};
  question.shard_size = tp;
  add_source(question, "model.layers.3.self_attn.q_proj.weight",
             {(gated ? 2 : 1) * heads * head_size, 1});
  add_source(question, "model.layers.3.self_attn.k_proj.weight", {groups * head_size, 1});
  add_source(question, "model.layers.3.self_attn.v_proj.weight", {groups * head_size, 1});
  return question;
}

TEST(Vectors, OfTheGatedAttentionOfThe27B) {
  const Question question = qkv(24, 4, 256, true, 8);
  EXPECT_EQ(rows_of(question), 1792);
  EXPECT_EQ(row_of(question, 0, 0), "q_proj[0]");
  EXPECT_EQ(row_of(question, 0, 1535), "q_proj[2815]");
  EXPECT_EQ(row_of(question, 0, 1536), "q_proj[256]");
  EXPECT_EQ(row_of(question, 1, 0), "q_proj[768]");
  EXPECT_EQ(row_of(question, 1, 1280), "k_proj[0]");
  EXPECT_EQ(row_of(question, 1, 1536), "v_proj[0]");
  EXPECT_EQ(row_of(question, 1, 1791), "v_proj[255]");
  EXPECT_EQ(row_of(question, 7, 1791), "v_proj[1023]");
}

TEST(Vectors, OfTheGatedAttentionOfThe35B) {
  const Question question = qkv(16, 2, 256, true, 4);
  EXPECT_EQ(rows_of(question), 2304);
  EXPECT_EQ(row_of(question, 0, 2047), "q_proj[3839]");
  EXPECT_EQ(row_of(question, 0, 2048), "q_proj[256]");
  EXPECT_EQ(row_of(question, 1, 0), "q_proj[768]");
  EXPECT_EQ(row_of(question, 1, 1791), "q_proj[4095]");
  EXPECT_EQ(row_of(question, 1, 1792), "k_proj[0]");
  EXPECT_EQ(row_of(question, 1, 2303), "v_proj[255]");
}

TEST(Vectors, OfThePlainAttentionOfLlama) {
  const Question question = qkv(32, 8, 128, false, 2);
  EXPECT_EQ(rows_of(question), 3072);
  EXPECT_EQ(row_of(question, 0, 511), "q_proj[511]");
  EXPECT_EQ(row_of(question, 0, 512), "k_proj[0]");
  EXPECT_EQ(row_of(question, 0, 640), "v_proj[0]");
  EXPECT_EQ(row_of(question, 0, 768), "q_proj[512]");
  EXPECT_EQ(row_of(question, 1, 0), "q_proj[2048]");
  EXPECT_EQ(row_of(question, 1, 3071), "v_proj[1023]");
}

TEST(Vectors, OfTheDeltaNetStoredByRole) {
  Question question;
  question.parameter = "decoder.layers.0.self_attention.in_proj.weight";
  question.shard_size = 4;
  add_source(question, "model.layers.0.linear_attn.in_proj_qkv.weight",
             {2 * 16 * 128 + 48 * 128, 1});
  add_source(question, "model.layers.0.linear_attn.in_proj_z.weight", {48 * 128, 1});
  add_source(question, "model.layers.0.linear_attn.in_proj_b.weight", {48, 1});
  add_source(question, "model.layers.0.linear_attn.in_proj_a.weight", {48, 1});
  EXPECT_EQ(rows_of(question), 4120);
  EXPECT_EQ(row_of(question, 0, 512), "in_proj_qkv[2048]");
  EXPECT_EQ(row_of(question, 0, 1024), "in_proj_qkv[4096]");
  EXPECT_EQ(row_of(question, 0, 2560), "in_proj_z[0]");
  EXPECT_EQ(row_of(question, 0, 4096), "in_proj_b[0]");
  EXPECT_EQ(row_of(question, 0, 4108), "in_proj_a[0]");
  EXPECT_EQ(row_of(question, 3, 0), "in_proj_qkv[1536]");
  EXPECT_EQ(row_of(question, 3, 1024), "in_proj_qkv[8704]");
  EXPECT_EQ(row_of(question, 3, 4119), "in_proj_a[47]");
}

TEST(Vectors, OfTheDeltaNetStoredByKeyHead) {
  Question question;
  question.parameter = "decoder.layers.0.self_attention.in_proj.weight";
  question.numbers = {{"linear_num_key_heads", 16},
                      {"linear_num_value_heads", 32},
                      {"linear_key_head_dim", 128},
                      {"linear_value_head_dim", 128}};
  question.shard_size = 4;
  add_source(question, "model.layers.0.linear_attn.in_proj_qkvz.weight", {16 * 768, 1});
  add_source(question, "model.layers.0.linear_attn.in_proj_ba.weight", {64, 1});
  EXPECT_EQ(rows_of(question), 3088);
  EXPECT_EQ(row_of(question, 1, 0), "in_proj_qkvz[3072]");
  EXPECT_EQ(row_of(question, 1, 512), "in_proj_qkvz[3200]");
  EXPECT_EQ(row_of(question, 1, 1024), "in_proj_qkvz[3328]");
  EXPECT_EQ(row_of(question, 1, 2048), "in_proj_qkvz[3584]");
  EXPECT_EQ(row_of(question, 1, 3072), "in_proj_ba[16]");
  EXPECT_EQ(row_of(question, 1, 3080), "in_proj_ba[18]");
  EXPECT_EQ(row_of(question, 1, 3087), "in_proj_ba[31]");
}

TEST(Vectors, OfTheConvolutionOfThe27B) {
  Question question;
  question.parameter = "decoder.layers.0.self_attention.conv1d.weight";
  question.numbers = {{"linear_num_key_heads", 16},
                      {"linear_num_value_heads", 48},
                      {"linear_key_head_dim", 128},
                      {"linear_value_head_dim", 128}};
  question.shard_size = 4;
  add_source(question, "model.layers.0.linear_attn.conv1d.weight", {10240, 1, 1});
  EXPECT_EQ(rows_of(question), 2560);
  EXPECT_EQ(row_of(question, 0, 512), "conv1d[2048]");
  EXPECT_EQ(row_of(question, 0, 1024), "conv1d[4096]");
  EXPECT_EQ(row_of(question, 1, 0), "conv1d[512]");
  EXPECT_EQ(row_of(question, 1, 512), "conv1d[2560]");
  EXPECT_EQ(row_of(question, 1, 1024), "conv1d[5632]");
  EXPECT_EQ(row_of(question, 3, 2559), "conv1d[10239]");
}

}  // namespace
}  // namespace bv::oracle

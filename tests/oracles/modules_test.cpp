// Each formula at sizes that can be checked by hand, and what it refuses.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "tagging.hpp"

namespace bv::oracle {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;

Question about(std::string parameter, std::int64_t shard_size = 1, std::int64_t shard_rank = 0) {
  Question question;
  question.parameter = std::move(parameter);
  question.shard_size = shard_size;
  question.shard_rank = shard_rank;
  return question;
}

/// One source named `hf` of `shape`.
Question about_one(std::string parameter, std::string hf, std::vector<std::int64_t> shape,
                   std::int64_t shard_size, std::int64_t shard_rank) {
  Question question = about(std::move(parameter), shard_size, shard_rank);
  add_source(question, std::move(hf), std::move(shape));
  return question;
}

Question attention(std::int64_t heads, std::int64_t groups, std::vector<std::int64_t> q,
                   std::int64_t kv_rows, std::int64_t shard_size = 1, std::int64_t shard_rank = 0) {
  Question question =
      about("decoder.layers.0.self_attention.linear_qkv.bias", shard_size, shard_rank);
  question.numbers = {{"num_attention_heads", heads}, {"num_query_groups", groups}};
  add_source(question, "layers.0.self_attn.q_proj", std::move(q));
  add_source(question, "layers.0.self_attn.k_proj", {kv_rows});
  add_source(question, "layers.0.self_attn.v_proj", {kv_rows});
  return question;
}

TEST(LinearQkv, PutsTheHeadsOfEachGroupTogether) {
  EXPECT_THAT(words(attention(4, 2, {4}, 2)),
              ElementsAre("q_proj[0]", "q_proj[1]", "k_proj[0]", "v_proj[0]", "q_proj[2]",
                          "q_proj[3]", "k_proj[1]", "v_proj[1]"));
}

TEST(LinearQkv, PutsTheGatesBehindTheQueriesOfTheGroup) {
  EXPECT_THAT(
      words(attention(4, 2, {8}, 2, 2, 0)),
      ElementsAre("q_proj[0]", "q_proj[2]", "q_proj[1]", "q_proj[3]", "k_proj[0]", "v_proj[0]"));
}

TEST(LinearQkv, CutsInsideAHeadWhenRanksOutnumberKeyHeads) {
  // One group of two heads of size 2: q0 q0 q1 q1 k k v v over four ranks; rank 2 holds the key.
  EXPECT_THAT(words(attention(2, 1, {4}, 2, 4, 2)), ElementsAre("k_proj[0]", "k_proj[1]"));
  EXPECT_THAT(words(attention(2, 1, {4}, 2, 8, 5)), ElementsAre("k_proj[1]"));
}

TEST(LinearQkv, TakesThePartsFromTheNamesNotFromTheirPlace) {
  Question question = about("decoder.layers.0.self_attention.linear_qkv.weight");
  question.numbers = {{"num_attention_heads", 2}, {"num_query_groups", 1}};
  add_source(question, "self_attn.v_proj.weight", {1, 1});
  add_source(question, "self_attn.q_proj.weight", {2, 1});
  add_source(question, "self_attn.k_proj.weight", {1, 1});
  EXPECT_THAT(words(question), ElementsAre("q_proj[0]", "q_proj[1]", "k_proj[0]", "v_proj[0]"));
}

TEST(LinearQkv, RefusesRowsThatAreNoHeads) {
  EXPECT_THAT(words(attention(4, 2, {6}, 2)),
              ElementsAre("q_proj has 6 rows, wanted 4, or twice that with a gate"));
  EXPECT_THAT(words(attention(4, 2, {4}, 3)), ElementsAre(HasSubstr("k_proj rows over groups: 3")));
  EXPECT_THAT(words(attention(3, 2, {3}, 2)), ElementsAre(HasSubstr("query heads over groups: 3")));
  EXPECT_THAT(words(attention(4, 2, {4}, 2, 3)),
              ElementsAre("cut over the ranks: 8 is not a multiple of 3"));
  Question unknown = attention(4, 2, {4}, 2);
  unknown.numbers.erase("num_query_groups");
  EXPECT_THAT(words(unknown), ElementsAre("the geometry has no num_query_groups"));
  Question renamed = attention(4, 2, {4}, 2);
  renamed.hf_names.at(1) = "layers.0.self_attn.x_proj";
  EXPECT_THAT(words(renamed),
              ElementsAre("wanted one HF tensor that is k_proj, found q_proj, x_proj, v_proj"));
}

TEST(LinearQkv, SplitsTheJoinedTensorOfAVisionTower) {
  Question question = about_one("vision_model.decoder.layers.0.self_attention.linear_qkv.weight",
                                "model.visual.blocks.0.attn.qkv.weight", {6, 1}, 2, 1);
  question.numbers = {{"vision_num_heads", 2}, {"num_attention_heads", 9}, {"num_query_groups", 3}};
  EXPECT_THAT(words(question), ElementsAre("qkv[1]", "qkv[3]", "qkv[5]"));
  question.numbers["vision_num_heads"] = 4;
  EXPECT_THAT(words(question), ElementsAre("qkv rows over heads: 6 is not a multiple of 12"));
}

TEST(LinearQkv, PutsGateRowsBehindAllGroupsOrIntoThem) {
  Question question = attention(2, 1, {4}, 2);
  add_source(question, "layers.0.self_attn.g_proj", {2});
  EXPECT_THAT(words(question), ElementsAre(HasSubstr("no attn_output_gate")));
  question.numbers["attn_output_gate"] = 0;
  EXPECT_THAT(words(question),
              ElementsAre("q_proj[0]", "q_proj[1]", "q_proj[2]", "q_proj[3]", "k_proj[0]",
                          "k_proj[1]", "v_proj[0]", "v_proj[1]", "g_proj[0]", "g_proj[1]"));
  question.numbers["attn_output_gate"] = 1;
  EXPECT_THAT(words(question), ElementsAre("q_proj[0]", "q_proj[1]", "q_proj[2]", "q_proj[3]",
                                           "g_proj[0]", "g_proj[0]", "g_proj[1]", "g_proj[1]",
                                           "k_proj[0]", "k_proj[1]", "v_proj[0]", "v_proj[1]"));
}

TEST(LinearKv, PairsKeyAndValueOfEachGroup) {
  Question question = about("decoder.layers.0.cross_attention.linear_kv.weight");
  question.numbers = {{"num_attention_heads", 4}, {"num_query_groups", 2}};
  add_source(question, "k_proj.weight", {2, 1});
  add_source(question, "v_proj.weight", {2, 1});
  EXPECT_THAT(words(question), ElementsAre("k_proj[0]", "v_proj[0]", "k_proj[1]", "v_proj[1]"));
}

Question gated(std::string gate, std::string up, std::int64_t up_rows) {
  Question question = about("decoder.layers.0.mlp.linear_fc1.weight", 2, 1);
  add_source(question, std::move(gate), {4, 1});
  add_source(question, std::move(up), {up_rows, 1});
  return question;
}

TEST(LinearFc1, HoldsItsGateRowsThenItsUpRows) {
  EXPECT_THAT(words(gated("mlp.gate_proj.weight", "mlp.up_proj.weight", 4)),
              ElementsAre("gate_proj[2]", "gate_proj[3]", "up_proj[2]", "up_proj[3]"));
  EXPECT_THAT(words(gated("mlp.w1.weight", "mlp.w3.weight", 4)),
              ElementsAre("w1[2]", "w1[3]", "w3[2]", "w3[3]"));
}

TEST(LinearFc1, RefusesAGateAndAnUpThatDiffer) {
  EXPECT_THAT(words(gated("mlp.gate_proj.weight", "mlp.up_proj.weight", 6)),
              ElementsAre("gate has 4 rows and up 6"));
}

TEST(LinearFc1, SplitsAJoinedGateAndUp) {
  EXPECT_THAT(words(about_one("decoder.layers.0.mlp.linear_fc1.weight", "mlp.gate_up_proj.weight",
                              {4, 1}, 2, 0)),
              ElementsAre("gate_up_proj[0]", "gate_up_proj[2]"));
}

TEST(LinearFc1, CutsAnUngatedLinearPlainly) {
  EXPECT_THAT(words(about_one("vision_model.merger.linear_fc1.weight",
                              "model.visual.merger.linear_fc1.weight", {4, 1}, 2, 1)),
              ElementsAre("linear_fc1[2]", "linear_fc1[3]"));
  EXPECT_THAT(words(about_one("decoder.layers.0.mlp.linear_fc1.weight", "mlp.mystery.weight",
                              {4, 1}, 2, 1)),
              ElementsAre("it is not known whether mlp.mystery.weight holds a gate"));
  Question sized =
      about_one("decoder.layers.0.mlp.linear_fc1.weight", "mlp.mystery.weight", {4, 1}, 2, 1);
  sized.numbers["intermediate_size"] = 4;
  EXPECT_THAT(words(sized), ElementsAre("mystery[2]", "mystery[3]"));
  sized.numbers["intermediate_size"] = 2;
  EXPECT_THAT(words(sized), ElementsAre("it is not known whether mlp.mystery.weight holds a gate"));
}

TEST(GdnInProj, CutsEveryRoleByItself) {
  Question question = about("decoder.layers.0.self_attention.in_proj.weight", 2, 1);
  add_source(question, "linear_attn.in_proj_qkv.weight", {12, 1});  // 4 query, 4 key, 4 value rows
  add_source(question, "linear_attn.in_proj_z.weight", {4, 1});
  add_source(question, "linear_attn.in_proj_b.weight", {2, 1});
  add_source(question, "linear_attn.in_proj_a.weight", {2, 1});
  EXPECT_THAT(words(question),
              ElementsAre("in_proj_qkv[2]", "in_proj_qkv[3]", "in_proj_qkv[6]", "in_proj_qkv[7]",
                          "in_proj_qkv[10]", "in_proj_qkv[11]", "in_proj_z[2]", "in_proj_z[3]",
                          "in_proj_b[1]", "in_proj_a[1]"));
  question.hf.at(1) = tagged_source(1, {12, 1});
  EXPECT_THAT(words(question), ElementsAre(HasSubstr("wanted more than the 12 of in_proj_z")));
}

TEST(GdnInProj, UngroupsTheHeads) {
  Question question = about("decoder.layers.0.self_attention.in_proj.weight");
  question.numbers = {{"linear_num_key_heads", 2},
                      {"linear_num_value_heads", 2},
                      {"linear_key_head_dim", 1},
                      {"linear_value_head_dim", 1}};
  add_source(question, "linear_attn.in_proj_qkvz.weight", {8, 1});
  add_source(question, "linear_attn.in_proj_ba.weight", {4, 1});
  EXPECT_THAT(words(question), ElementsAre("in_proj_qkvz[0]", "in_proj_qkvz[4]", "in_proj_qkvz[1]",
                                           "in_proj_qkvz[5]", "in_proj_qkvz[2]", "in_proj_qkvz[6]",
                                           "in_proj_qkvz[3]", "in_proj_qkvz[7]", "in_proj_ba[0]",
                                           "in_proj_ba[2]", "in_proj_ba[1]", "in_proj_ba[3]"));
  question.numbers["linear_key_head_dim"] = 2;
  EXPECT_THAT(words(question), ElementsAre(HasSubstr("does not split into [2, 2, 1, 1]")));
}

Question mamba(std::string parameter, std::string hf, std::int64_t rows) {
  Question question = about_one(std::move(parameter), std::move(hf), {rows}, 2, 1);
  question.numbers = {{"mamba_num_heads", 2},
                      {"mamba_head_dim", 1},
                      {"mamba_num_groups", 2},
                      {"mamba_state_dim", 1}};
  return question;
}

TEST(Mamba, CutsEveryRoleByItself) {
  EXPECT_THAT(words(mamba("decoder.layers.0.mixer.in_proj.weight", "mixer.in_proj.weight", 10)),
              ElementsAre("in_proj[1]", "in_proj[3]", "in_proj[5]", "in_proj[7]", "in_proj[9]"));
  EXPECT_THAT(words(mamba("decoder.layers.0.mixer.conv1d.weight", "mixer.conv1d.weight", 6)),
              ElementsAre("conv1d[1]", "conv1d[3]", "conv1d[5]"));
  EXPECT_THAT(words(mamba("decoder.layers.0.mixer.D", "mixer.D", 4)), ElementsAre("D[2]", "D[3]"));
  EXPECT_THAT(words(mamba("decoder.layers.0.mixer.norm.weight", "mixer.norm.weight", 4)),
              ElementsAre("norm[2]", "norm[3]"));
  EXPECT_THAT(words(mamba("decoder.layers.0.mixer.in_proj.weight", "mixer.in_proj.weight", 11)),
              ElementsAre(HasSubstr("axis 0 of [11] does not split")));
}

TEST(Vocabulary, PutsZeroRowsBehindTheRealOnes) {
  Question question =
      about_one("embedding.word_embeddings.weight", "model.embed_tokens.weight", {3, 1}, 2, 1);
  question.padded_vocab = 4;
  EXPECT_THAT(words(question), ElementsAre("embed_tokens[2]", "zero"));
  question.padded_vocab = 0;
  EXPECT_THAT(words(question), ElementsAre("cut over the ranks: 3 is not a multiple of 2"));
  question.padded_vocab = 2;
  EXPECT_THAT(words(question), ElementsAre("the padded vocabulary has 2 rows for 3"));
  question.padded_vocab = std::int64_t{1} << 50;
  EXPECT_THAT(words(question), ElementsAre(HasSubstr("padded vocabulary has")));
}

TEST(Vocabulary, IsPaddedUnderALanguageModelPrefixAndOnOneRank) {
  Question question = about_one("language_model.output_layer.weight", "lm_head.weight", {3}, 1, 0);
  question.padded_vocab = 4;
  EXPECT_THAT(words(question), ElementsAre("lm_head[0]", "lm_head[1]", "lm_head[2]", "zero"));
}

TEST(OutputLayer, OfATokenClassifierIsWholeOnEveryRank) {
  Question question = about_one("language_model.output_layer.weight", "score.weight", {3, 1}, 2, 1);
  question.padded_vocab = 8;
  EXPECT_THAT(words(question), ElementsAre("score[0]", "score[1]", "score[2]"));
  EXPECT_THAT(words(about_one("language_model.output_layer.bias", "score.bias", {1}, 2, 1)),
              ElementsAre("bias[0]"));
}

TEST(EhProj, KeepsTheEmbeddingHalfFirst) {
  EXPECT_THAT(words(about_one("mtp.layers.0.eh_proj.weight", "mtp.fc.weight", {2, 2}, 2, 1)),
              ElementsAre("fc[2]", "fc[3]"));
  EXPECT_THAT(
      words(about_one("mtp.layers.0.eh_proj.weight", "mtp.input_proj.weight", {2, 2}, 2, 1)),
      ElementsAre("input_proj[3]", "input_proj[2]"));
  EXPECT_THAT(
      words(about_one("mtp.layers.0.eh_proj.weight", "mtp.input_proj.weight", {2, 3}, 2, 1)),
      ElementsAre(HasSubstr("columns of input_proj: 3")));
}

TEST(Row, CutsColumnsAndKeepsTheBiasWhole) {
  const std::string proj = "vision_model.decoder.layers.0.self_attention.linear_proj.";
  EXPECT_THAT(words(about_one(proj + "weight", "attn.proj.weight", {2, 2}, 2, 1)),
              ElementsAre("proj[1]", "proj[3]"));
  EXPECT_THAT(words(about_one(proj + "bias", "attn.proj", {2}, 2, 1)),
              ElementsAre("proj[0]", "proj[1]"));
  EXPECT_THAT(words(about_one(proj + "weight", "attn.proj.weight", {4}, 2, 1)),
              ElementsAre("the parameter has 1 axes, wanted more than 1"));
}

TEST(Replicated, IsWholeOnEveryRank) {
  for (const char* parameter :
       {"decoder.layers.0.input_layernorm.weight",
        "decoder.layers.0.self_attention.linear_qkv.layer_norm_weight",
        "vision_model.decoder.layers.0.mlp.linear_fc1.layer_norm_bias",
        "decoder.layers.0.mlp.router.weight", "decoder.layers.0.mlp.router.bias",
        "decoder.layers.0.mlp.router.expert_bias",
        "decoder.layers.0.mlp.shared_experts.gate_weight", "vision_model.patch_embed.proj.weight",
        "vision_model.pos_embed.weight", "vision_model.merger.patch_norm.bias",
        "decoder.layers.0.self_attention.linear_q_down_proj.weight", "mtp.layers.0.enorm.weight",
        "mtp.layers.0.transformer_layer.self_attention.q_layernorm.weight",
        "decoder.layers.0.mlp.fc1_latent_proj.weight",
        "decoder.layers.0.self_attention.out_norm.weight", "decoder.final_layernorm.weight"}) {
    EXPECT_THAT(words(about_one(parameter, "any.x", {2}, 2, 1)), ElementsAre("x[0]", "x[1]"))
        << parameter;
  }
}

TEST(Replicated, RefusesANormOverAllHeads) {
  Question question = about_one("decoder.layers.0.self_attention.q_layernorm.weight",
                                "self_attn.q_norm", {8}, 2, 1);
  question.numbers = {{"head_dim", 4}};
  EXPECT_THAT(words(question), ElementsAre("a norm of 8 elements is not over one head of 4"));
}

TEST(Column, CutsRows) {
  for (const char* parameter :
       {"decoder.layers.0.self_attention.A_log", "decoder.layers.0.self_attention.dt_bias",
        "decoder.layers.0.self_attention.core_attention.softmax_offset",
        "decoder.layers.0.self_attention.linear_q_up_proj.weight",
        "decoder.layers.0.self_attention.linear_q_proj.weight",
        "mtp.layers.0.mtp_model_layer.self_attention.linear_kv_up_proj.weight",
        "embedding.word_embeddings.weight"}) {
    EXPECT_THAT(words(about_one(parameter, "any.x", {4}, 2, 1)), ElementsAre("x[2]", "x[3]"))
        << parameter;
  }
}

Question expert(std::string leaf, std::string hf, std::vector<std::int64_t> shape) {
  Question question =
      about_one("decoder.layers.0.mlp.experts." + leaf, std::move(hf), std::move(shape), 1, 0);
  question.numbers = {{"hidden_size", 3}, {"moe_intermediate_size", 2}};
  return question;
}

TEST(ExpertFc1, PicksItsPlaneOfTheStack) {
  Question question = expert("linear_fc1.weight1", "mlp.experts.gate_up_proj", {2, 4, 3});
  question.shard_size = 2;
  question.shard_rank = 1;
  EXPECT_THAT(words(question),
              ElementsAre("gate_up_proj[15]", "gate_up_proj[16]", "gate_up_proj[17]",
                          "gate_up_proj[21]", "gate_up_proj[22]", "gate_up_proj[23]"));
}

TEST(ExpertFc1, SeesATransposedStackByItsShape) {
  Question question = expert("linear_fc1.weight1", "mlp.experts.gate_up_proj", {2, 3, 4});
  question.shard_size = 2;
  EXPECT_THAT(words(question),
              ElementsAre("gate_up_proj[12]", "gate_up_proj[16]", "gate_up_proj[20]",
                          "gate_up_proj[14]", "gate_up_proj[18]", "gate_up_proj[22]"));
}

TEST(ExpertFc1, TakesTheFlagWhereTheShapeIsSquare) {
  Question question = expert("linear_fc1.weight0", "mlp.experts.gate_up_proj", {1, 2, 2});
  question.numbers = {{"hidden_size", 2}, {"moe_intermediate_size", 1}};
  EXPECT_THAT(words(question), ElementsAre("gate_up_proj[0]", "gate_up_proj[1]", "gate_up_proj[2]",
                                           "gate_up_proj[3]"));
  question.in_out_stack = true;
  EXPECT_THAT(words(question), ElementsAre("gate_up_proj[0]", "gate_up_proj[2]", "gate_up_proj[1]",
                                           "gate_up_proj[3]"));
}

TEST(ExpertFc1, SeparatesTheAlternatingRowsOfGptOss) {
  Question question = expert("linear_fc1.weight0", "mlp.experts.gate_up_proj", {1, 1, 4});
  question.model_type = "gpt_oss";
  EXPECT_THAT(words(question), ElementsAre("gate_up_proj[0]", "gate_up_proj[2]", "gate_up_proj[1]",
                                           "gate_up_proj[3]"));
  question.shard_size = 2;
  question.shard_rank = 1;
  EXPECT_THAT(words(question), ElementsAre("gate_up_proj[2]", "gate_up_proj[3]"));
  Question bias = expert("linear_fc1.bias1", "mlp.experts.gate_up_proj_bias", {2, 4});
  bias.model_type = "gpt_oss";
  EXPECT_THAT(words(bias), ElementsAre("gate_up_proj_bias[4]", "gate_up_proj_bias[6]",
                                       "gate_up_proj_bias[5]", "gate_up_proj_bias[7]"));
  bias.model_type = "gpt_oss_custom";  // no shape shows it
  EXPECT_THAT(words(bias),
              ElementsAre("whether gate and up rows of gpt_oss_custom alternate is not known"));
}

TEST(ExpertFc1, TakesAStackWithGateAndUpAsAnAxis) {
  EXPECT_THAT(words(expert("linear_fc1.weight1", "mlp.experts.gate_up_proj", {2, 2, 1, 3})),
              ElementsAre("gate_up_proj[6]", "gate_up_proj[7]", "gate_up_proj[8]",
                          "gate_up_proj[9]", "gate_up_proj[10]", "gate_up_proj[11]"));
}

TEST(ExpertFc1, TakesOneExpertOnItsOwn) {
  for (const char* leaf : {"linear_fc1.weight5", "local_experts.5.linear_fc1.weight"}) {
    Question question = about(std::string("decoder.layers.0.mlp.experts.") + leaf, 2, 1);
    add_source(question, "mlp.experts.5.gate_proj.weight", {2, 1});
    add_source(question, "mlp.experts.5.up_proj.weight", {2, 1});
    EXPECT_THAT(words(question), ElementsAre("gate_proj[1]", "up_proj[1]"));
    question.hf_names.at(1) = "mlp.experts.4.up_proj.weight";
    EXPECT_THAT(words(question), ElementsAre("mlp.experts.4.up_proj.weight is given for expert 5"));
  }
}

TEST(ExpertFc2, CutsColumnsInBothOrientations) {
  Question question = expert("linear_fc2.weight1", "mlp.experts.down_proj", {2, 3, 2});
  question.shard_size = 2;
  question.shard_rank = 1;
  EXPECT_THAT(words(question), ElementsAre("down_proj[7]", "down_proj[9]", "down_proj[11]"));
  question.hf.at(0) = tagged_source(0, {2, 2, 3});
  EXPECT_THAT(words(question), ElementsAre("down_proj[9]", "down_proj[10]", "down_proj[11]"));
}

TEST(ExpertFc2, KnowsThatASquareStackOfGptOssIsTransposed) {
  Question question = expert("linear_fc2.weight0", "mlp.experts.down_proj", {1, 2, 2});
  question.numbers = {{"hidden_size", 2}, {"intermediate_size", 2}};
  EXPECT_THAT(words(question),
              ElementsAre("down_proj[0]", "down_proj[1]", "down_proj[2]", "down_proj[3]"));
  question.model_type = "gpt_oss";
  EXPECT_THAT(words(question),
              ElementsAre("down_proj[0]", "down_proj[2]", "down_proj[1]", "down_proj[3]"));
}

TEST(ExpertFc2, KeepsTheBiasWhole) {
  Question question = expert("linear_fc2.bias1", "mlp.experts.down_proj_bias", {2, 2});
  question.shard_size = 2;
  question.shard_rank = 1;
  EXPECT_THAT(words(question), ElementsAre("down_proj_bias[2]", "down_proj_bias[3]"));
}

TEST(Experts, RefuseAnExpertThatIsNotThere) {
  EXPECT_THAT(words(expert("linear_fc2.weight2", "mlp.experts.down_proj", {2, 3, 2})),
              ElementsAre("expert 2 is not in a stack of 2"));
  Question other = expert("linear_fc2.weight1", "mlp.experts.down_proj", {2, 3, 2});
  other.expert = 0;
  EXPECT_THAT(words(other), ElementsAre(HasSubstr("is asked for as expert 0")));
}

}  // namespace
}  // namespace bv::oracle

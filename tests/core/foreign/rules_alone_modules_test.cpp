// Modules that no family knows, judged by rules alone: latent attention, tied heads, norms behind
// modules, layers of one block each.

#include "tests/core/foreign/new_model.hpp"

namespace bv::foreign {
namespace {

using namespace test;
using Told = std::vector<std::string>;

/// MLA was taken for attention: four parameters "had no rule" (DeepSeekV2, GLM 4.7 Flash, Kimi K2).
NewModel mla(bool q_lora) {
  NewModel out;
  out.sizes();
  out.config.update({{"kv_lora_rank", 8},
                     {"qk_nope_head_dim", 4},
                     {"qk_rope_head_dim", 2},
                     {"v_head_dim", 4},
                     {"q_lora_rank", q_lora ? json(12) : json()}});
  out.config.erase("head_dim");
  out.ends().mlp();
  out.per_layer("input_layernorm.weight", {24});
  out.layer_rule("auto", "input_layernorm.weight", "input_layernorm.weight");
  out.per_layer("post_attention_layernorm.weight", {24});
  out.layer_rule("auto", "mlp.linear_fc1.layer_norm_weight", "post_attention_layernorm.weight");
  if (q_lora) {
    out.per_layer("self_attn.q_a_proj.weight", {12, 24});
    out.per_layer("self_attn.q_a_layernorm.weight", {12});
    out.per_layer("self_attn.q_b_proj.weight", {48, 12});
    out.layer_rule("auto", "self_attention.linear_q_down_proj.weight", "self_attn.q_a_proj.weight");
    out.layer_rule("auto", "self_attention.linear_q_up_proj.layer_norm_weight",
                   "self_attn.q_a_layernorm.weight");
    out.layer_rule("auto", "self_attention.linear_q_up_proj.weight", "self_attn.q_b_proj.weight");
  } else {
    out.per_layer("self_attn.q_proj.weight", {48, 24});
    out.layer_rule("auto", "self_attention.linear_q_proj.weight", "self_attn.q_proj.weight");
  }
  out.per_layer("self_attn.kv_a_proj_with_mqa.weight", {10, 24});
  out.per_layer("self_attn.kv_a_layernorm.weight", {8});
  out.per_layer("self_attn.kv_b_proj.weight", {64, 8});
  out.per_layer("self_attn.o_proj.weight", {24, 32});
  out.layer_rule("auto", "self_attention.linear_kv_down_proj.weight",
                 "self_attn.kv_a_proj_with_mqa.weight");
  out.layer_rule("auto", "self_attention.linear_kv_up_proj.layer_norm_weight",
                 "self_attn.kv_a_layernorm.weight");
  out.layer_rule("auto", "self_attention.linear_kv_up_proj.weight", "self_attn.kv_b_proj.weight");
  return out.layer_rule("auto", "self_attention.linear_proj.weight", "self_attn.o_proj.weight");
}

TEST(RulesAlone, LatentAttentionIsNotRefuted) {
  for (const bool q_lora : {true, false}) {
    const NewModel model = mla(q_lora);
    const AppliedRules applied = model.applied();
    EXPECT_EQ(told(applied), Told{kOpenList});
    EXPECT_EQ(unaccounted(model, applied), Told{});
  }
}

TEST(RulesAlone, AForgottenPartOfLatentAttentionIsStillRefuted) {
  NewModel model = mla(true);
  model.forget("linear_kv_up_proj.weight");
  const Told all = told(model.applied());
  EXPECT_NE(std::find(all.begin(), all.end(),
                      "fault BV1003 decoder.layers.0.self_attention.linear_kv_up_proj.weight"),
            all.end());
}

/// ExaoneMoe: the output rule reads the embedding, which was told as two parameters of one tensor.
TEST(RulesAlone, ATiedModelWithAnOutputRuleIsNotRefuted) {
  NewModel model = NewModel::plain();
  model.config["tie_word_embeddings"] = true;
  model.headers.erase("lm_head.weight");
  model.rule_for("output_layer.weight")["hf"] = "model.embed_tokens.weight";
  const AppliedRules applied = model.applied();
  EXPECT_EQ(told(applied), Told{kOpenList});
  EXPECT_TRUE(applied.model.tied);
  EXPECT_FALSE(makes(applied, "output_layer.weight"));
}

TEST(RulesAlone, AnUntiedHeadWithoutARuleIsRefuted) {  // Exaone4Bridge, the 32B checkpoint
  NewModel model = NewModel::plain();
  model.forget("output_layer.weight");
  const Told all = told(model.applied());
  EXPECT_NE(std::find(all.begin(), all.end(), "fault BV1003 output_layer.weight"), all.end());
  EXPECT_NE(std::find(all.begin(), all.end(), "fault BV1001 lm_head.weight"), all.end());
}

/// Exaone4: layers that norm behind their modules have no norm before them.
NewModel post_norm() {
  NewModel out;
  out.sizes().ends().attention().mlp();
  out.per_layer("post_attention_layernorm.weight", {24});
  out.per_layer("post_feedforward_layernorm.weight", {24});
  out.layer_rule("auto", "post_attention_layernorm.weight", "post_attention_layernorm.weight");
  return out.layer_rule("auto", "post_mlp_layernorm.weight", "post_feedforward_layernorm.weight");
}

TEST(RulesAlone, LayersThatNormBehindTheirModulesAreNotRefuted) {
  const NewModel model = post_norm();
  const AppliedRules applied = model.applied();
  EXPECT_EQ(told(applied), Told{kOpenList});
  EXPECT_EQ(unaccounted(model, applied), Told{});
}

TEST(RulesAlone, ANormThatMostLayersHaveIsMissedInTheOthers) {
  NewModel model = NewModel::plain();
  model.headers.erase("model.layers.1.input_layernorm.weight");
  const Told all = told(model.applied());
  EXPECT_NE(std::find(all.begin(), all.end(),
                      "fault BV1004 decoder.layers.1.self_attention.linear_qkv.layer_norm_weight"),
            all.end());
}

/// NemotronH: each layer is one block, and the pattern is the only number of layers.
NewModel hybrid() {
  NewModel out;
  out.sizes();
  out.config.erase("num_hidden_layers");
  out.config.update({{"hybrid_override_pattern", "M*-"},
                     {"mamba_num_heads", 4},
                     {"mamba_head_dim", 4},
                     {"ssm_state_size", 4},
                     {"n_groups", 2}});
  out.ends();
  out.per_layer("norm.weight", {24});
  out.per_layer("mixer.in_proj.weight", {16 + 16 + 8 + 8 + 4, 24}, 0, 1);
  out.per_layer("mixer.out_proj.weight", {24, 16}, 0, 1);
  out.per_layer("mixer.conv1d.weight", {32, 1, 4}, 0, 1);
  for (const char* vector : {"A_log", "D", "dt_bias"}) {
    out.per_layer(std::string("mixer.") + vector, {4}, 0, 1);
    out.layer_rule("column", std::string("mixer.") + vector, std::string("mixer.") + vector);
  }
  out.layer_rule("mamba_in_proj", "mixer.in_proj.weight", "mixer.in_proj.weight");
  out.layer_rule("row", "mixer.out_proj.weight", "mixer.out_proj.weight");
  out.layer_rule("mamba_conv1d", "mixer.conv1d.weight", "mixer.conv1d.weight");
  out.layer_rule("auto", "mixer.in_proj.layer_norm_weight", "norm.weight");
  out.per_layer("mixer.q_proj.weight", {32, 24}, 1, 2);
  out.per_layer("mixer.k_proj.weight", {16, 24}, 1, 2);
  out.per_layer("mixer.v_proj.weight", {16, 24}, 1, 2);
  out.per_layer("mixer.o_proj.weight", {24, 32}, 1, 2);
  out.layer_rule(
      "qkv", "self_attention.linear_qkv.weight",
      {{"q", "mixer.q_proj.weight"}, {"k", "mixer.k_proj.weight"}, {"v", "mixer.v_proj.weight"}});
  out.layer_rule("auto", "self_attention.linear_proj.weight", "mixer.o_proj.weight");
  out.layer_rule("auto", "self_attention.linear_qkv.layer_norm_weight", "norm.weight");
  out.per_layer("mixer.up_proj.weight", {40, 24}, 2, 3);
  out.per_layer("mixer.down_proj.weight", {24, 40}, 2, 3);
  out.layer_rule("auto", "mlp.linear_fc1.weight", "mixer.up_proj.weight");
  out.layer_rule("auto", "mlp.linear_fc2.weight", "mixer.down_proj.weight");
  return out.layer_rule("auto", "mlp.linear_fc1.layer_norm_weight", "norm.weight");
}

TEST(RulesAlone, LayersOfOneBlockEachAreNotRefuted) {
  const NewModel model = hybrid();
  const AppliedRules applied = model.applied();
  EXPECT_EQ(told(applied), Told{kOpenList});
  EXPECT_EQ(unaccounted(model, applied), Told{});
  EXPECT_EQ(applied.model.geometry.get("num_hidden_layers"), 3);
  EXPECT_EQ(applied.model.geometry.origin.at("num_hidden_layers"),
            "the length of hybrid_override_pattern");
}

}  // namespace
}  // namespace bv::foreign

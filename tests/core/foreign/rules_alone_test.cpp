// Rules for architectures that no family knows: what is a fault, what is a doubt. The models are
// those of registries of Megatron-Bridge 0.6.2 that were refuted wrongly.

#include "tests/core/foreign/new_model.hpp"

namespace bv::foreign {
namespace {

using namespace test;
using Told = std::vector<std::string>;

TEST(RulesAlone, APlainModelLeavesOnlyTheListOfParametersOpen) {
  const NewModel model = NewModel::plain();
  const AppliedRules applied = model.applied();
  EXPECT_EQ(told(applied), Told{kOpenList});
  EXPECT_EQ(unaccounted(model, applied), Told{});
  EXPECT_EQ(applied.model.mappings.size(), 3U + 3U * 6U);
}

TEST(RulesAlone, AListOfParametersDecidesTheNames) {
  NewModel model = NewModel::plain();
  json list = json::array();
  for (const model::Mapping& mapping : model.applied().model.mappings) {
    list.push_back(model.applied().model.megatron_name(mapping));
  }
  model.extra["model"]["parameters"] = list;
  EXPECT_EQ(told(model.applied()), Told{});
  // The provider builds a norm that no rule fills: Megatron-Core fuses one into linear_q_proj.
  model.extra["model"]["parameters"].push_back(
      "decoder.layers.0.self_attention.linear_q_proj.layer_norm_weight");
  EXPECT_EQ(told(model.applied()),
            Told{"fault BV1003 decoder.layers.0.self_attention.linear_q_proj.layer_norm_weight"});
}

TEST(RulesAlone, AListedShapeThatTheRuleDoesNotMakeIsRefuted) {
  NewModel model = NewModel::plain();
  json list = json::array();
  const AppliedRules whole = model.applied();
  for (const model::Mapping& mapping : whole.model.mappings) {
    const std::string name = whole.model.megatron_name(mapping);
    list.push_back(name == "output_layer.weight"         ? json::array({name, {96, 24}})  // padded
                   : name.ends_with("linear_fc2.weight") ? json::array({name, {24, 41}})
                                                         : json(name));
  }
  model.extra["model"]["parameters"] = list;
  EXPECT_EQ(told(model.applied()), Told{"refuted BV2001 decoder.layers.0.mlp.linear_fc2.weight"});
}

TEST(RulesAlone, AParameterThatEveryModuleOfASortHasIsMissed) {
  for (const char* end : {"linear_proj.weight", "linear_fc2.weight"}) {
    NewModel model = NewModel::plain();
    model.forget(end);
    const Told all = told(model.applied());
    EXPECT_TRUE(std::any_of(all.begin(), all.end(), [&](const std::string& one) {
      return one.starts_with("fault BV1003") && one.ends_with(end);
    })) << end;
  }
}

/// MiniMax-M3 keeps the size of experts in intermediate_size; dense layers have a field of their
/// own.
TEST(RulesAlone, AFieldThatNoTensorOfARuleHasIsInDoubt) {
  NewModel model = NewModel::plain();
  model.config["intermediate_size"] = 16;
  model.config["dense_intermediate_size"] = 40;
  const AppliedRules applied = model.applied();
  EXPECT_TRUE(applied.model.faults.empty());
  const Told all = told(applied);
  ASSERT_EQ(all.size(), 2U);
  EXPECT_EQ(all[0], kOpenList);
  EXPECT_TRUE(all[1].starts_with("undecided BV7026 ")) << all[1];
  EXPECT_NE(all[1].find("intermediate_size=16"), std::string::npos) << all[1];
  EXPECT_EQ(unaccounted(model, applied), Told{});
}

/// A tensor that disagrees with a field which others agree with is no doubt about the field.
TEST(RulesAlone, OneTensorOfAnotherSizeIsNoDoubt) {
  NewModel model = NewModel::plain();
  model.headers["model.layers.1.mlp.down_proj.weight"].shape = {24, 48};
  EXPECT_EQ(told(model.applied()), Told{kOpenList});  // the claim shapes refutes it
}

/// BailingMoeV2, SarvamMoE: qkv in one tensor, in a text model. Our table asked for vision heads.
TEST(RulesAlone, OneTensorForQkvInATextModelTakesTheNumbersOfTheTextModel) {
  NewModel model;
  model.sizes().ends().mlp().norms();
  model.per_layer("attention.query_key_value.weight", {64, 24});
  model.per_layer("attention.dense.weight", {24, 32});
  model.layer_rule("ConcatenatedQKVMapping", "self_attention.linear_qkv.weight",
                   "attention.query_key_value.weight");
  model.layer_rule("auto", "self_attention.linear_proj.weight", "attention.dense.weight");
  const AppliedRules applied = model.applied();
  EXPECT_EQ(told(applied), Told{kOpenList});
  for (const model::Mapping& mapping : applied.model.mappings) {
    if (mapping.rule->kind == "qkv_concat") {
      EXPECT_EQ(mapping.rule->axes.at("d"), "head_dim");
    }
  }
}

TEST(RulesAlone, ANumberThatTheConfigDoesNotGiveIsNoFaultOfTheRule) {
  NewModel model = NewModel::plain();
  model.tensor("visual.blocks.0.attn.qkv.weight", {48, 16});
  model.rule("qkv_concat", "vision_model.decoder.layers.*.self_attention.linear_qkv.weight",
             "visual.blocks.*.attn.qkv.weight");
  EXPECT_EQ(told(model.applied()),
            (Told{kOpenList,
                  "undecided BV7026 "
                  "vision_model.decoder.layers.0.self_attention.linear_qkv.weight"}));
  model.config["vision_config"] = {{"num_heads", 4}};
  EXPECT_EQ(told(model.applied()), Told{kOpenList});
}

/// Qwen3-Omni: only language_model. was tried as a prefix, and the config is two levels deep.
TEST(RulesAlone, PrefixAndConfigLevelAreThoseOfTheTextModel) {
  NewModel model;
  model.m = "thinker.language_model.decoder.layers.*.";
  model.h = "thinker.model.layers.*.";
  model.sizes().attention().mlp().norms();
  model.tensor("thinker.model.embed_tokens.weight", {92, 24});
  model.tensor("thinker.model.norm.weight", {24});
  model.tensor("thinker.lm_head.weight", {92, 24});
  const std::string prefix = "thinker.language_model.";
  model.rule("auto", prefix + "embedding.word_embeddings.weight",
             "thinker.model.embed_tokens.weight");
  model.rule("auto", prefix + "decoder.final_layernorm.weight", "thinker.model.norm.weight");
  model.rule("auto", prefix + "output_layer.weight", "thinker.lm_head.weight");
  model.tensor("thinker.visual.patch.weight", {16, 8});
  model.rule("replicated", "thinker.visual.**", "thinker.visual.**");
  json text = model.config;
  text.erase("architectures");
  model.config = {{"architectures", {"NewOmni"}},
                  {"model_type", "new_omni"},
                  {"thinker_config", {{"text_config", text}}}};
  const AppliedRules applied = model.applied();
  EXPECT_EQ(told(applied), Told{kOpenList});
  EXPECT_EQ(unaccounted(model, applied), Told{});
  EXPECT_EQ(applied.model.geometry.origin.at("hidden_size"),
            "thinker_config.text_config.hidden_size");
  EXPECT_TRUE(makes(applied, "thinker.visual.patch.weight"));
}

/// ExaoneMoe, HYV3: layouts were called legal that the shared experts forbid.
TEST(RulesAlone, TensorsOfAnyRuleBoundTheLayouts) {
  NewModel model = NewModel::plain();
  model.per_layer("mlp.shared.gate.weight", {12, 24});
  model.per_layer("mlp.shared.up.weight", {12, 24});
  model.per_layer("mlp.shared.down.weight", {24, 12});
  model.layer_rule("gated_mlp", "mlp.shared_experts.linear_fc1.weight",
                   {{"gate", "mlp.shared.gate.weight"}, {"up", "mlp.shared.up.weight"}});
  model.layer_rule("auto", "mlp.shared_experts.linear_fc2.weight", "mlp.shared.down.weight");
  const AppliedRules applied = model.applied();
  EXPECT_EQ(told(applied), Told{kOpenList});
  const auto& conditions = applied.model.constraints;
  EXPECT_TRUE(std::any_of(conditions.begin(), conditions.end(), [](const family::Constraint& one) {
    return text(one.divisor) == "tp" && one.dividend == "12";
  }));
}

/// Ernie 4.5: 8 of 19 rules have local classes; the others are judged.
TEST(RulesAlone, AnUnknownClassIsUnsupportedOnceAndTheRestIsJudged) {
  NewModel model = NewModel::plain();
  model.per_layer("mlp.bias", {1, 8});
  model.layer_rule("_SqueezeBias", "mlp.router.expert_bias", "mlp.bias");
  model.layer_rule("_SqueezeBias", "mlp.router.other_bias", "mlp.other");
  const AppliedRules applied = model.applied();
  EXPECT_EQ(told(applied),
            (Told{kOpenList, "unsupported BV1016 decoder.layers.*.mlp.router.expert_bias"}));
  EXPECT_EQ(unaccounted(model, applied), Told{});
  for (const OpenQuestion& question : applied.open) {
    if (question.code == Code::RuleKindUnknown) {
      EXPECT_EQ(question.hf.size(), 3U);
      EXPECT_EQ(question.rule, "r9");
      const auto also = [](const std::string& fact) {
        return fact.starts_with("also rule r10 (");
      };
      EXPECT_EQ(std::ranges::count_if(question.facts, also), 1) << question.facts[0];
    }
  }
}

TEST(RulesAlone, AnAutoRuleOnAnUnknownModuleIsUnsupportedUnlessListed) {  // GLM-5's indexer
  NewModel model = NewModel::plain();
  model.per_layer("self_attn.indexer.wq.weight", {8, 24});
  model.layer_rule("auto", "self_attention.indexer.linear_wq.weight",
                   "self_attn.indexer.wq.weight");
  const AppliedRules applied = model.applied();
  EXPECT_EQ(told(applied),
            (Told{kOpenList,
                  "unsupported BV1017 decoder.layers.*.self_attention.indexer.linear_wq.weight"}));
  json list = json::array();
  for (const model::Mapping& mapping : NewModel::plain().applied().model.mappings) {
    list.push_back(NewModel::plain().applied().model.megatron_name(mapping));
  }
  for (int i = 0; i < 3; ++i) {
    list.push_back(
        {{"name", fmt::format("decoder.layers.{}.self_attention.indexer.linear_wq.weight", i)},
         {"shape", {8, 24}},
         {"parallelism", "replicated"}});
  }
  model.extra["model"]["parameters"] = list;
  EXPECT_EQ(told(model.applied()), Told{});
}

/// FalconH1: a rule for a parameter that does not exist ended the run.
TEST(RulesAlone, ARuleThatFindsNothingEndsNothing) {
  NewModel model = NewModel::plain();
  model.layer_rule("row", "mlp.linear_fc1_up.weight", "mlp.nothing.weight");
  EXPECT_EQ(told(model.applied()), Told{kOpenList});
  model.layer_rule("auto", "mlp.linear_fc1_down.weight", "mlp.nothing.weight");
  EXPECT_EQ(told(model.applied()),
            (Told{kOpenList, "unsupported BV1017 decoder.layers.*.mlp.linear_fc1_down.weight"}));
}

/// The list says that no model has the parameter: what the rule would do does not matter.
TEST(RulesAlone, ARuleOfAnUnknownClassForAParameterThatNoModelHasIsNoQuestion) {
  NewModel model = NewModel::plain();
  json list = json::array();
  const AppliedRules whole = model.applied();
  for (const model::Mapping& mapping : whole.model.mappings) {
    list.push_back(whole.model.megatron_name(mapping));
  }
  model.extra["model"]["parameters"] = list;
  model.layer_rule("NobodyKnowsThis", "mlp.linear_fc1_up.weight", "mlp.nothing.weight");
  EXPECT_EQ(told(model.applied()), Told{});
  model.extra["model"]["parameters"].push_back("decoder.layers.0.mlp.linear_fc1_up.weight");
  EXPECT_EQ(told(model.applied()),
            Told{"unsupported BV1016 decoder.layers.*.mlp.linear_fc1_up.weight"});
}

/// Megatron-Bridge's maybe_modify_loaded_hf_weight: MiMo exchanges the halves of input_proj there.
TEST(RulesAlone, ARuleWhoseTensorsTheBridgeChangesFirstIsNotJudged) {
  NewModel model = NewModel::plain();
  model.extra["hooks"] = {{"maybe_modify_loaded_hf_weight", "base"}, {"changes", {"r0"}}};
  EXPECT_EQ(told(model.applied()), Told{kOpenList});  // the base class changes nothing
  model.extra["hooks"]["maybe_modify_loaded_hf_weight"] = "MimoBridge";
  model.extra["hooks"]["changes"] = json::array();
  EXPECT_EQ(told(model.applied()), Told{kOpenList});
  model.extra["hooks"]["changes"] = {"r0"};
  const Told one = told(model.applied());
  EXPECT_TRUE(std::any_of(one.begin(), one.end(), [](const std::string& line) {
    return line.starts_with("unsupported BV1021");
  })) << one.size();
  model.extra["hooks"]["changes"] = nullptr;
  const Told untried = told(model.applied());
  EXPECT_TRUE(std::any_of(untried.begin(), untried.end(), [](const std::string& line) {
    return line.starts_with("unsupported BV1021");
  }));
}

/// An MTP layer: the modules of a decoder layer again, and four parameters beside them.
NewModel with_mtp() {
  NewModel out = NewModel::plain();
  const json decoder = out.rules;
  for (const json& rule : decoder) {
    const std::string megatron = rule["megatron"];
    if (!megatron.starts_with(out.m)) {
      continue;
    }
    json hf = rule["hf"];
    const auto moved = [&out](json& name) {
      std::string full = name;
      const Shape shape = out.headers.at("model.layers.0." + full.substr(out.h.size())).shape;
      full.replace(full.find('*'), 1, "3");
      out.tensor(full, shape);
      name = full;
    };
    if (hf.is_string()) {
      moved(hf);
    } else {
      for (auto& [role, name] : hf.items()) {
        moved(name);
      }
    }
    out.rule(rule["kind"], "mtp.layers.0.mtp_model_layer." + megatron.substr(out.m.size()), hf);
  }
  out.tensor("model.layers.3.eh_proj.weight", {24, 48});
  out.rule("auto", "mtp.layers.0.eh_proj.weight", "model.layers.3.eh_proj.weight");
  for (const char* norm : {"enorm", "hnorm", "final_layernorm"}) {
    out.tensor(fmt::format("model.layers.3.{}.weight", norm), {24});
    out.rule("auto", fmt::format("mtp.layers.0.{}.weight", norm),
             fmt::format("model.layers.3.{}.weight", norm));
  }
  return out;
}

TEST(RulesAlone, MtpLayersAreJudgedAsTheOthers) {
  const NewModel model = with_mtp();
  const AppliedRules applied = model.applied();
  EXPECT_EQ(told(applied), Told{kOpenList});
  EXPECT_EQ(unaccounted(model, applied), Told{});
  EXPECT_EQ(applied.model.mtp_layers, 1);
  NewModel forgotten = with_mtp();
  forgotten.forget("hnorm.weight");
  const Told all = told(forgotten.applied());
  EXPECT_NE(std::find(all.begin(), all.end(), "fault BV1003 mtp.layers.0.hnorm.weight"), all.end());
}

TEST(RulesAlone, MtpLayersThatAreLeftOutAreAccountedFor) {
  NewModel model = with_mtp();
  model.options.drop_mtp = true;
  const AppliedRules applied = model.applied();
  EXPECT_EQ(told(applied), Told{kOpenList});
  EXPECT_EQ(unaccounted(model, applied), Told{});
  EXPECT_EQ(applied.model.mtp_layers, 0);
}

/// Copies of the vocabulary that MTP layers keep are not unread tensors.
TEST(RulesAlone, StoredCopiesAreComparedAndNotMissed) {
  NewModel model = NewModel::plain();
  model.tensor("model.layers.3.embed_tokens.weight", {92, 24});
  model.tensor("model.layers.3.shared_head.head.weight", {92, 24});
  const AppliedRules applied = model.applied();
  EXPECT_EQ(told(applied), Told{kOpenList});
  EXPECT_EQ(applied.model.must_equal,
            (std::vector<std::pair<std::string, std::string>>{
                {"model.layers.3.embed_tokens.weight", "model.embed_tokens.weight"},
                {"model.layers.3.shared_head.head.weight", "lm_head.weight"}}));
}

TEST(RulesAlone, ATensorThatNoRuleReadsIsAFault) {
  NewModel model = NewModel::plain();
  model.tensor("visual.patch.weight", {16, 8});
  EXPECT_EQ(told(model.applied()), (Told{"fault BV1001 visual.patch.weight", kOpenList}));
}

/// One tensor for all parts of a fused parameter would be counted three times.
TEST(RulesAlone, OneTensorForTwoPartsOfARuleIsRefuted) {
  NewModel model = NewModel::plain();
  for (const char* end : {"k_proj", "v_proj"}) {
    for (int i = 0; i < 3; ++i) {
      model.headers.erase(fmt::format("model.layers.{}.self_attn.{}.weight", i, end));
    }
  }
  json& hf = model.rule_for("linear_qkv.weight")["hf"];
  hf["k"] = hf["q"];
  hf["v"] = hf["q"];
  const AppliedRules applied = model.applied();
  EXPECT_EQ(told(applied),
            (Told{"refuted BV1010 decoder.layers.0.self_attention.linear_qkv.weight", kOpenList}));
  EXPECT_EQ(unaccounted(model, applied), Told{});
}

}  // namespace
}  // namespace bv::foreign

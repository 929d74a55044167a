// Rules for architectures that no family knows: judged by the Megatron modules alone.

#include <fmt/format.h>

#include "tests/e2e/new_model.hpp"

namespace bv::e2e {
namespace {

constexpr const char* kProvable = "shapes,coverage,inverse,placement,bytes";

TEST(RulesAlone, RightRulesAreGreenWhereTheyCanBeProved) {
  for (const NewModel& model : {nova_coder(), nova_moe()}) {
    const Ended ended = model.check(kProvable);
    EXPECT_EQ(ended.code, 0) << ended.all();
    EXPECT_NE(ended.last_line().find("refuted 0  inconclusive 0  unsupported 0"), std::string::npos)
        << ended.last_line();
    EXPECT_EQ(ended.last_line().find("layouts 1 "), std::string::npos) << ended.last_line();
  }
}

/// Which parameters a module has, and whether norms are zero-centred, only a family knows.
TEST(RulesAlone, WhatNobodyKnowsIsInconclusiveWithItsReason) {
  const Ended names = nova_moe().check("names");
  EXPECT_EQ(names.code, 3) << names.all();
  EXPECT_NE(names.last_line().find("refuted 0  inconclusive 1"), std::string::npos)
      << names.last_line();
  EXPECT_NE(names.out.find("no family knows this architecture"), std::string::npos) << names.out;
  EXPECT_NE(names.out.find("self_attention.q_layernorm.weight"), std::string::npos) << names.out;
  const Ended offsets = nova_moe().check("offsets");
  EXPECT_EQ(offsets.code, 3) << offsets.all();
  EXPECT_NE(
      offsets.out.find("whether norms of nova_moe are stored as offsets from one is not known"),
      std::string::npos)
      << offsets.out;
  const Ended forward = nova_moe().check("forward", {"--tp", "1"});
  EXPECT_EQ(forward.code, 3) << forward.all();
  EXPECT_NE(forward.last_line().find("unsupported 1"), std::string::npos) << forward.last_line();
  const Ended all = nova_coder().check("");
  EXPECT_EQ(all.code, 3) << all.all();
  EXPECT_NE(all.last_line().find("refuted 0 "), std::string::npos) << all.last_line();
}

void expect_refuted(const NewModel& model, const std::string& code, const std::string& names) {
  const Ended ended = model.check("");
  EXPECT_EQ(ended.code, 1) << ended.all();
  EXPECT_NE(ended.out.find("error[" + code + "]"), std::string::npos) << code << ended.out;
  EXPECT_NE(ended.out.find(names), std::string::npos) << names << ended.out;
}

TEST(RulesAlone, AForgottenParameterOfAModuleIsRefuted) {
  for (const char* end : {"linear_proj.weight", "router.weight", "output_layer.weight"}) {
    NewModel model = nova_moe();
    model.forget(end);
    expect_refuted(model, "BV1003", end);
  }
  NewModel norm = nova_moe();  // not every layer has this norm, but its tensor is there
  norm.forget("pre_mlp_layernorm.weight");
  expect_refuted(norm, "BV1001", "post_attention_layernorm.weight");
}

TEST(RulesAlone, ForgottenBiasesAreUnusedTensors) {
  NewModel model = nova_coder();
  model.forget("mlp.linear_fc2.bias");
  expect_refuted(model, "BV1001", "model.layers.0.mlp.c_proj.bias");
}

TEST(RulesAlone, ALayerWithoutItsModuleIsRefuted) {
  NewModel model = nova_moe();
  std::erase_if(model.checkpoint.tensors,
                [](const auto& one) { return one.first.starts_with("model.layers.1.self_attn."); });
  expect_refuted(model, "BV1004", "decoder.layers.1.self_attention.linear_qkv.weight");
}

TEST(RulesAlone, AnExpertThatIsNotThereIsRefuted) {
  NewModel model = nova_moe();
  model.checkpoint.tensors.erase("model.layers.2.mlp.experts.7.up_proj.weight");
  expect_refuted(model, "BV1004", "decoder.layers.2.mlp.experts.linear_fc1.weight7");
}

TEST(RulesAlone, AWrongNameIsRefuted) {
  NewModel model = nova_coder();
  model.rule("mlp.linear_fc1.weight").hf = "model.layers.*.mlp.fc_in.weight";
  expect_refuted(model, "BV1004", "decoder.layers.0.mlp.linear_fc1.weight");
}

TEST(RulesAlone, OneTensorForTwoParametersIsRefuted) {
  NewModel model = nova_coder();
  model.rule("linear_fc1.layer_norm_weight").hf = "model.layers.*.input_layernorm.weight";
  expect_refuted(model, "BV1010", "model.layers.0.input_layernorm.weight");
}

/// A field that no tensor agrees with may mean something else here.
TEST(RulesAlone, AConfigThatNoTensorAgreesWithIsInDoubtAndOneThatSomeDoIsNot) {
  NewModel model = nova_moe();
  model.checkpoint.config["num_key_value_heads"] = 4;
  const Ended ended = model.check("names");
  EXPECT_EQ(ended.code, 3) << ended.all();
  EXPECT_NE(ended.out.find("undecided[BV7026]"), std::string::npos) << ended.out;
  NewModel one = nova_moe();
  one.checkpoint.tensors.erase("model.layers.1.self_attn.k_proj.weight");
  add(one.checkpoint, "model.layers.1.self_attn.k_proj.weight", {12, 24});
  expect_refuted(one, "BV2001", "k_proj");
}

/// Gemma 4 and MiMo-V2 have other heads in full attention layers than in sliding ones: by which
/// fields is a guess here. Where nothing in the config sorts the layers so, a size is wrong.
TEST(RulesAlone, SizesThatFollowTheKindsOfLayersAreInDoubtAndOthersAreNot) {
  NewModel model = nova_moe();
  for (int i = 0; i < 3; ++i) {
    const std::string layer = fmt::format("model.layers.{}.self_attn.", i);
    const std::int64_t rows = i == 1 ? 48 : 24;
    for (const char* name : {"q_proj", "k_proj", "v_proj"}) {
      model.checkpoint.tensors.erase(layer + name + ".weight");
      add(model.checkpoint, layer + name + ".weight", {rows, 24});
    }
    model.checkpoint.tensors.erase(layer + "o_proj.weight");
    add(model.checkpoint, layer + "o_proj.weight", {24, rows});
  }
  expect_refuted(model, "BV2001", "q_proj");
  model.checkpoint.config["layer_types"] = {"sliding_attention", "sliding_attention",
                                            "full_attention"};
  expect_refuted(model, "BV2001", "q_proj");
  model.checkpoint.config["layer_types"] = {"sliding_attention", "full_attention",
                                            "sliding_attention"};
  const Ended ended = model.check("");
  EXPECT_EQ(ended.code, 3) << ended.all();
  EXPECT_NE(ended.last_line().find("refuted 0 "), std::string::npos) << ended.last_line();
  EXPECT_NE(ended.flat().find("layers of one kind by layer_types of config.json have one size"),
            std::string::npos)
      << ended.out;
}

/// A rule of a class that only one bridge has makes the parameter all the same: the norm that is
/// fused into it, and its layer, are what they are (MiMoV2FlashQKV).
TEST(RulesAlone, AnUnknownClassDoesNotTakeItsLayersNormAway) {
  NewModel model = nova_moe();
  model.rule("linear_qkv.weight").kind = "MiMoV2FlashQKV";
  const Ended ended = model.check("");
  EXPECT_EQ(ended.code, 3) << ended.all();
  EXPECT_NE(ended.last_line().find("refuted 0 "), std::string::npos) << ended.last_line();
  EXPECT_NE(ended.out.find("unsupported[BV1016]"), std::string::npos) << ended.out;
}

TEST(RulesAlone, WrongPlacementIsRefuted) {
  NewModel row = nova_coder();
  row.rule("linear_proj.weight").kind = "column";
  expect_refuted(row, "BV2001", "self_attention.linear_proj.weight");
  NewModel swapped = nova_moe();
  auto& hf = swapped.rule("linear_fc1.weight*");
  hf.kind = "column_after_concat_pair";
  expect_refuted(swapped, "BV2006", "mlp.experts.linear_fc1.weight");
  NewModel bias = nova_coder();
  bias.rule("linear_fc1.bias").kind = "replicated";
  expect_refuted(bias, "BV2001", "mlp.linear_fc1.bias");
}

/// A parameter of a module that the table does not know is neither right nor wrong.
TEST(RulesAlone, AnUnknownModuleStaysOpen) {
  NewModel model = nova_moe();
  for (int i = 0; i < 3; ++i) {
    add(model.checkpoint, fmt::format("model.layers.{}.mlp.scale", i), {8});
  }
  model.rules.push_back(
      {"replicated", "decoder.layers.*.mlp.expert_scale", "model.layers.*.mlp.scale"});
  const Ended ended = model.check("names");
  EXPECT_EQ(ended.code, 3) << ended.all();
  EXPECT_NE(ended.last_line().find("refuted 0  inconclusive 1"), std::string::npos)
      << ended.last_line();
  EXPECT_NE(ended.out.find("decoder.layers.0.mlp.expert_scale"), std::string::npos) << ended.out;
}

/// The stock q_layernorm of Megatron-Core is over one head; the provider of OLMoE builds an
/// attention of its own, whose norm is over all of them. Without the list of the built model nobody
/// knows which of the two it is: neither green nor refuted.
TEST(RulesAlone, ANormOverAllHeadsIsOpenUntilTheBuiltModelIsListed) {
  NewModel model = nova_moe();
  for (int i = 0; i < 3; ++i) {
    for (const char* norm : {"q_norm", "k_norm"}) {
      add(model.checkpoint, fmt::format("model.layers.{}.self_attn.{}.weight", i, norm), {24});
    }
  }
  for (const char* which : {"q", "k"}) {
    model.rules.push_back(
        {"replicated", fmt::format("decoder.layers.*.self_attention.{}_layernorm.weight", which),
         fmt::format("model.layers.*.self_attn.{}_norm.weight", which)});
  }
  const Ended open = model.check("names,placement", {"--tp", "1,2"});
  EXPECT_EQ(open.code, 3) << open.all();
  EXPECT_NE(open.last_line().find("refuted 0 "), std::string::npos) << open.last_line();
  EXPECT_NE(open.flat().find("a norm of 24 elements is not over one head of 3"), std::string::npos)
      << open.out;
  EXPECT_NE(open.flat().find("list the parameters with their shapes in model.parameters"),
            std::string::npos)
      << open.out;
  for (const int elements : {3, 24}) {
    ordered_json list = ordered_json::array();
    for (const RuleRow& row : model.rules) {
      const bool norm = row.megatron.ends_with("q_layernorm.weight") ||
                        row.megatron.ends_with("k_layernorm.weight");
      for (int i = 0; i < (row.megatron.starts_with("decoder.layers") ? 3 : 1); ++i) {
        std::string name = row.megatron;
        if (const std::size_t star = name.find('*'); star != std::string::npos) {
          name.replace(star, 1, std::to_string(i));
        }
        for (int e = 0; e < (name.ends_with("*") ? 8 : 1); ++e) {
          const std::string one =
              name.ends_with("*") ? name.substr(0, name.size() - 1) + std::to_string(e) : name;
          list.push_back(norm ? ordered_json{{"name", one},
                                             {"shape", {elements}},
                                             {"parallelism", "replicated"}}
                              : ordered_json(one));
        }
      }
    }
    model.extra["model"]["parameters"] = list;
    const Ended listed = model.check("names", {"--tp", "1,2"});
    EXPECT_EQ(listed.code, elements == 3 ? 1 : 0) << elements << listed.all();
    EXPECT_EQ(listed.out.find("error[BV2001]") != std::string::npos, elements == 3) << listed.out;
  }
}

/// The list of the model that was built, and how its norms are stored: nothing is left open but
/// the norms, of which only the rules file speaks.
TEST(RulesAlone, OfANewArchitectureOnlyTheNormsStayOpenWithoutAFamily) {
  NewModel model = nova_moe();
  ordered_json list = ordered_json::array();
  for (const RuleRow& row : model.rules) {
    for (int i = 0; i < (row.megatron.starts_with("decoder.layers") ? 3 : 1); ++i) {
      std::string name = row.megatron;
      if (const std::size_t star = name.find('*'); star != std::string::npos) {
        name.replace(star, 1, std::to_string(i));
      }
      for (int e = 0; e < (name.ends_with("*") ? 8 : 1); ++e) {
        list.push_back(name.ends_with("*") ? name.substr(0, name.size() - 1) + std::to_string(e)
                                           : name);
      }
    }
  }
  model.extra["model"]["parameters"] = list;
  EXPECT_EQ(model.check("").code, 3) << "the norms are not stated";
  model.extra["facts"]["layernorm_zero_centered_gamma"] = false;
  const Ended stated = model.check("");
  EXPECT_EQ(stated.code, 3) << stated.all();
  EXPECT_NE(stated.last_line().find("held 0  refuted 0  inconclusive 3  unsupported 0"),
            std::string::npos)
      << stated.last_line();
  EXPECT_NE(stated.flat().find("only the rules file says how"), std::string::npos) << stated.all();
  const Ended rest = model.check("names,shapes,coverage,inverse,placement");
  EXPECT_EQ(rest.code, 0) << rest.all();
  model.rule("pre_mlp_layernorm.weight").kind = "norm_minus_one";
  const Ended wrong = model.check("offsets");
  EXPECT_EQ(wrong.code, 1) << wrong.all();
  EXPECT_NE(wrong.out.find("BV7027"), std::string::npos) << wrong.out;
  model.rule("pre_mlp_layernorm.weight").kind = "auto";
  model.extra["model"]["parameters"].push_back(
      "decoder.layers.0.self_attention.q_layernorm.weight");
  const Ended missing = model.check("");
  EXPECT_EQ(missing.code, 1) << missing.all();
  EXPECT_NE(missing.out.find("BV1003"), std::string::npos) << missing.out;
}

/// Of a flattened Mistral3, 24 vision tensors were lost with PASS.
TEST(RulesAlone, ConvertWritesEveryTensorOrDoesNotPass) {
  const auto converted = [](const NewModel& model) {
    const TempFolder folder;
    model.write(folder);
    const Ended ended = run({"convert", "--model", folder / "m", "--rules", folder / "r.json",
                             "--to", "megatron", "--tp", "2", "--out", folder / "out"});
    EXPECT_NE(ended.code, 0) << ended.all();
    return ended;
  };
  NewModel unread = nova_moe();
  add(unread.checkpoint, "vision_tower.patch.weight", {8, 4});
  const Ended lost = converted(unread);
  EXPECT_EQ(lost.code, 1) << lost.all();
  EXPECT_NE(lost.out.find("vision_tower.patch.weight"), std::string::npos) << lost.out;
  NewModel local = nova_moe();
  local.rule("router.weight").kind = "_LocalRouter";
  const Ended unjudged = converted(local);
  EXPECT_EQ(unjudged.code, 3) << unjudged.all();
  EXPECT_NE(unjudged.out.find("unsupported[BV1016]"), std::string::npos) << unjudged.out;
  EXPECT_EQ(converted(nova_moe()).code, 3) << "whether there are further parameters is not known";
  NewModel wrong = nova_moe();
  wrong.rule("linear_fc1.weight*").kind = "column_after_concat_pair";
  EXPECT_EQ(converted(wrong).code, 1);
}

/// Without rules the architecture stays unknown.
TEST(RulesAlone, OnlyRulesMakeAnUnknownArchitectureReadable) {
  const TempFolder folder;
  nova_moe().checkpoint.write(folder / "m");
  const Ended ended = run({"check", "--model", folder / "m"});
  EXPECT_EQ(ended.code, 5) << ended.all();
  EXPECT_NE(ended.err.find("BV7010"), std::string::npos) << ended.err;
}

}  // namespace
}  // namespace bv::e2e

// Rules for architectures that no family knows, each right by shape and place, that read another
// parameter's tensor: nothing but names and numbers can show it.

#include <fmt/format.h>

#include "tests/e2e/new_model.hpp"

namespace bv::e2e {
namespace {

void expect_other_source(const NewModel& model, const std::string& said) {
  const Ended ended = model.check("");
  EXPECT_EQ(ended.code, 1) << said << ended.all();
  EXPECT_NE(ended.out.find("error[BV1011]"), std::string::npos) << ended.out;
  EXPECT_NE(ended.flat().find(said), std::string::npos) << said << ended.out;
}

TEST(SourcesAlone, RightRulesReadNothingElse) {
  for (const NewModel& model : {nova_coder(), nova_moe()}) {
    const Ended ended = model.check("");
    EXPECT_EQ(ended.out.find("BV1011"), std::string::npos) << ended.out;
    EXPECT_EQ(ended.flat().find("is stated by the rules alone"), std::string::npos) << ended.out;
  }
}

TEST(SourcesAlone, NormsThatReadEachOthersTensorsAreRefuted) {
  for (NewModel model : {nova_coder(), nova_moe()}) {
    const char* second =
        model.rules.size() == 10 ? "pre_mlp_layernorm.weight" : "linear_fc1.layer_norm_weight";
    std::swap(model.rule("linear_qkv.layer_norm_weight").hf, model.rule(second).hf);
    expect_other_source(model, "read each other's tensors");
  }
}

/// Two rules for single layers in front of the one for all.
TEST(SourcesAlone, LayersThatReadEachOthersTensorsAreRefuted) {
  NewModel model = nova_moe();
  for (int layer = 0; layer < 2; ++layer) {
    model.rules.insert(
        model.rules.begin(),
        {"row", fmt::format("decoder.layers.{}.self_attention.linear_proj.weight", layer),
         fmt::format("model.layers.{}.self_attn.o_proj.weight", 1 - layer)});
  }
  expect_other_source(model,
                      "decoder.layers.1.self_attention.linear_proj.weight is made of "
                      "model.layers.0.self_attn.o_proj.weight");
}

TEST(SourcesAlone, ExpertsThatReadEachOthersTensorsAreRefuted) {
  NewModel model = nova_moe();
  for (int expert = 0; expert < 2; ++expert) {
    model.rules.insert(
        model.rules.begin(),
        {"row", fmt::format("decoder.layers.*.mlp.experts.linear_fc2.weight{}", expert),
         fmt::format("model.layers.*.mlp.experts.{}.down_proj.weight", 1 - expert)});
  }
  expect_other_source(model, "is made of model.layers.0.mlp.experts.0.down_proj.weight");
}

/// A stack under a name that does not say where the gate rows stand: neither order is refuted, and
/// neither is green.
TEST(SourcesAlone, AStackOfGateAndUpUnderAnUnknownNameIsOpenInEitherOrder) {
  for (const char* name : {"up_gate_proj", "w13"}) {
    NewModel model = nova_moe();
    std::erase_if(model.checkpoint.tensors, [](const auto& one) {
      return one.first.ends_with("gate_proj.weight") || one.first.ends_with("up_proj.weight");
    });
    for (int layer = 0; layer < 3; ++layer) {
      add(model.checkpoint, fmt::format("model.layers.{}.mlp.experts.{}", layer, name),
          {8, 32, 24});
    }
    RuleRow& rule = model.rule("linear_fc1.weight*");
    rule.kind = "fused_gated_expert";
    rule.hf = fmt::format("model.layers.*.mlp.experts.{}", name);
    const Ended ended = model.check("placement", {"--tp", "1,2"});
    EXPECT_EQ(ended.code, 3) << ended.all();
    EXPECT_NE(ended.flat().find("no independent statement"), std::string::npos) << ended.out;
  }
}

/// Names that no family has: nobody but the rules says which norm is which.
TEST(SourcesAlone, TensorsOfOneShapeUnderUnknownNamesAreOpen) {
  NewModel model = nova_moe();
  for (int layer = 0; layer < 3; ++layer) {
    for (const auto& [old, own] : {std::pair("input_layernorm", "scale_a"),
                                   std::pair("post_attention_layernorm", "scale_b")}) {
      auto node =
          model.checkpoint.tensors.extract(fmt::format("model.layers.{}.{}.weight", layer, old));
      node.key() = fmt::format("model.layers.{}.{}.weight", layer, own);
      model.checkpoint.tensors.insert(std::move(node));
    }
  }
  model.rule("linear_qkv.layer_norm_weight").hf = "model.layers.*.scale_a.weight";
  model.rule("pre_mlp_layernorm.weight").hf = "model.layers.*.scale_b.weight";
  const Ended ended = model.check("names");
  EXPECT_EQ(ended.code, 3) << ended.all();
  EXPECT_NE(ended.flat().find("is stated by the rules alone"), std::string::npos) << ended.out;
  EXPECT_NE(ended.flat().find("scale_a.weight"), std::string::npos) << ended.out;
}

}  // namespace
}  // namespace bv::e2e

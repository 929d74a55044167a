// Which modules config.json calls quantised, held against what is stored: ignore and targets as
// compressed-tensors matches them (utils/match.py of 0.20.1: match_name), modules_to_not_convert as
// transformers does (quantizers_utils.py of 5.12.1: should_convert_module).

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cstring>
#include <map>
#include <nlohmann/json.hpp>

#include "core/quantised/quantised.hpp"

namespace bv::quantised {
namespace {

using nlohmann::json;
using testing::AllOf;
using testing::ElementsAre;
using testing::HasSubstr;
using testing::IsEmpty;

void add_quantised(const std::string& module, Headers& out) {
  out[module + ".weight"] = {module + ".weight", DType::F8E4M3, {64, 32}};
  out[module + ".weight_scale"] = {module + ".weight_scale", DType::F32, {64, 1}};
}

void add_bf16(const std::string& module, Headers& out) {
  out[module + ".weight"] = {module + ".weight", DType::BF16, {64, 32}};
}

/// Eleven layers, whose up_proj and down_proj are FP8 but for those of layer 1 where it is plain.
Headers layers(const std::string& lead, bool plain) {
  Headers out;
  add_bf16("lm_head", out);
  add_bf16(lead + "embed_tokens", out);
  for (int layer = 0; layer < 11; ++layer) {
    const std::string mlp = lead + "layers." + std::to_string(layer) + ".mlp.";
    for (const char* name : {"up_proj", "down_proj"}) {
      plain&& layer == 1 ? add_bf16(mlp + name, out) : add_quantised(mlp + name, out);
    }
  }
  return out;
}

json compressed(const json& ignore, const json& targets) {
  const json weights = {{"num_bits", 8}, {"type", "float"}, {"strategy", "channel"}};
  return {{"quant_method", "compressed-tensors"},
          {"config_groups", {{"group_0", {{"targets", targets}, {"weights", weights}}}}},
          {"ignore", ignore}};
}

json fp8(const json& left_out, const char* field = "modules_to_not_convert") {
  return {{"quant_method", "fp8"}, {field, left_out}};
}

std::vector<std::string> contradictions_of(const Headers& headers, const json& said) {
  const Source source = find(headers, {{"quantization_config", said}}).value();
  EXPECT_TRUE(can_dequantise(source)) << said;
  return source.contradictions;
}

TEST(SaidModules, QuantisedWeightsThatAreLeftOutAreTold) {
  const Headers all = layers("model.", false);
  EXPECT_THAT(contradictions_of(all, compressed({"lm_head"}, {"Linear"})), IsEmpty());
  EXPECT_THAT(
      contradictions_of(all, compressed({"lm_head", "re:.*layers\\.1\\.mlp.*"}, {"Linear"})),
      ElementsAre("model.layers.1.mlp.down_proj.weight is stored as F8_E4M3 with weight_scale "
                  "[64, 1], although config.json leaves its module as it is (ignore: "
                  "re:.*layers\\.1\\.mlp.*); 1 more module like it. What is stored counts"));
  EXPECT_THAT(contradictions_of(all, compressed({"model.layers.3.mlp.up_proj"}, {"Linear"})),
              ElementsAre(HasSubstr("model.layers.3.mlp.up_proj.weight is stored")));
  EXPECT_THAT(contradictions_of(all, compressed({"Linear"}, {"Linear"})),
              ElementsAre(HasSubstr("21 more modules")));
}

TEST(SaidModules, CompressedTensorsNamesWholeModules) {
  const Headers all = layers("model.", false);
  EXPECT_THAT(contradictions_of(all, compressed({"model.layers.1", "up_proj", "re:up_proj",
                                                 "model.layers.*", "Embedding"},
                                                {"Linear"})),
              IsEmpty());
}

TEST(SaidModules, TransformersNamesStartsAndEndsOfModules) {
  const Headers all = layers("model.", false);
  EXPECT_THAT(contradictions_of(all, fp8({"model.layers.1"})),  // and layer 10, as re.match does
              ElementsAre(HasSubstr("3 more modules")));
  EXPECT_THAT(contradictions_of(all, fp8({"down_proj"})),
              ElementsAre(HasSubstr("(modules_to_not_convert: down_proj); 10 more modules")));
  EXPECT_THAT(contradictions_of(all, fp8({"model.layers.*.up_proj"}, "ignored_layers")),
              ElementsAre(HasSubstr("(ignored_layers: model.layers.*.up_proj); 10 more")));
  EXPECT_THAT(contradictions_of(all, fp8({"layers.1", "lm_head", "mlp"})), IsEmpty());
  EXPECT_THAT(contradictions_of(all, fp8(nullptr)), IsEmpty());
}

/// Whatever is remembered of names that differ in numbers alone.
TEST(SaidModules, NumbersInExpressionsDecide) {
  const Headers all = layers("model.", false);
  for (const auto& [expression, modules] :
       std::map<std::string, std::string>{{"re:.*layers\\..*up_proj", "10 more modules"},
                                          {"re:.*layers\\.1\\.mlp.*", "1 more module like"},
                                          {"re:.*layers\\.1.*", "3 more modules"},
                                          {"re:.*layers\\.\\d\\..*", "19 more modules"},
                                          {"re:.*layers\\...\\..*", "1 more module like"},
                                          {"re:.*layers\\.[0-3]\\..*", "7 more modules"}}) {
    EXPECT_THAT(contradictions_of(all, compressed({expression}, {"Linear"})),
                ElementsAre(HasSubstr(modules)))
        << expression;
  }
}

TEST(SaidModules, GlobsNameModulesOfTheirQuantisers) {
  const Headers all = layers("model.", false);
  const json glob = {"model.layers.2*"};
  EXPECT_THAT(contradictions_of(all, {{"quant_method", "modelopt"}, {"ignore", glob}}),
              ElementsAre(HasSubstr("(ignore: model.layers.2*); 1 more module")));
  EXPECT_THAT(contradictions_of(all, {{"quant_method", "quark"}, {"exclude", glob}}),
              ElementsAre(HasSubstr("(exclude: model.layers.2*); 1 more module")));
  EXPECT_THAT(contradictions_of(all, {{"quant_method", "modelopt"}, {"ignore", {"*.2.mlp.up*"}}}),
              ElementsAre(HasSubstr("up_proj.weight is stored")));
  EXPECT_THAT(contradictions_of(all, {{"quant_method", "modelopt"}, {"ignore", {"layers.2*"}}}),
              IsEmpty());  // a glob is for the whole name
}

TEST(SaidModules, QuantisedWeightsWithoutATargetAreTold) {
  const Headers all = layers("model.", false);
  EXPECT_THAT(contradictions_of(all, compressed(json::array(), {"re:.*up_proj"})),
              ElementsAre(AllOf(HasSubstr("down_proj.weight is stored as F8_E4M3"),
                                HasSubstr("has no target in config_groups that takes its module"),
                                HasSubstr("10 more modules"))));
  EXPECT_THAT(contradictions_of(all, compressed(json::array(), {"re:(?!x)", "re:.*up_proj"})),
              IsEmpty());  // an expression that is not understood may take it
  EXPECT_THAT(contradictions_of(all, compressed(json::array(), {"LlamaMLP"})), IsEmpty());
}

TEST(SaidModules, PlainWeightsOfQuantisedModulesAreTold) {
  const Headers some = layers("model.", true);
  const auto told = ElementsAre(
      AllOf(HasSubstr("model.layers.1.mlp.down_proj.weight is stored as BF16 without a scale, "
                      "although config.json says that its module is quantised ("),
            HasSubstr("; 1 more module like it")));
  EXPECT_THAT(contradictions_of(some, compressed({"lm_head"}, {"Linear"})), told);
  EXPECT_THAT(contradictions_of(some, fp8(nullptr)), told);
  EXPECT_THAT(contradictions_of(some, fp8({"model.layers.2x"})), told);
  EXPECT_THAT(contradictions_of(some, {{"quant_method", "modelopt"}}), told);
  EXPECT_THAT(contradictions_of(some, json::object()), IsEmpty());  // nothing is said
}

TEST(SaidModules, PlainWeightsThatAreLeftOutOrNoTargetTakesAreNot) {
  const Headers some = layers("model.", true);
  for (const char* entry : {"re:.*layers\\.1\\.mlp.*", "re:(?!x)", "model.layers.1.mlp.*", "MoE"}) {
    EXPECT_THAT(contradictions_of(some, compressed({entry}, {"Linear"})), IsEmpty()) << entry;
  }
  EXPECT_THAT(contradictions_of(some, compressed(json::array(), {"re:.*layers.(0|[2-9]|10).mlp"})),
              IsEmpty());
  for (const char* entry : {"model.layers.1.", "mlp.up_proj", "model.layers.1.mlp"}) {
    EXPECT_THAT(contradictions_of(some, fp8({entry, "model.layers.1.mlp.down_proj"})),
                testing::Each(testing::Not(HasSubstr("without a scale"))))
        << entry;
  }
  EXPECT_THAT(
      contradictions_of(some, {{"quant_method", "modelopt"}, {"quant_algo", "MIXED_PRECISION"}}),
      IsEmpty());
}

TEST(SaidModules, ListsOfSeveralQuantisersSayNothing) {
  json said = fp8({"model.layers.1.mlp"});
  EXPECT_THAT(contradictions_of(layers("model.", false), said), testing::SizeIs(1));
  said["quant_algo"] = "MIXED_PRECISION";
  EXPECT_THAT(contradictions_of(layers("model.", false), said), IsEmpty());
}

TEST(SaidModules, TargetsOfModeloptMayNameWhatHoldsTheWeights) {
  json said = compressed(json::array(), {"model.layers.1.mlp"});
  EXPECT_THAT(contradictions_of(layers("model.", false), said), testing::SizeIs(1));
  said["quant_method"] = "modelopt";
  EXPECT_THAT(contradictions_of(layers("model.", false), said), IsEmpty());
}

TEST(SaidModules, NamesOfOtherVersionsLeaveAPlainWeightOut) {
  const Headers some = layers("language_model.model.", true);
  for (const char* module : {"model.language_model.layers.1.mlp.up_proj",
                             "language_model.model.layers.1.mlp.up_proj", "layers.1.mlp.up_proj"}) {
    const std::string down = std::string(module, std::strlen(module) - 7) + "down_proj";
    EXPECT_THAT(contradictions_of(some, compressed({module, down}, {"Linear"})), IsEmpty());
    EXPECT_THAT(contradictions_of(some, fp8({module, down})), IsEmpty());
  }
}

TEST(SaidModules, FieldsThatCannotBeReadAreUnsupported) {
  const Headers all = layers("model.", false);
  const auto undefined = [&all](const json& said) {
    return find(all, {{"quantization_config", said}}).value().groups[0].weights[0].undefined;
  };
  EXPECT_EQ(undefined("fp8"),
            "config.json says quantization_config \"fp8\", which is not an object");
  EXPECT_EQ(undefined({1}), "config.json says quantization_config [1], which is not an object");
  json said = compressed({"lm_head"}, {"Linear"});
  said["config_groups"] = "x";
  EXPECT_EQ(undefined(said), "config.json says config_groups \"x\", which is not an object");
  said["config_groups"] = {{"group_0", 3}};
  EXPECT_EQ(undefined(said), "config.json says group_0 3, which is not an object");
  said["config_groups"] = {{"group_0", {{"targets", {"Linear"}}, {"weights", "int4"}}}};
  EXPECT_EQ(undefined(said), "config.json says weights \"int4\", which is not an object");
  EXPECT_EQ(undefined(compressed({"lm_head"}, "Linear")),
            "config.json says targets \"Linear\", which is not a list of names");
  EXPECT_EQ(undefined(compressed("lm_head", {"Linear"})),
            "config.json says ignore \"lm_head\", which is not a list of names");
  EXPECT_EQ(undefined(fp8({1, 2})),
            "config.json says modules_to_not_convert [1,2], which is not a list of names");
  said["config_groups"] = {{"group_0", {{"targets", {"Linear"}}, {"weights", nullptr}}},
                           {"FP8", {"Linear"}}};  // activations alone; a scheme by its name
  EXPECT_EQ(undefined(said), "");
  EXPECT_EQ(undefined(nullptr), "");
}

}  // namespace
}  // namespace bv::quantised

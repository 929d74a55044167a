// HF tensors that Megatron has no parameter for, and parameters that HF has no tensor for: each is
// named, with what in Megatron stands against it.

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "core/family/family.hpp"
#include "tests/core/model/resolved.hpp"
#include "tests/support/files.hpp"
#include "tests/support/library.hpp"

namespace bv::model::test {
namespace {

using nlohmann::json;
using testing::AllOf;
using testing::ElementsAre;
using testing::HasSubstr;

/// Two layers of one norm, of which the second may have a bias that Megatron has no place for, and
/// one weight for each of `heads`.
family::FamilyPtr small_family() {
  return family::parse_family(R"({
    "schema": "bridge-family/1", "family": "small", "architectures": ["SmallForCausalLM"],
    "config": {"level": ""},
    "symbols": {
      "num_hidden_layers": {"field": "num_hidden_layers"},
      "first": {"field": "first", "default": 1, "min": 0},
      "heads": {"field": "heads", "default": 2},
      "biased": {"field": "biased", "flag": true, "default": false},
      "per_head": {"field": "per_head", "flag": true, "default": false},
      "gain": {"field": "gain", "flag": true, "default": true},
      "scaled": {"field": "scaled", "flag": true, "default": false}
    },
    "layer_flags": {"early": {"below": "first"}},
    "prefixes": {"M": "", "HF": "model."},
    "sections": [{"stage": "decoder", "over": {"i": "num_hidden_layers"}, "rules": [
      {"kind": "replicated", "megatron": "decoder.layers.{i}.norm.weight", "hf": "{HF}layers.{i}.norm.weight"},
      {"kind": "replicated", "megatron": "decoder.layers.{i}.gain", "hf": "{HF}layers.{i}.gain", "when": ["gain"]},
      {"kind": "no_place", "hf": "{HF}layers.{i}.norm.bias", "when": ["biased", "!early"], "because": "Megatron's norm has no bias"},
      {"kind": "no_place", "hf": "{HF}layers.{i}.heads.{e}.weight", "over": {"e": "heads"}, "when": ["per_head"], "because": "Megatron has one weight"},
      {"kind": "unread", "hf": "{HF}layers.{i}.old.{e}", "over": {"e": "heads"}, "when": ["early"], "because": "old versions read it"},
      {"kind": "no_source", "megatron": "decoder.layers.{i}.gain", "hf": "{HF}layers.{i}.gain", "when": ["!gain"], "because": "Megatron always has a gain"},
      {"kind": "replicated", "megatron": "decoder.layers.{i}.scale", "hf": "{HF}layers.{i}.scale", "when": ["scaled"]},
      {"kind": "no_source", "megatron": "decoder.layers.{i}.scale", "hf": "{HF}layers.{i}.scale", "when": ["scaled", "!early"], "because": "the class has none"}
    ]}]})",
                              "small.json")
      .value();
}

Headers small_headers(const std::vector<std::string>& more = {}) {
  Headers headers;
  for (const char* layer : {"0", "1", "2"}) {
    add(headers, std::string("model.layers.") + layer + ".norm.weight");
    add(headers, std::string("model.layers.") + layer + ".gain");
  }
  for (const std::string& name : more) {
    add(headers, "model.layers." + name, {28});
  }
  return headers;
}

Model small(json config, const Headers& headers, const ResolveOptions& options = {}) {
  config["num_hidden_layers"] = 3;
  return must(resolve(small_family(), config, headers, options));
}

TEST(OneSided, TensorsWithoutAPlaceAreNamedWithTheReason) {
  const Model model = small({{"biased", true}}, small_headers({"1.norm.bias", "2.norm.bias"}));
  ASSERT_EQ(model.faults.size(), 1U);
  const NameFault& fault = model.faults[0];
  EXPECT_EQ(fault.code, Code::HfTensorUnused);
  EXPECT_EQ(fault.message,
            "2 HF tensors model.layers.*.norm.bias have no place in Megatron: Megatron's norm has "
            "no bias");
  EXPECT_THAT(fault.subjects, ElementsAre("model.layers.1.norm.bias", "model.layers.2.norm.bias"));
  EXPECT_EQ(fault.found, "model.layers.1.norm.bias [28]");
  EXPECT_THAT(fault.help, HasSubstr("--exclude 'model.layers.*.norm.bias'"));
  EXPECT_EQ(model.mappings.size(), 6U);  // the others are mapped as ever
}

TEST(OneSided, OnlyLayersWhereTheConditionHoldsHaveThem) {
  const Model model =
      small({{"biased", true}}, small_headers({"0.norm.bias", "1.norm.bias", "2.norm.bias"}));
  ASSERT_EQ(model.faults.size(), 2U);
  EXPECT_THAT(model.faults[0].subjects, testing::SizeIs(2));
  EXPECT_THAT(model.faults[1].message, HasSubstr("model.layers.0.norm.bias"));  // nobody's tensor
}

TEST(OneSided, WhatTheConfigAsksForAndTheFilesLackIsSaid) {
  const Model model = small({{"biased", true}}, small_headers({"2.norm.bias"}));
  ASSERT_EQ(model.faults.size(), 2U);
  EXPECT_EQ(model.faults[1].code, Code::HfTensorMissing);
  EXPECT_THAT(model.faults[1].message,
              AllOf(HasSubstr("config.json asks for HF tensor model.layers.1.norm.bias"),
                    HasSubstr("biased=true"), HasSubstr("is not there")));
}

TEST(OneSided, ATensorThatTheConfigDeniesIsTheConfigsFault) {
  const Model model = small({{"biased", false}}, small_headers({"1.norm.bias", "2.norm.bias"}));
  ASSERT_EQ(model.faults.size(), 1U);
  EXPECT_THAT(model.faults[0].message, HasSubstr("config.json rules them out (biased"));
}

TEST(OneSided, OneTensorAHeadIsCounted) {
  const Model model =
      small({{"per_head", true}},
            small_headers({"0.heads.0.weight", "0.heads.1.weight", "1.heads.0.weight",
                           "1.heads.1.weight", "2.heads.0.weight", "2.heads.1.weight"}));
  ASSERT_EQ(model.faults.size(), 1U);
  EXPECT_THAT(model.faults[0].message,
              HasSubstr("6 HF tensors model.layers.*.heads.*.weight have no place"));
}

TEST(OneSided, AParameterWithoutASourceIsNamed) {
  Headers headers;
  for (const char* layer : {"0", "1", "2"}) {
    add(headers, std::string("model.layers.") + layer + ".norm.weight");
  }
  const Model model = small({{"gain", false}}, headers);
  ASSERT_EQ(model.faults.size(), 1U);
  EXPECT_EQ(model.faults[0].code, Code::MegatronParamUnfilled);
  EXPECT_EQ(model.faults[0].message,
            "3 Megatron parameters decoder.layers.*.gain have no HF tensor (gain=false): Megatron "
            "always has a gain");
  EXPECT_EQ(model.faults[0].found, "no HF tensor model.layers.*.gain");
}

TEST(OneSided, ARowBesideARuleSaysWhyItsTensorIsAbsent) {
  const auto scaled = [](const Headers& headers) { return small({{"scaled", true}}, headers); };
  EXPECT_TRUE(scaled(small_headers({"0.scale", "1.scale", "2.scale"})).faults.empty());
  const Model some = scaled(small_headers({"0.scale", "2.scale"}));
  ASSERT_EQ(some.faults.size(), 1U);
  EXPECT_EQ(some.faults[0].code, Code::MegatronParamUnfilled);
  EXPECT_THAT(some.faults[0].subjects, ElementsAre("decoder.layers.1.scale"));
  const Model none = scaled(small_headers());  // of layer 0 the row says nothing
  ASSERT_EQ(none.faults.size(), 2U);
  EXPECT_THAT(none.faults[0].subjects,
              ElementsAre("decoder.layers.1.scale", "decoder.layers.2.scale"));
  EXPECT_EQ(none.faults[1].code, Code::HfTensorMissing);
}

TEST(OneSided, WhatNobodyReadsIsLeftOutWhereItIsThere) {
  EXPECT_TRUE(small({}, small_headers()).ignored.empty());
  const Model model = small({}, small_headers({"0.old.0", "0.old.1", "1.old.0"}));
  EXPECT_THAT(model.ignored, ElementsAre("model.layers.0.old.0", "model.layers.0.old.1"));
  EXPECT_EQ(model.why_unused("model.layers.0.old.1"), "old versions read it");
  EXPECT_EQ(reason(model, "ignored"), "old versions read it");
  ASSERT_EQ(model.faults.size(), 1U);  // layer 1 is none of those
  EXPECT_EQ(model.faults[0].subject, "model.layers.1.old.0");
  ResolveOptions options;
  options.match = {"*.norm.weight"};
  EXPECT_TRUE(small({}, small_headers({"0.old.0"}), options).ignored.empty());
}

TEST(OneSided, WhatIsLeftOutOnPurposeIsNoFault) {
  ResolveOptions options;
  options.left_out = {"model.layers.1.norm.bias", "model.layers.2.norm.bias"};
  EXPECT_TRUE(small({{"biased", true}}, small_headers(), options).faults.empty());
  options = {};
  options.match = {"*.norm.weight"};
  EXPECT_TRUE(small({{"biased", true}}, small_headers({"1.norm.bias", "2.norm.bias"}), options)
                  .faults.empty());
}

TEST(OneSided, AConfigAloneSaysItToo) {
  ResolveOptions options;
  options.config_only = true;
  const Model model = small({{"biased", true}}, {}, options);
  ASSERT_EQ(model.faults.size(), 1U);
  EXPECT_THAT(model.faults[0].message, HasSubstr("which have no place in Megatron: Megatron's"));
}

Model of_fixture(const std::string& name, const char* field, bool value) {
  json config = support::read_json(BV_FIXTURES "/configs/" + name + ".json").at("config");
  (config.contains("text_config") ? config["text_config"] : config)[field] = value;
  ResolveOptions options;
  options.config_only = true;
  return must(resolve(choose_family(config, support::families()).value(), config, {}, options));
}

/// What Megatron-Bridge builds whatever the config says.
TEST(OneSided, BiasesThatGptOssLacksAreNamedByTheirParameters) {
  const Model model = of_fixture("gpt_oss", "attention_bias", false);
  ASSERT_FALSE(model.faults.empty());
  for (const auto& fault : model.faults) {
    EXPECT_EQ(fault.code, Code::MegatronParamUnfilled);
    EXPECT_THAT(fault.message, HasSubstr("whatever attention_bias says"));
  }
  EXPECT_THAT(of_fixture("gpt_oss", "attention_bias", true).faults, testing::IsEmpty());
}

/// Megatron-Core builds one norm of one head's size for all heads of a layer: what has one weight
/// for each head has no place, whatever the family.
TEST(OneSided, NormsOfSingleHeadsHaveNoPlaceAndOneForAllHeadsHas) {
  for (const auto& [family, field] :
       {std::pair{"cohere", "use_qk_norm"}, std::pair{"stablelm", "qk_layernorm"}}) {
    const Model model = of_fixture(family, field, true);
    ASSERT_EQ(model.faults.size(), 1U) << family;
    EXPECT_EQ(model.faults[0].code, Code::HfTensorMissing);
    EXPECT_THAT(model.faults[0].message,
                HasSubstr("Megatron-Core builds one query norm and one key norm"));
    EXPECT_THAT(of_fixture(family, field, false).faults, testing::IsEmpty());
  }
  EXPECT_THAT(of_fixture("phi", "qk_layernorm", true).faults, testing::IsEmpty());
}

/// The class of transformers has no such norms, and Megatron-Bridge builds them by the field.
TEST(OneSided, NormsThatTheClassOfGlm45vHasNotAreNamedByTheirParameters) {
  const Model model = of_fixture("glm4v_moe", "use_qk_norm", true);
  ASSERT_EQ(model.faults.size(), 1U);
  EXPECT_EQ(model.faults[0].code, Code::MegatronParamUnfilled);
  EXPECT_THAT(model.faults[0].message, HasSubstr("--set text_config.use_qk_norm=false"));
  EXPECT_EQ(model.faults[0].subjects.front(),
            "language_model.decoder.layers.0.self_attention.q_layernorm.weight");
}

/// GLM-5 whose config.json has a list of layers with an indexer, and numbers that say another one:
/// Megatron reads the numbers.
TEST(OneSided, IndexersThatOnlyOneSideHasAreNamed) {
  json config = golden_config("glm_moe_dsa");  // indexers in layers 0, 1 and 3
  config["index_skip_topk_offset"] = 0;        // Megatron: 0 and 2
  const Model model = must(resolve_with(config, golden_headers("glm_moe_dsa")));
  ASSERT_EQ(model.faults.size(), 2U);
  EXPECT_EQ(model.faults[0].code, Code::HfTensorUnused);
  EXPECT_EQ(model.faults[0].subjects.size(), 10U);
  EXPECT_THAT(model.faults[0].subjects,
              testing::Contains("model.layers.3.self_attn.indexer.wk.weight"));
  EXPECT_THAT(model.faults[0].message,
              HasSubstr("have no place in Megatron: Megatron-Core counts"));
  EXPECT_EQ(model.faults[1].code, Code::MegatronParamUnfilled);
  EXPECT_EQ(model.faults[1].subjects.size(), 5U);
  EXPECT_THAT(
      model.faults[1].subjects,
      testing::Contains("decoder.layers.2.self_attention.core_attention.indexer.k_norm.bias"));
  EXPECT_THAT(model.faults[1].message, HasSubstr("(indexer_types, index_topk_freq 2): Megatron"));
  config.erase("index_topk_freq");  // then Megatron has one in each layer
  EXPECT_EQ(must(resolve_with(config, golden_headers("glm_moe_dsa"))).faults.size(), 1U);
}

std::string refusal_of(const std::string& row) {
  const std::string text = R"({"schema": "bridge-family/1", "family": "x", "architectures": ["X"],
    "symbols": {"a": {"value": "1"}}, "sections": [{"stage": "final_norm", "rules": [)" +
                           row + "]}]}";
  const auto parsed = family::parse_family(text, "x.json");
  return parsed ? "" : parsed.error().message + " " + parsed.error().wanted;
}

TEST(OneSided, ARowSaysWhatWhenAndWhy) {
  const std::string when = R"(, "when": ["a"])", because = R"(, "because": "so")";
  EXPECT_EQ(refusal_of(R"({"kind": "no_place", "hf": "x")" + when + because + "}"), "");
  EXPECT_THAT(refusal_of(R"({"kind": "no_place", "hf": "x")" + because + "}"),
              HasSubstr("no condition"));
  EXPECT_THAT(refusal_of(R"({"kind": "no_place", "hf": "x")" + when + "}"), HasSubstr("because"));
  EXPECT_THAT(
      refusal_of(R"({"kind": "no_place", "hf": "x", "megatron": "y")" + when + because + "}"),
      HasSubstr("the HF name alone"));
  EXPECT_EQ(refusal_of(R"({"kind": "unread", "hf": "x")" + when + because + "}"), "");
  EXPECT_THAT(refusal_of(R"({"kind": "unread", "hf": "x", "megatron": "y")" + when + because + "}"),
              HasSubstr("the HF name alone"));
  EXPECT_THAT(refusal_of(R"({"kind": "no_source", "hf": "x")" + when + because + "}"),
              HasSubstr("the Megatron parameter"));
  EXPECT_THAT(refusal_of(R"({"kind": "no_place", "hf": "x", "when": ["b"])" + because + "}"),
              HasSubstr("names b"));
  EXPECT_THAT(refusal_of(R"({"kind": "no_place", "hf": "{L}x")" + when + because + "}"),
              HasSubstr("L"));
}

}  // namespace
}  // namespace bv::model::test

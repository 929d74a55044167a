#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "core/family/family.hpp"
#include "tests/core/model/sample.hpp"

namespace bv::family::test {
namespace {

using namespace model::test;
using nlohmann::json;

using ::testing::HasSubstr;

/// A family of one norm, to be spoilt by the tests.
nlohmann::ordered_json tiny() {
  return nlohmann::ordered_json::parse(R"({
    "schema": "bridge-family/1", "family": "tiny", "architectures": ["TinyForCausalLM"],
    "symbols": {"hidden_size": {"field": "hidden_size"}, "num_hidden_layers": {"field": "num_hidden_layers"}},
    "prefixes": {"M": "", "HF": "model."},
    "sections": [
      {"stage": "decoder", "over": {"i": "num_hidden_layers"}, "names": {"D": "{M}decoder.layers.{i}.", "L": "{HF}layers.{i}."},
       "rules": [{"kind": "replicated", "megatron": "{D}norm.weight", "hf": "{L}norm.weight", "rest": ["hidden_size"]}]}]})");
}

nlohmann::ordered_json& first_rule(nlohmann::ordered_json& family) {
  return family["sections"][0]["rules"][0];
}

Error refusal(const nlohmann::ordered_json& family) {
  const auto result = family::parse_family(family.dump(), "tiny.json");
  if (result) {
    ADD_FAILURE() << "accepted " << family.dump();
    return {};
  }
  EXPECT_EQ(result.error().code, Code::RulesInvalid);
  EXPECT_FALSE(result.error().help.empty());
  return result.error();
}

TEST(FamilyFile, RefusesCarriedPrefixesThatAreNone) {
  for (const std::string wrong : {"visual", "{HF}visual.", ""}) {
    auto family = tiny();
    family["carried"] = {{{"hf", {wrong}}, {"megatron", "visual."}}};
    EXPECT_THAT(refusal(family).message, HasSubstr("not a prefix"));
    family["carried"] = {{{"hf", {"visual."}}, {"megatron", wrong}}};
    EXPECT_THAT(refusal(family).message, HasSubstr("not a prefix"));
  }
}

TEST(FamilyFile, OfOneRuleResolves) {
  const auto family = family::parse_family(tiny().dump(), "tiny.json");
  ASSERT_TRUE(family) << family.error().message;
  Headers headers;
  for (const char* tensor : {"model.layers.0.norm.weight", "model.layers.1.norm.weight"}) {
    headers[tensor] = {tensor, DType::F32, {6}};
  }
  const auto model =
      model::resolve(*family, json{{"hidden_size", 6}, {"num_hidden_layers", 2}}, headers, {});
  ASSERT_TRUE(model) << model.error().message;
  EXPECT_TRUE(model->faults.empty());
  ASSERT_EQ(model->mappings.size(), 2U);
  EXPECT_EQ(model->megatron_name(model->mappings[1]), "decoder.layers.1.norm.weight");
  EXPECT_EQ(model->mappings[1].rule->source, "tiny.json: decoder rule 0");
}

TEST(FamilyFile, ThatIsNotJsonIsRefusedWithItsPlace) {
  const auto result = family::parse_family("{\n  \"schema\": 1,\n}", "bad.json");
  ASSERT_FALSE(result);
  EXPECT_EQ(result.error().code, Code::RulesInvalid);
  EXPECT_EQ(result.error().where, "bad.json:2:14");
  EXPECT_FALSE(family::parse_family("", "bad.json"));
  EXPECT_FALSE(family::parse_family("[1e999]", "bad.json"));
  EXPECT_FALSE(family::parse_family(std::string(100000, '['), "bad.json"));
  EXPECT_FALSE(family::parse_family("\"\xff\"", "bad.json"));
}

TEST(FamilyFile, WithAnUnknownKeyIsRefusedWithASuggestion) {
  auto family = tiny();
  first_rule(family)["megatorn"] = "x";
  const Error error = refusal(family);
  EXPECT_THAT(error.message, HasSubstr("sections[0].rules[0]"));
  EXPECT_EQ(error.help, "did you mean \"megatron\"?");
}

TEST(FamilyFile, WithAMissingKeyIsRefused) {
  for (const char* key : {"kind", "megatron", "hf"}) {
    auto family = tiny();
    first_rule(family).erase(key);
    EXPECT_THAT(refusal(family).message, HasSubstr(std::string("\"") + key + "\" is missing"));
  }
  for (const char* key : {"schema", "family", "architectures", "sections"}) {
    auto family = tiny();
    family.erase(key);
    refusal(family);
  }
}

TEST(FamilyFile, WithAValueOfTheWrongTypeIsRefused) {
  for (const auto& [key, value] :
       std::vector<std::pair<std::string, json>>{{"kind", 3},
                                                 {"megatron", json::array()},
                                                 {"hf", json::object()},
                                                 {"rest", 4},
                                                 {"axes", "x"},
                                                 {"expert", 1},
                                                 {"form", "packed"},
                                                 {"orientation", "sideways"},
                                                 {"over", json{{"i", "num_hidden_layers"}}},
                                                 {"when", json::array({1})}}) {
    auto family = tiny();
    first_rule(family)[key] = value;
    refusal(family);
  }
}

TEST(FamilyFile, WithAnUnknownValueRuleOrDivisorIsRefusedWithThoseThatExist) {
  auto family = tiny();
  first_rule(family)["value"] = "minus";
  EXPECT_EQ(refusal(family).wanted, kValueWords);
  for (const char* divisor : {"tpp", "tp*pp", "tp*"}) {
    family = tiny();
    family["sections"][0]["constraints"] = json::array(
        {{{"code", "E010"}, {"divisor", divisor}, {"dividend", "hidden_size"}, {"noun", "rows"}}});
    EXPECT_EQ(refusal(family).wanted, kDivisorWords) << divisor;
  }
}

TEST(FamilyFile, SaysInOneWordHowPeftTakesItsStacks) {
  auto family = tiny();
  EXPECT_FALSE(family::parse_family(family.dump(), "tiny.json").value()->stacks_unmarked);
  family["peft_stacks"] = "as_stored";
  EXPECT_TRUE(family::parse_family(family.dump(), "tiny.json").value()->stacks_unmarked);
  family["peft_stacks"] = "in_out";
  EXPECT_EQ(refusal(family).found, "in_out");
  EXPECT_EQ(refusal(family).wanted, "as_stored");
}

TEST(FamilyFile, StatesALayerFlagInOneWay) {
  const std::vector<json> right = {
      {{"list", "kinds"}, {"equals", "a"}, {"others", {"b"}}},
      {{"list", {"kinds", "letters"}},
       {"equals", {"a", "A"}},
       {"others", {"b", "B"}},
       {"schedule", {{"every", "freq"}, {"after", "first"}, {"after_default", 2}}}},
      {{"list", "kinds"}, {"equals", "a"}, {"others", {"b"}}, {"below", "2"}},
      {{"list", "kinds"}, {"equals", "a"}, {"others", {"b"}}, {"interval", "freq"}},
      {{"below", "2"}},
      {{"schedule", {{"every", "freq"}, {"after", "first"}, {"after_least", 1}}}},
      {{"indices", "numbers"}, {"step", "freq"}}};
  for (const json& flag : right) {
    auto family = tiny();
    family["layer_flags"] = {{"linear", flag}};
    const auto parsed = family::parse_family(family.dump(), "tiny.json");
    EXPECT_TRUE(parsed) << flag << " " << (parsed ? "" : parsed.error().message);
  }
  const std::vector<json> wrong = {
      json::object(),
      {{"interval", "freq"}},
      {{"schedule", {{"every", "freq"}}}, {"interval", "freq"}},
      {{"list", "kinds"}, {"equals", "a"}, {"below", "2"}, {"interval", "freq"}},
      {{"list", "kinds"}, {"equals", "a"}, {"indices", "numbers"}},
      {{"below", "2"}, {"indices", "numbers"}},
      {{"below", "2"}, {"schedule", {{"every", "freq"}}}}};
  for (const json& flag : wrong) {
    auto family = tiny();
    family["layer_flags"] = {{"linear", flag}};
    EXPECT_EQ(refusal(family).message.find("stated in one way") == std::string::npos, false)
        << flag << " " << refusal(family).message;
  }
}

TEST(FamilyFile, WithAnUnknownSymbolIsRefused) {
  auto family = tiny();
  first_rule(family)["rest"] = {"hiden_size"};
  EXPECT_THAT(refusal(family).wanted, HasSubstr("hidden_size"));
  family = tiny();
  first_rule(family)["when"] = {"!linear"};
  EXPECT_THAT(refusal(family).message, HasSubstr("neither a layer flag nor a symbol"));
  family = tiny();
  first_rule(family)["rest"] = {"hidden_size +"};
  refusal(family);
}

TEST(FamilyFile, WithABadTemplateIsRefused) {
  for (const char* name :
       {"{D}norm.{x}", "{D}norm.{", "norm.weight", "{D}norm.{e}", "{D}norm.{i + 1}"}) {
    auto family = tiny();
    first_rule(family)["megatron"] = name;
    refusal(family);
  }
}

TEST(FamilyFile, WithExpertsOnOneSideOnlyIsRefused) {
  auto family = tiny();
  first_rule(family)["over"] = {{"e", "hidden_size"}};
  refusal(family);
  first_rule(family)["megatron"] = "{D}expert.weight{e}";
  EXPECT_THAT(refusal(family).wanted, HasSubstr("{e} in the HF name"));
  first_rule(family)["hf"] = "{L}experts.{e}.weight";
  EXPECT_TRUE(family::parse_family(family.dump(), "tiny.json"));
}

TEST(FamilyFile, WithAnUnknownTableIsRefused) {
  auto family = tiny();
  family["sections"][0]["use"] = {"atention"};
  EXPECT_THAT(refusal(family).wanted, HasSubstr("attention"));
}

TEST(FamilyFile, MayBringItsOwnTables) {
  auto family = tiny();
  family["tables"]["bias"]["rules"] = {first_rule(family)};
  family["tables"]["bias"]["rules"][0]["megatron"] = "{D}norm.bias";
  family["tables"]["bias"]["rules"][0]["hf"] = "{L}norm.bias";
  family["sections"][0]["use"] = {"bias"};
  const auto parsed = family::parse_family(family.dump(), "tiny.json");
  ASSERT_TRUE(parsed) << parsed.error().message;
  EXPECT_EQ(family::rules(**parsed).size(), 2U);
}

TEST(FamilyFile, WithAMisspeltFormIsRefused) {
  auto family = tiny();
  first_rule(family)["form"] = {{"experts", "packed"}};
  family["sections"][0]["forms"] = {{"experts", {"pakced"}}};
  EXPECT_THAT(refusal(family).message, HasSubstr("pakced"));
}

TEST(FamilyFile, WithACircleOfDefaultsIsRefusedWhenRead) {
  auto family = tiny();
  family["symbols"]["a"] = {{"field", "a"}, {"default", "b"}};
  family["symbols"]["b"] = {{"field", "b"}, {"default", "a"}};
  const auto parsed = family::parse_family(family.dump(), "tiny.json");
  ASSERT_TRUE(parsed);
  const auto geometry =
      model::read_geometry(**parsed, json{{"hidden_size", 6}, {"num_hidden_layers", 2}});
  ASSERT_FALSE(geometry);
  EXPECT_EQ(geometry.error().code, Code::RulesInvalid);
}

TEST(FamilyFile, WhoseRulesClaimOneTensorTwiceIsAFault) {
  auto family = tiny();
  family["sections"][0]["rules"].push_back(first_rule(family));
  family["sections"][0]["rules"][1]["megatron"] = "{D}other.weight";
  const auto parsed = family::parse_family(family.dump(), "tiny.json");
  ASSERT_TRUE(parsed);
  const Headers headers = {
      {"model.layers.0.norm.weight", {"model.layers.0.norm.weight", DType::F32, {6}}}};
  const auto model =
      model::resolve(*parsed, json{{"hidden_size", 6}, {"num_hidden_layers", 1}}, headers, {});
  ASSERT_TRUE(model);
  ASSERT_EQ(model->faults.size(), 1U) << all_faults(*model);
  EXPECT_EQ(model->faults[0].code, Code::DuplicateClaim);
  EXPECT_THAT(model->faults[0].message,
              HasSubstr("decoder rule 0 and by tiny.json: decoder rule 1"));
}

TEST(FamilyFile, WhoseRulesMakeOneParameterTwiceIsRefused) {
  auto family = tiny();
  family["sections"][0]["rules"].push_back(first_rule(family));
  family["sections"][0]["rules"][1]["hf"] = "{L}other.weight";
  const auto parsed = family::parse_family(family.dump(), "tiny.json");
  ASSERT_TRUE(parsed);
  const auto model =
      model::resolve(*parsed, json{{"hidden_size", 6}, {"num_hidden_layers", 1}}, {}, {});
  ASSERT_FALSE(model);
  EXPECT_EQ(model.error().code, Code::RulesInvalid);
}

TEST(BuiltinFamilies, AnswerToEachClassAndTypeOnce) {
  std::set<std::string> seen;
  for (const family::FamilyPtr& family : families()) {
    EXPECT_FALSE(family::doc(*family).empty()) << family::name(*family);
    EXPECT_FALSE(family::rules(*family).empty()) << family::name(*family);
    for (const std::string& key : architectures(*family)) {
      EXPECT_TRUE(seen.insert(key).second) << key;
    }
    for (const std::string& key : model_types(*family)) {
      EXPECT_TRUE(seen.insert(key).second) << key;
    }
  }
  EXPECT_GE(families().size(), 18U);
}

TEST(BuiltinFamilies, GiveEveryRuleAStableIdAndPlace) {
  for (const family::FamilyPtr& family : families()) {
    std::set<std::string> sources;
    for (std::size_t i = 0; i < family::rules(*family).size(); ++i) {
      const family::Rule& rule = family::rules(*family)[i];
      EXPECT_EQ(rule.id, "r" + std::to_string(i));
      EXPECT_TRUE(sources.insert(rule.source).second) << rule.source;
      EXPECT_THAT(rule.source, HasSubstr(std::string(family::stage_name(*family, rule))));
    }
  }
}

/// Nemotron-H has one embedding under two names.
TEST(BuiltinFamilies, AStoredHeadMayRepeatTheEmbeddingUnderEachOfItsNames) {
  int heads = 0;
  for (const family::FamilyPtr& family : families()) {
    std::set<std::string> embeddings, repeated;
    for (const family::Rule& rule : family::rules(*family)) {
      const std::string& name = rule.hf.front().second;
      if (rule.vocabulary && name.find("embed") != std::string::npos &&
          family->sections[rule.section].stage == family::Stage::Embedding) {
        embeddings.insert(name);
      }
    }
    for (const family::Section& section : family->sections) {
      for (const family::Copy& copy : section.copies) {
        if (section.stage == family::Stage::Output && copy.copy.ends_with("lm_head.weight")) {
          repeated.insert(copy.of);
        }
      }
    }
    heads += repeated.empty() ? 0 : 1;
    EXPECT_TRUE(repeated.empty() || repeated == embeddings) << family::name(*family);
  }
  EXPECT_GT(heads, 50);
}

}  // namespace
}  // namespace bv::family::test

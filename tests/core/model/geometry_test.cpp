#include <gtest/gtest.h>

#include <algorithm>

#include "tests/core/model/geometry_of.hpp"

namespace bv::model::test {
namespace {

json llama() {
  return json{{"architectures", {"LlamaForCausalLM"}},
              {"model_type", "llama"},
              {"hidden_size", 32},
              {"num_hidden_layers", 2},
              {"num_attention_heads", 8},
              {"num_key_value_heads", 4},
              {"intermediate_size", 48},
              {"vocab_size", 100}};
}

TEST(Geometry, ReadsFieldsAndTheirOrigin) {
  const auto geometry = geometry_of(llama());
  ASSERT_TRUE(geometry) << geometry.error().message;
  EXPECT_EQ(geometry->at("num_query_groups"), 4);
  EXPECT_EQ(geometry->origin.at("num_query_groups"), "num_key_value_heads");
}

TEST(Geometry, ComputesTheHeadSizeWhereTheFieldIsAbsentOrNull) {
  json config = llama();
  EXPECT_EQ(geometry_of(config)->at("head_dim"), 4);
  EXPECT_EQ(geometry_of(config)->origin.at("head_dim"),
            "default hidden_size / num_attention_heads: config.json has no head_dim");
  config["head_dim"] = nullptr;
  EXPECT_EQ(geometry_of(config)->at("head_dim"), 4);
  config["head_dim"] = 10;
  EXPECT_EQ(geometry_of(config)->at("head_dim"), 10);
}

/// As the classes of transformers; Llama's refuses such a config.
TEST(Geometry, RoundsTheHeadSizeDownWhereTransformersDoes) {
  json config = llama();
  config["architectures"] = {"Qwen2ForCausalLM"};
  config["model_type"] = "qwen2";
  config["hidden_size"] = 30;
  ASSERT_TRUE(geometry_of(config));
  EXPECT_EQ(geometry_of(config)->at("head_dim"), 3);
}

/// Which class of transformers a text config is of decides its defaults.
TEST(Geometry, TakesDefaultsByAWordOfTheConfig) {
  json config = {{"architectures", {"Mistral3ForConditionalGeneration"}},
                 {"model_type", "mistral3"},
                 {"text_config", {{"hidden_size", 4096}, {"num_attention_heads", 64}}}};
  const std::vector<std::tuple<json, std::int64_t, std::int64_t>> cases = {
      {json(), 64, 32}, {json("mistral"), 64, 32}, {json("ministral3"), 128, 34}};
  for (const auto& [word, head_dim, layers] : cases) {
    if (!word.is_null()) {
      config["text_config"]["model_type"] = word;
    }
    const auto geometry = geometry_of(config);
    ASSERT_TRUE(geometry) << geometry.error().message;
    EXPECT_EQ(geometry->at("head_dim"), head_dim) << word;
    EXPECT_EQ(geometry->at("num_hidden_layers"), layers) << word;
  }
  config["text_config"]["model_type"] = 3;
  EXPECT_EQ(refusal(config).message, "config.json text_config.model_type is 3, wanted a word");
}

TEST(Geometry, RefusesALevelThatIsNoObjectWhetherTheFamilyReadsItOrNot) {
  for (const char* level : {"text_config", "vision_config", "quantization_config"}) {
    for (const json& value : {json(3), json("x"), json::array(), json(false)}) {
      json config = llama();
      config[level] = value;
      const Error error = refusal(config);
      EXPECT_EQ(error.code, Code::ConfigField);
      EXPECT_EQ(error.wanted, "an object");
      EXPECT_NE(error.message.find(level), std::string::npos) << error.message;
    }
    json config = llama();
    config[level] = nullptr;
    EXPECT_TRUE(geometry_of(config)) << level;
  }
}

TEST(Geometry, RefusesAHeadSizeThatDoesNotDivide) {
  json config = llama();
  config["hidden_size"] = 30;
  const Error error = refusal(config);
  EXPECT_EQ(error.code, Code::IndivisibleDim);
  EXPECT_EQ(error.message, "hidden_size = 30 is not divisible by num_attention_heads = 8");
}

TEST(Geometry, TakesTheDefaultOfTransformersForAnAbsentField) {
  json config = llama();
  config.erase("num_key_value_heads");
  EXPECT_EQ(geometry_of(config)->at("num_query_groups"), 8);  // as many as there are heads
  EXPECT_EQ(geometry_of(config)->origin.at("num_query_groups"),
            "default num_attention_heads: config.json has no num_key_value_heads");
  config["num_key_value_heads"] = nullptr;
  EXPECT_EQ(geometry_of(config)->origin.at("num_query_groups"),
            "default num_attention_heads: config.json num_key_value_heads is null");
  config.erase("intermediate_size");
  EXPECT_EQ(geometry_of(config)->at("intermediate_size"), 11008);
}

TEST(Geometry, SaysWhichSizesAreDefaults) {
  json config = golden_config("llama");
  config.erase("num_key_value_heads");
  const Model model = from_config(config);
  const auto found =
      std::find_if(model.detected.begin(), model.detected.end(),
                   [](const Detected& one) { return one.what == "config_defaults"; });
  ASSERT_NE(found, model.detected.end());
  EXPECT_EQ(found->value, "num_key_value_heads=8");
  config["num_key_value_heads"] = 8;
  for (const Detected& one : from_config(config).detected) {
    EXPECT_NE(one.what, "config_defaults") << one.value;
  }
}

TEST(Geometry, RefusesNullWhereTransformersDoes) {
  json config = llama();
  config["intermediate_size"] = nullptr;
  EXPECT_EQ(refusal(config).message,
            "config.json intermediate_size is null, wanted a whole number");
  config = llama();
  config["architectures"] = {"Qwen3ForCausalLM"};
  config["model_type"] = "qwen3";
  config["head_dim"] = nullptr;
  EXPECT_EQ(refusal(config).message, "config.json head_dim is null, wanted a whole number");
}

TEST(Geometry, AcceptsEachAliasOfTheExpertCount) {
  json config = golden_config("qwen3_moe");
  config.erase("num_local_experts");
  config["num_experts"] = 4;
  EXPECT_EQ(geometry_of(config)->at("num_experts"), 4);
}

TEST(Geometry, RefusesValuesOfTheWrongType) {
  for (const json& wrong :
       {json("24"), json(2.5), json(true), json(json::array()), json(18446744073709551615ULL)}) {
    json config = llama();
    config["hidden_size"] = wrong;
    const Error error = refusal(config);
    EXPECT_EQ(error.code, Code::ConfigField);
    EXPECT_NE(error.message.find("config.json hidden_size is"), std::string::npos) << error.message;
  }
  json config = llama();
  config["tie_word_embeddings"] = 1;
  EXPECT_EQ(refusal(config).message, "config.json tie_word_embeddings is 1, wanted true or false");
}

TEST(Geometry, RefusesValuesOutOfRange) {
  for (const std::int64_t wrong : {std::int64_t{0}, std::int64_t{-8}, std::int64_t{1} << 50}) {
    json config = llama();
    config["num_attention_heads"] = wrong;
    EXPECT_EQ(refusal(config).code, Code::ConfigField);
  }
  json config = llama();
  config["num_hidden_layers"] = 1000000000;
  EXPECT_EQ(refusal(config).message,
            "config.json num_hidden_layers is 1000000000, wanted at most 65536");
}

TEST(Geometry, RefusesHeadsThatTheGroupsDoNotDivide) {
  json config = llama();
  config["num_key_value_heads"] = 3;
  const Error error = refusal(config);
  EXPECT_EQ(error.code, Code::IndivisibleDim);
  EXPECT_NE(error.message.find("num_query_groups=3"), std::string::npos) << error.message;
}

TEST(Geometry, RefusesALevelOfTheWrongType) {
  for (const char* level : {"text_config", "vision_config"}) {
    for (const json& wrong : {json(3), json("x"), json::array(), json(true)}) {
      json config = golden_config("qwen3_5_vl_dense");
      config[level] = wrong;
      const Error error = refusal(config);
      EXPECT_EQ(error.code, Code::ConfigField);
      EXPECT_NE(error.message.find(std::string("config.json ") + level + " is"), std::string::npos)
          << error.message;
    }
  }
  EXPECT_EQ(refusal(json::array()).code, Code::ConfigField);
}

/// Fields whose value counts or measures something, of one level of a config.
std::vector<std::string> sizes_in(const json& level) {
  std::vector<std::string> out;
  for (const auto& [field, value] : level.items()) {
    if (value.is_number_integer() && !field.ends_with("_token_id")) {
      out.push_back(field);
    }
  }
  return out;
}

class ConfigOf : public ::testing::TestWithParam<std::string> {};

TEST_P(ConfigOf, AGoldenCaseIsRefusedByTheNameOfTheFieldThatIsWrong) {
  const json whole = golden_config(GetParam());
  int refused = 0;
  for (const std::string level : {"", "text_config", "vision_config"}) {
    if (!level.empty() && !whole.contains(level)) {
      continue;
    }
    for (const std::string& field : sizes_in(level.empty() ? whole : whole[level])) {
      for (const json& wrong : {json("7"), json(2.5), json(-3), json(std::int64_t{1} << 60),
                                json(18446744073709551615ULL), json::object()}) {
        json config = whole;
        (level.empty() ? config : config[level])[field] = wrong;
        const auto geometry = geometry_of(config);
        if (geometry) {  // a field that no family reads
          continue;
        }
        ++refused;
        std::string text = geometry.error().message;
        for (const std::string& fact : geometry.error().facts) {
          text += "\n" + fact;
        }
        EXPECT_NE(text.find(field), std::string::npos) << field << " " << wrong << ": " << text;
      }
    }
  }
  EXPECT_GE(refused, 30);
}

INSTANTIATE_TEST_SUITE_P(Hf, ConfigOf, ::testing::ValuesIn(golden_cases()),
                         [](const auto& each) { return each.param; });

TEST(Geometry, UsesDocumentedDefaultsAndSaysSo) {
  json config = golden_config("qwen3_5_moe");
  for (const char* field : {"num_experts", "linear_key_head_dim", "head_dim"}) {
    config.erase(field);
  }
  const auto geometry = geometry_of(config);
  ASSERT_TRUE(geometry) << geometry.error().message;
  EXPECT_EQ(geometry->at("num_experts"), 256);
  EXPECT_EQ(geometry->at("linear_key_head_dim"), 128);
  EXPECT_EQ(geometry->at("head_dim"), 256);
  EXPECT_EQ(geometry->origin.at("num_experts"), "default 256: config.json has no num_experts");
}

TEST(Geometry, TakesTheTieOfAVisionModelFromTheTop) {
  json config = golden_config("qwen3_vl_moe");
  config["text_config"]["tie_word_embeddings"] = true;
  EXPECT_EQ(geometry_of(config)->at("tie_word_embeddings"), 0);
  config["tie_word_embeddings"] = true;
  config["text_config"]["tie_word_embeddings"] = false;
  EXPECT_EQ(geometry_of(config)->at("tie_word_embeddings"), 1);
}

TEST(Geometry, CountsLabelsByNumberThenNamesThenDefault) {
  json config = golden_config("qwen3_5_token_cls");
  EXPECT_EQ(geometry_of(config)->at("num_labels"), 5);
  config["num_labels"] = 7;
  EXPECT_EQ(geometry_of(config)->at("num_labels"), 7);
  config.erase("num_labels");
  config.erase("id2label");
  EXPECT_EQ(geometry_of(config)->at("num_labels"), 2);
  config["num_labels"] = 0;
  EXPECT_EQ(refusal(config).code, Code::ConfigField);
}

TEST(Conditions, RefuseConfigsThatTheRulesCannotServe) {
  const std::vector<std::pair<std::string, json>> conflicts = {{"attn_output_gate", false},
                                                               {"mtp_num_hidden_layers", 2}};
  for (const auto& [field, value] : conflicts) {
    json config = golden_config("qwen3_5_dense");
    config[field] = value;
    const Error error = refusal(config);
    EXPECT_EQ(error.code, Code::ConfigField) << field;
    EXPECT_NE(error.message.find(field), std::string::npos) << error.message;
  }
}

TEST(Conditions, WantTheMergerToWriteTheTextWidth) {
  json config = golden_config("qwen3_5_vl_dense");
  config["vision_config"]["out_hidden_size"] = 32;
  EXPECT_NE(refusal(config).message.find("vision_out_hidden_size=32"), std::string::npos);
}

TEST(ChooseFamily, GoesByArchitectureThenModelType) {
  EXPECT_EQ(name(**choose_family(golden_config("qwen3_5_token_cls"), families())),
            "qwen3_5_token_classification");
  EXPECT_EQ(name(**choose_family(json{{"model_type", "qwen3_5"}}, families())), "qwen3_5_vl");
}

TEST(ChooseFamily, GoesByModelTypeWhereNoFamilyKnowsTheClass) {
  for (const char* cls : {"LlamaForSequenceClassification", "LlamaModel", "CriticModel"}) {
    const auto choice = choose(json{{"architectures", {cls}}, {"model_type", "llama"}}, families());
    ASSERT_TRUE(choice) << cls;
    EXPECT_EQ(name(*choice->family), "llama");
    EXPECT_EQ(choice->reason.because,
              std::string("model_type is llama; it decides: architectures names ") + cls);
  }
  for (const json& classes : {json(nullptr), json::array()}) {
    const auto choice =
        choose(json{{"architectures", classes}, {"model_type", "llama"}}, families());
    ASSERT_TRUE(choice);
    EXPECT_EQ(choice->reason.because, "model_type is llama; architectures names no class");
  }
}

TEST(ChooseFamily, GoesByModelTypeWhereTheClassIsOfAnotherFamily) {
  const auto choice =
      choose(json{{"architectures", {"LlamaForCausalLM"}}, {"model_type", "qwen3"}}, families());
  ASSERT_TRUE(choice);
  EXPECT_EQ(name(*choice->family), "qwen3");
  EXPECT_EQ(choice->reason.because,
            "model_type is qwen3; it decides: architectures names LlamaForCausalLM");
}

TEST(ChooseFamily, GoesByTheClassWhereNoFamilyKnowsTheType) {
  const auto choice =
      choose(json{{"architectures", {"LlamaForCausalLM"}}, {"model_type", "foo"}}, families());
  ASSERT_TRUE(choice);
  EXPECT_EQ(choice->reason.because, "architectures names LlamaForCausalLM");
}

TEST(ChooseFamily, RefusesUnknownClassesWithTheNearestFamilies) {
  const auto result =
      choose_family(json{{"architectures", {"FooForCausalLM"}}, {"model_type", "foo"}}, families());
  ASSERT_FALSE(result);
  EXPECT_EQ(result.error().code, Code::ArchitectureUnknown);
  EXPECT_EQ(result.error().message, "no rules for architecture FooForCausalLM (model_type foo)");
  const auto near = choose_family(
      json{{"architectures", {"Qwen3_6ForCausalLM"}}, {"model_type", "qwen3_6"}}, families());
  ASSERT_FALSE(near);
  EXPECT_NE(near.error().facts[0].find("nearest families: qwen3"), std::string::npos)
      << near.error().facts[0];
}

TEST(ChooseFamily, RefusesConfigsWithoutAClass) {
  EXPECT_EQ(choose_family(json::object(), families()).error().code, Code::ConfigField);
  EXPECT_EQ(choose_family(json::array(), families()).error().code, Code::ConfigField);
  EXPECT_EQ(choose_family(json{{"architectures", "Llama"}}, families()).error().code,
            Code::ConfigField);
  EXPECT_EQ(choose_family(json{{"model_type", 3}}, families()).error().code, Code::ConfigField);
}

}  // namespace
}  // namespace bv::model::test

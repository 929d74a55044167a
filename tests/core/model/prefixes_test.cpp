#include "core/model/prefixes.hpp"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "tests/core/model/resolved.hpp"

namespace bv::model::test {
namespace {

using ::testing::HasSubstr;
using ::testing::Not;
using Rename = std::pair<std::string, std::string>;  // what a name starts with, before and after

Headers renamed(const Headers& headers, const std::vector<Rename>& renames) {
  Headers out;
  for (const auto& [old, found] : headers) {
    std::string name = old;
    TensorSpec spec = found;
    for (const auto& [from, to] : renames) {
      if (name.starts_with(from)) {
        name = to + name.substr(from.size());
        break;
      }
    }
    spec.name = name;
    out[name] = spec;
  }
  return out;
}

Model resolved(const std::string& name, const std::vector<Rename>& renames) {
  return must(resolve_with(golden_config(name), renamed(golden_headers(name), renames)));
}

TEST(Prefix, OfTheFamilyIsNotWorthAWord) {
  const Model model = must(resolve_golden("llama"));
  EXPECT_EQ(model.prefixes.at("HF"), "model.");
  EXPECT_EQ(model.prefixes.at(""), "");
  EXPECT_EQ(detected(model, "prefix_HF"), "");
}

TEST(Prefix, ComesFromTheNamesThatAreThere) {
  EXPECT_EQ(must(resolve_golden("qwen3_5_dense_from_vl")).prefixes.at("HF"),
            "model.language_model.");
  Headers headers = golden_headers("qwen3_5_dense_from_vl");
  headers.erase("model.language_model.embed_tokens.weight");
  const Model model = must(resolve_with(golden_config("qwen3_5_dense_from_vl"), headers));
  ASSERT_EQ(model.faults.size(), 1U) << all_faults(model);
  EXPECT_EQ(model.faults[0].subject, "model.language_model.embed_tokens.weight");
}

/// Every family below every wrapper: all names have moved together.
class Wrapper : public ::testing::TestWithParam<std::string> {};

TEST_P(Wrapper, AroundTheWholeModelIsAcceptedAndSaid) {
  for (const std::string& name : golden_cases()) {
    const Model plain = must(resolve_golden(name));
    const Model model = resolved(name, {{"", GetParam()}});
    EXPECT_TRUE(model.faults.empty()) << name << "\n" << all_faults(model);
    EXPECT_EQ(model.prefixes.at("HF"), GetParam() + plain.prefixes.at("HF")) << name;
    EXPECT_EQ(megatron_names(model), megatron_names(plain)) << name;
    const std::string found = detected(model, "prefix_HF");
    EXPECT_EQ(found, model.prefixes.at("HF")) << name;
  }
}

INSTANTIATE_TEST_SUITE_P(Wrappers, Wrapper,
                         ::testing::Values("module.", "base_model.model.", "thinker.", "policy.m.",
                                           "_orig_mod.", "0.", "x.layers.1."),
                         [](const auto& each) {
                           std::string name = each.param;
                           std::erase(name, '.');
                           return name;
                         });

/// A part that stays behind may end as the model does, and be larger.
TEST(Prefix, IsNotThatOfNamesWhichTheFamilyIgnores) {
  Headers headers = renamed(golden_headers("qwen2"),
                            {{"model.", "thinker.model."}, {"lm_head", "thinker.lm_head"}});
  const Headers talker =
      renamed(golden_headers("qwen2"), {{"model.layers.", "talker.model.layers."}});
  for (const auto& [name, spec] : talker) {
    for (int i = 0; name.starts_with("talker.") && i < 40; i += 10) {
      std::string copy = name;
      copy.insert(std::string("talker.model.layers.").size(), std::to_string(i));
      headers[copy] = {copy, spec.dtype, spec.shape};
    }
  }
  for (const char* tower : {"thinker.visual.a.weight", "thinker.audio_tower.a.weight"}) {
    headers[tower] = {tower, DType::BF16, {4}};
  }
  json config = {{"architectures", {"Qwen2_5OmniForConditionalGeneration"}},
                 {"model_type", "qwen2_5_omni"},
                 {"thinker_config", {{"text_config", golden_config("qwen2")}}}};
  const Model model = must(resolve_with(config, headers));
  EXPECT_EQ(model.prefixes.at("HF"), "thinker.model.");
  for (const NameFault& fault : model.faults) {  // the towers are not whole: nothing else is wrong
    EXPECT_TRUE(fault.subject.starts_with("thinker.visual.") ||
                fault.subject.starts_with("thinker.audio_tower."))
        << all_faults(model);
  }
}

TEST(Prefix, MayBeAbsentInABareModel) {
  for (const std::string name : {"qwen2", "llama", "qwen3_moe", "deepseek_v3", "glm4_moe"}) {
    Headers headers = renamed(golden_headers(name), {{"model.", ""}});
    headers.erase("lm_head.weight");
    json config = golden_config(name);
    std::string bare = config["architectures"][0];
    bare.replace(bare.find("ForCausalLM"), 11, "Model");
    config["architectures"] = {bare};
    const Model model = must(resolve_with(config, headers));
    EXPECT_TRUE(model.faults.empty()) << name << "\n" << all_faults(model);
    EXPECT_EQ(model.prefixes.at("HF"), "") << name;
    EXPECT_EQ(detected(model, "prefix_HF"), "none") << name;
    EXPECT_THAT(reason(model, "prefix_HF"), HasSubstr("transformers writes model."));
  }
}

/// Qwen2-Audio as transformers 5 writes a new one (without its towers, which are named apart).
TEST(Prefix, MayRepeatAPartWhereTheFamilySaysSo) {
  const json text = golden_config("qwen2");
  const json config = {{"architectures", {"Qwen2AudioForConditionalGeneration"}},
                       {"model_type", "qwen2_audio"},
                       {"text_config", text}};
  const auto faults_of = [&](const std::string& prefix) {
    const Headers headers =
        renamed(golden_headers("qwen2"),
                {{"model.", prefix + "."}, {"lm_head.", "language_model.lm_head."}});
    return all_faults(must(resolve_with(config, headers)));
  };
  for (const char* prefix : {"language_model.model", "language_model.model.model"}) {
    EXPECT_THAT(faults_of(prefix), Not(HasSubstr("language_model"))) << prefix;
  }
  EXPECT_THAT(faults_of("language_model.model.model.model"), HasSubstr("another prefix"));
}

TEST(Prefix, MayDifferInTheLanguageModelAlone) {
  const Model model = resolved(
      "llama", {{"model.", "language_model.model."}, {"lm_head.", "language_model.lm_head."}});
  EXPECT_TRUE(model.faults.empty()) << all_faults(model);
  EXPECT_EQ(model.prefixes.at("HF"), "language_model.model.");
  EXPECT_EQ(model.prefixes.at(""), "language_model.");
  const Model inner = resolved("qwen3", {{"model.", "model.language_model."}});
  EXPECT_TRUE(inner.faults.empty()) << all_faults(inner);
  EXPECT_EQ(inner.prefixes.at("HF"), "model.language_model.");
}

TEST(Prefix, OfATowerWithinAWrapperMovesWithIt) {
  const Model model = resolved("qwen3_vl", {{"model.visual.", "thinker.visual."},
                                            {"model.language_model.", "thinker.language_model."},
                                            {"lm_head.", "thinker.lm_head."}});
  EXPECT_TRUE(model.faults.empty()) << all_faults(model);
  EXPECT_EQ(model.prefixes.at("V"), "thinker.visual.");
  EXPECT_EQ(model.prefixes.at("HF"), "thinker.language_model.");
}

TEST(Prefix, ThatOnlyAPartHasIsOneFaultThatShowsBoth) {
  const Model model =
      resolved("qwen3_5_vl_dense", {{"model.visual.", "model.language_model.visual."}});
  ASSERT_EQ(model.faults.size(), 1U) << all_faults(model);
  EXPECT_EQ(model.faults[0].code, Code::PrefixDiffers);
  EXPECT_THAT(model.faults[0].message, HasSubstr("model.language_model.visual."));
  EXPECT_THAT(model.faults[0].message, HasSubstr("wanted model.visual."));
}

TEST(Prefix, ThatSomeLayersHaveIsOneFault) {
  const Model model = resolved("llama", {{"model.layers.2.", "module.model.layers.2."}});
  ASSERT_EQ(model.faults.size(), 1U) << all_faults(model);
  EXPECT_EQ(model.faults[0].code, Code::PrefixDiffers);
  EXPECT_EQ(model.faults[0].message,
            "9 HF tensors stand under another prefix than the rest of the model: module.model., "
            "wanted model.");
}

TEST(Prefix, NestedTwiceIsRefused) {
  const Model model = resolved("qwen3_5_vl_dense",
                               {{"model.language_model.", "model.language_model.language_model."}});
  ASSERT_EQ(model.faults.size(), 1U) << all_faults(model);
  EXPECT_EQ(model.faults[0].code, Code::PrefixDiffers);
}

TEST(Prefix, OfTwoModelsInOneFolderIsNamed) {
  Headers headers = golden_headers("qwen3_5_dense");
  for (const auto& [name, spec] : renamed(golden_headers("qwen3_5_dense"), {{"", "critic."}})) {
    headers[name] = spec;
  }
  const Model model = must(resolve_with(golden_config("qwen3_5_dense"), headers));
  ASSERT_EQ(model.faults.size(), 2U) << all_faults(model);
  EXPECT_EQ(model.faults[0].code, Code::DuplicateClaim);
  EXPECT_THAT(model.faults[0].help, HasSubstr("--exclude 'critic.model.*'"));
  EXPECT_EQ(model.faults[1].code, Code::HfTensorUnused);  // names that a head could have as well
  EXPECT_THAT(model.faults[1].help, HasSubstr("--exclude 'critic.*'"));
}

TEST(Prefix, IsStatedToAConfigAlone) {
  ResolveOptions options;
  options.config_only = true;
  options.forms[prefix_form("HF")] = "module.model.";
  options.forms[prefix_form("")] = "module.";
  const Model model = must(resolve_with(golden_config("llama"), {}, options));
  EXPECT_THAT(used_names(model), ::testing::Contains("module.lm_head.weight"));
  EXPECT_THAT(used_names(model), ::testing::Contains("module.model.embed_tokens.weight"));
}

}  // namespace
}  // namespace bv::model::test

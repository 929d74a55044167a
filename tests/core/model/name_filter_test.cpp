#include "core/model/name_filter.hpp"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "tests/core/model/sample.hpp"

namespace bv::model::test {
namespace {

using ::testing::HasSubstr;

Headers with_score() {
  Headers headers = golden_headers("llama");
  headers["score.weight"] = {"score.weight", DType::BF16, {2, 24}};
  headers["score.bias"] = {"score.bias", DType::BF16, {2}};
  return headers;
}

TEST(NameFilter, TakesWhatTheGlobsName) {
  const auto out = excluded_names({{}, {"score.*"}}, with_score());
  ASSERT_TRUE(out);
  EXPECT_EQ(*out, (std::set<std::string, std::less<>>{"score.bias", "score.weight"}));
  EXPECT_TRUE(excluded_names({}, with_score())->empty());
}

TEST(NameFilter, RefusesAGlobThatTakesNothingWithTheNearestName) {
  for (const NameFilter& filter : {NameFilter{{}, {"scores.*"}}, NameFilter{{"scores.*"}, {}}}) {
    const auto out = excluded_names(filter, with_score());
    ASSERT_FALSE(out);
    EXPECT_EQ(out.error().code, Code::BadValue);
    EXPECT_THAT(out.error().message, HasSubstr("scores.* matches no tensor"));
    EXPECT_THAT(out.error().help, HasSubstr("score.bias"));
  }
}

TEST(NameFilter, RefusesToLeaveNothing) {
  const auto out = excluded_names({{}, {"*"}}, with_score());
  ASSERT_FALSE(out);
  EXPECT_EQ(out.error().code, Code::Conflict);
}

TEST(Excluded, TensorsTakeTheirParametersWithThem) {
  Headers headers = golden_headers("llama");
  ResolveOptions options;
  options.left_out = {"model.layers.1.mlp.down_proj.weight"};
  headers.erase("model.layers.1.mlp.down_proj.weight");
  const auto model = resolve_with(golden_config("llama"), headers, options);
  ASSERT_TRUE(model);
  EXPECT_TRUE(model->faults.empty()) << all_faults(*model);
  EXPECT_FALSE(megatron_names(*model).contains("decoder.layers.1.mlp.linear_fc2.weight"));
  EXPECT_EQ(megatron_names(*model).size() + 1, megatron_names(*resolve_golden("llama")).size());
}

TEST(Excluded, HalfOfAParameterIsAFault) {
  Headers headers = golden_headers("llama");
  ResolveOptions options;
  options.left_out = {"model.layers.1.mlp.gate_proj.weight"};
  headers.erase("model.layers.1.mlp.gate_proj.weight");
  const auto model = resolve_with(golden_config("llama"), headers, options);
  ASSERT_TRUE(model);
  ASSERT_EQ(model->faults.size(), 1U) << all_faults(*model);
  EXPECT_THAT(model->faults[0].message, HasSubstr("decoder.layers.1.mlp.linear_fc1.weight"));
}

TEST(Matched, TensorsAreTheOnlySubjects) {
  ResolveOptions options;
  options.match = {"*layers.1.*"};
  Headers headers = with_score();  // another fault elsewhere is not asked for
  const auto model = resolve_with(golden_config("llama"), headers, options);
  ASSERT_TRUE(model);
  EXPECT_TRUE(model->faults.empty()) << all_faults(*model);
  for (const std::string& name : used_names(*model)) {
    EXPECT_THAT(name, HasSubstr("layers.1."));
  }
  headers.erase("model.layers.1.mlp.up_proj.weight");
  EXPECT_EQ(resolve_with(golden_config("llama"), headers, options)->faults.size(), 1U);
}

/// Heads that Megatron's language model does not have.
TEST(ForeignHead, OfAKnownFamilyIsOneFaultThatNamesExclude) {
  for (const auto& [suffix, head] : std::vector<std::pair<std::string, std::string>>{
           {"ForRewardModel", "reward_head."},
           {"ForCausalLMWithValueHead", "v_head.summary."},
           {"ForValue", "value_head."}}) {
    for (const std::string name : {"llama", "qwen2", "qwen3_moe", "glm4_moe"}) {
      json config = golden_config(name);
      Headers headers = golden_headers(name);
      std::string cls = config["architectures"][0];
      config["architectures"] = {cls.substr(0, cls.find("For")) + suffix};
      headers.erase("lm_head.weight");
      for (const char* end : {"weight", "bias"}) {
        headers[head + end] = {head + end, DType::BF16, {2}};
      }
      const auto model = resolve_with(config, headers);
      ASSERT_TRUE(model) << model.error().message;
      ASSERT_EQ(model->faults.size(), 1U) << name << suffix << "\n" << all_faults(*model);
      EXPECT_EQ(model->faults[0].code, Code::HfTensorUnused);
      EXPECT_THAT(model->faults[0].help,
                  HasSubstr("--exclude '" + head.substr(0, head.find('.')) + ".*'"));
      headers.erase(head + "weight");
      headers.erase(head + "bias");
      EXPECT_TRUE(resolve_with(config, headers)->faults.empty()) << name << suffix;
    }
  }
}

}  // namespace
}  // namespace bv::model::test

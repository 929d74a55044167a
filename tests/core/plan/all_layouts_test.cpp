// The proof over every legal layout covers those, and only those, that are accepted one by one.

#include "core/plan/all_layouts.hpp"

#include <gtest/gtest.h>

#include <filesystem>
#include <nlohmann/json.hpp>

#include "core/checkpoint/open_model.hpp"
#include "core/model/resolve.hpp"
#include "core/plan/legality.hpp"
#include "tests/support/files.hpp"
#include "tests/support/golden_model.hpp"
#include "tests/support/library.hpp"

namespace bv::plan {
namespace {

constexpr std::int64_t kBound = 12;

using support::catalogue;

class AllLayouts : public ::testing::TestWithParam<const char*> {};

TEST_P(AllLayouts, AreThoseThatAreAcceptedOneByOneAndEachRuleIsBoundOnThem) {
  const checkpoint::HfModel hf = support::open_golden(GetParam());
  parallel::Layout base;
  base.vocab_divisor = 1;
  const auto proof = plan::prove_all_layouts(hf.model, catalogue(), base, kBound);
  ASSERT_TRUE(proof) << proof.error().message;
  std::int64_t accepted = 0;
  parallel::Layout layout = base;
  for (layout.tp = 1; layout.tp <= kBound; ++layout.tp) {
    for (layout.pp = 1; layout.pp <= kBound; ++layout.pp) {
      for (layout.ep = 1; layout.ep <= kBound; ++layout.ep) {
        for (layout.etp = 1; layout.etp <= kBound; ++layout.etp) {
          const bool dense = hf.model.geometry.get("num_experts").value_or(0) == 0;
          accepted += (!dense || layout.etp == 1) && check_layout(hf.model, layout) ? 1 : 0;
        }
      }
    }
  }
  EXPECT_EQ(proof->layouts, accepted);
  EXPECT_GT(accepted, 1);
  EXPECT_GE(proof->bindings, proof->rules);
}

INSTANTIATE_TEST_SUITE_P(Models, AllLayouts,
                         ::testing::Values("llama", "qwen3_moe", "qwen3_5_dense_mtp",
                                           "qwen3_5_vl_moe_mtp_packed", "deepseek_v3", "gpt_oss"));

TEST(AllLayouts, ASizeThatTheConditionsAllowAndARuleDoesNotIsNamed) {
  checkpoint::HfModel hf = support::open_golden("qwen3");
  hf.model.constraints.clear();  // the planted fault: a family that forgot its conditions
  parallel::Layout base;
  base.vocab_divisor = 1;
  const auto proof = plan::prove_all_layouts(hf.model, catalogue(), base, kBound);
  ASSERT_FALSE(proof);
  EXPECT_EQ(proof.error().code, Code::IndivisibleDim);
  ASSERT_FALSE(proof.error().facts.empty());
  EXPECT_NE(proof.error().facts.back().find("TP="), std::string::npos);
}

/// The object with the sizes of the text model.
nlohmann::json& text_of(nlohmann::json& config) {
  nlohmann::json* at = &config;
  for (const char* level : {"thinker_config", "llm_config", "text_config"}) {
    if (const auto found = at->find(level); found != at->end() && found->is_object()) {
      at = &*found;
    }
  }
  return *at;
}

/// Norms of single heads, biases and sinks are cut as well: with fewer key/value heads than ranks a
/// rule that the conditions of its family forgot cannot be bound.
TEST(AllLayouts, BindEveryRuleOfEveryFamilyWhateverTheNumberOfKeyValueHeads) {
  int proved = 0;
  for (const auto& entry : std::filesystem::directory_iterator(BV_FIXTURES "/configs")) {
    nlohmann::json config = support::read_json(entry.path()).at("config");
    nlohmann::json& text = text_of(config);
    const std::int64_t heads = text.value("num_attention_heads", std::int64_t{0});
    for (const std::int64_t groups : {std::int64_t{1}, std::int64_t{2}, heads}) {
      const bool read = text.contains("num_key_value_heads") &&
                        text["num_key_value_heads"].is_number() && heads % groups == 0;
      if (!read || text.contains("kv_lora_rank")) {
        continue;
      }
      text["num_key_value_heads"] = groups;
      model::ResolveOptions options;
      options.config_only = true;
      const auto family = model::choose_family(config, support::families());
      ASSERT_TRUE(family) << entry.path();
      const auto model = model::resolve(*family, config, {}, options);
      if (!model) {
        continue;  // the family says why it has no such model
      }
      parallel::Layout base;
      base.vocab_divisor = 1;
      const auto proof = plan::prove_all_layouts(*model, catalogue(), base, kBound);
      EXPECT_TRUE(proof) << entry.path() << " " << groups << ": " << proof.error().message;
      ++proved;
    }
  }
  EXPECT_GT(proved, 200);
}

}  // namespace
}  // namespace bv::plan

#include "core/model/rules_file.hpp"

#include <gtest/gtest.h>

#include "tests/core/model/sample.hpp"

namespace bv::model::test {
namespace {

std::string fixture_text(const std::string& part) {
  std::ifstream in(std::filesystem::path(BV_FIXTURES) / part, std::ios::binary);
  return {std::istreambuf_iterator<char>(in), {}};
}

ForeignRules rules_of(const std::string& part) {
  auto rules = parse_rules_file(fixture_text(part), part);
  EXPECT_TRUE(rules.has_value()) << part << ": " << rules.error().message;
  return std::move(rules).value();
}

Result<Model> applied(const std::string& golden_name, const std::string& part) {
  const auto wanted = resolve_golden(golden_name);
  EXPECT_TRUE(wanted.has_value());
  static const ForeignKinds kinds = foreign_kinds().value();
  return apply_rules(*wanted, rules_of(part), kinds, golden_headers(golden_name));
}

const NameFault* fault_of(const Model& model, Code code) {
  for (const NameFault& fault : model.faults) {
    if (fault.code == code) {
      return &fault;
    }
  }
  return nullptr;
}

TEST(RulesFile, RightRulesGiveTheMappingsOfTheFamily) {
  for (const auto& [name, part] : std::vector<std::pair<std::string, std::string>>{
           {"qwen3", "rules/qwen3.rules.json"},
           {"qwen3_next", "rules/qwen3_next.rules.json"},
           {"qwen3_moe", "rules/qwen3_moe.rules.json"},
           {"qwen3_5_moe_packed", "rules/qwen3_5_moe_packed.rules.json"}}) {
    const auto model = applied(name, part);
    ASSERT_TRUE(model.has_value()) << name << ": " << model.error().message;
    EXPECT_TRUE(model->faults.empty()) << name << ": " << model->faults.front().message;
    const auto wanted = resolve_golden(name);
    ASSERT_EQ(model->mappings.size(), wanted->mappings.size()) << name;
    for (std::size_t i = 0; i < model->mappings.size(); ++i) {
      EXPECT_EQ(model->mappings[i].hf, wanted->mappings[i].hf) << name;
      EXPECT_EQ(model->mappings[i].rule->kind, wanted->mappings[i].rule->kind)
          << model->mappings[i].rule->source;
      EXPECT_EQ(model->megatron_name(model->mappings[i], 1),
                wanted->megatron_name(wanted->mappings[i], 1));
    }
  }
}

TEST(RulesFile, AMissingRuleIsNamedWithItsParameterAndTensor) {
  const auto model = applied("qwen3", "broken/missing_k_norm.rules.json");
  ASSERT_TRUE(model.has_value());
  const NameFault* without = fault_of(*model, Code::MegatronParamWithoutRule);
  ASSERT_NE(without, nullptr);
  EXPECT_EQ(without->subject, "decoder.layers.0.self_attention.k_layernorm.weight");
  const NameFault* unused = fault_of(*model, Code::HfTensorUnused);
  ASSERT_NE(unused, nullptr);
  EXPECT_EQ(unused->subject, "model.layers.0.self_attn.k_norm.weight");
}

TEST(RulesFile, PerExpertRulesOnAPackedCheckpointLeaveParametersUnfilled) {
  const auto model = applied("qwen3_5_moe_packed", "broken/per_expert_on_packed.rules.json");
  ASSERT_TRUE(model.has_value());
  const NameFault* unfilled = fault_of(*model, Code::MegatronParamUnfilled);
  ASSERT_NE(unfilled, nullptr);
  EXPECT_EQ(unfilled->subject, "decoder.layers.0.mlp.experts.linear_fc1.weight0");
  EXPECT_NE(unfilled->wanted.find("model.layers.0.mlp.experts.0.gate_proj.weight"),
            std::string::npos);
  EXPECT_NE(fault_of(*model, Code::HfTensorUnused), nullptr);
}

TEST(RulesFile, TensorsOfAnotherModuleAreNamedThoughTheyFit) {
  const auto model = applied("qwen3", "broken/exchanged_qk_norm.rules.json");
  ASSERT_TRUE(model.has_value());
  ASSERT_EQ(model->faults.size(), 2U);
  const NameFault* fault = fault_of(*model, Code::OtherSource);
  ASSERT_NE(fault, nullptr);
  EXPECT_EQ(fault->subject, "decoder.layers.0.self_attention.q_layernorm.weight");
  EXPECT_EQ(fault->found, "model.layers.0.self_attn.k_norm.weight");
  EXPECT_EQ(fault->wanted, "model.layers.0.self_attn.q_norm.weight");
}

TEST(RulesFile, ExchangedGateAndUpKeepTheNamesAndChangeTheSources) {
  const auto model = applied("qwen3", "broken/swapped_gate_up.rules.json");
  ASSERT_TRUE(model.has_value());
  EXPECT_TRUE(model->faults.empty());
  for (const Mapping& mapping : model->mappings) {
    if (mapping.rule->kind == "gated_mlp") {
      EXPECT_TRUE(mapping.hf[0].ends_with("up_proj.weight"));
      EXPECT_EQ(mapping.rule->hf[0].first, "gate");
    }
  }
}

TEST(RulesFile, UnknownKindsAndWildcardCountsAreRefusedWithTheNearest) {
  const auto kind = applied("qwen3", "broken/unknown_kind.rules.json");
  ASSERT_FALSE(kind.has_value());
  EXPECT_EQ(kind.error().code, Code::RulesInvalid);
  EXPECT_EQ(kind.error().help, "did you mean qkv?");
  const auto count = applied("qwen3", "broken/wildcard_count.rules.json");
  ASSERT_FALSE(count.has_value());
  EXPECT_EQ(count.error().code, Code::WildcardCount);
}

TEST(RulesFile, BadTextIsRefusedWithItsPlace) {
  EXPECT_EQ(parse_rules_file("{\n \"schema\": ,", "x").error().where, "x:2:12");
  for (
      const char* text :
      {"[]", "{}", R"({"schema":"bridge-rules/2","rules":[{}]})", R"({"schema":"bridge-rules/1"})",
       R"({"schema":"bridge-rules/1","rules":[]})", R"({"schema":"bridge-rules/1","rules":[7]})",
       R"({"schema":"bridge-rules/1","rules":[{"kind":"auto","megatron":"a","hf":3}]})",
       R"({"schema":"bridge-rules/1","rules":[{"kind":"auto","megatron":"*.*.*.*.*.*.*.*.*","hf":"b"}]})"}) {
    const auto rules = parse_rules_file(text, "x");
    ASSERT_FALSE(rules.has_value()) << text;
    EXPECT_EQ(rules.error().code, Code::RulesInvalid);
  }
  EXPECT_FALSE(parse_rules_file(std::string(100000, '['), "x").has_value());
}

TEST(Pattern, StarTakesDigitsOnlyAndDoubleStarAnything) {
  EXPECT_EQ(match_pattern("a.*.b", "a.12.b"), std::vector<std::string>{"12"});
  EXPECT_FALSE(match_pattern("a.*.b", "a.x.b").has_value());
  EXPECT_FALSE(match_pattern("a.*.b", "a..b").has_value());
  EXPECT_EQ(match_pattern("a.**.b", "a.x.1.b"), std::vector<std::string>{"x.1"});
  EXPECT_EQ(match_pattern("w*", "w3"), std::vector<std::string>{"3"});
  EXPECT_FALSE(match_pattern("a.*", "a.1.b").has_value());
  EXPECT_FALSE(match_pattern("a", "ab").has_value());
}

TEST(Pattern, CapturesFillFromTheLeftDoubleStarsFirst) {
  EXPECT_EQ(fill_pattern("x.*.y.*.z", {"1", "2"}), "x.1.y.2.z");
  EXPECT_EQ(fill_pattern("*.**", {"a", "7"}), "7.a");  // the captures change places, as upstream
  EXPECT_EQ(fill_pattern("x.*", {"4", "5"}), "x.4");
}

TEST(ForeignKinds, AutoFollowsTheModule) {
  const auto kinds = foreign_kinds().value();
  EXPECT_EQ(kinds.parallelism("decoder.layers.0.self_attention.linear_proj.weight"), "row");
  EXPECT_EQ(kinds.parallelism("decoder.layers.0.mlp.linear_fc2.bias"), "replicated");
  EXPECT_EQ(kinds.parallelism("decoder.layers.0.mlp.router.weight"), "replicated");
  EXPECT_EQ(kinds.parallelism("decoder.layers.0.self_attention.A_log"), "column");
  EXPECT_EQ(kinds.find("NoSuchMapping"), nullptr);
}

}  // namespace
}  // namespace bv::model::test

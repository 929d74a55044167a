#include "core/foreign/rules_file.hpp"

#include <gtest/gtest.h>

#include <functional>

#include "tests/core/model/sample.hpp"

namespace bv::foreign {
namespace {

using namespace model::test;

std::string fixture_text(const std::string& part) {
  std::ifstream in(std::filesystem::path(BV_FIXTURES) / part, std::ios::binary);
  return {std::istreambuf_iterator<char>(in), {}};
}

ForeignRules rules_of(const std::string& part) {
  auto rules = parse_rules_file(fixture_text(part), part);
  EXPECT_TRUE(rules.has_value()) << part << ": " << rules.error().message;
  return std::move(rules).value();
}

Result<model::Model> applied(const std::string& golden_name, const std::string& part) {
  const auto wanted = resolve_golden(golden_name);
  EXPECT_TRUE(wanted.has_value());
  static const ForeignKinds kinds = foreign_kinds().value();
  return apply_rules(*wanted, rules_of(part), kinds, golden_headers(golden_name));
}

const model::NameFault* fault_of(const model::Model& model, Code code) {
  for (const model::NameFault& fault : model.faults) {
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
  const model::NameFault* without = fault_of(*model, Code::MegatronParamWithoutRule);
  ASSERT_NE(without, nullptr);
  EXPECT_EQ(without->subject, "decoder.layers.0.self_attention.k_layernorm.weight");
  const model::NameFault* unused = fault_of(*model, Code::HfTensorUnused);
  ASSERT_NE(unused, nullptr);
  EXPECT_EQ(unused->subject, "model.layers.0.self_attn.k_norm.weight");
}

TEST(RulesFile, PerExpertRulesOnAPackedCheckpointLeaveParametersUnfilled) {
  const auto model = applied("qwen3_5_moe_packed", "broken/per_expert_on_packed.rules.json");
  ASSERT_TRUE(model.has_value());
  const model::NameFault* unfilled = fault_of(*model, Code::MegatronParamUnfilled);
  ASSERT_NE(unfilled, nullptr);
  EXPECT_EQ(unfilled->subject, "decoder.layers.0.mlp.experts.linear_fc1.weight0");
  EXPECT_NE(unfilled->wanted.find("model.layers.0.mlp.experts.0.gate_proj.weight"),
            std::string::npos);
  EXPECT_NE(fault_of(*model, Code::HfTensorUnused), nullptr);
}

TEST(RulesFile, TensorsOfAnotherModuleAreNamedThoughTheyFit) {
  const auto model = applied("qwen3", "broken/swapped_qk_norms.rules.json");
  ASSERT_TRUE(model.has_value());
  ASSERT_EQ(model->faults.size(), 2U);
  const model::NameFault* fault = fault_of(*model, Code::OtherSource);
  ASSERT_NE(fault, nullptr);
  EXPECT_EQ(fault->subject, "decoder.layers.0.self_attention.q_layernorm.weight");
  EXPECT_EQ(fault->found, "model.layers.0.self_attn.k_norm.weight");
  EXPECT_EQ(fault->wanted, "model.layers.0.self_attn.q_norm.weight");
}

TEST(RulesFile, ExchangedGateAndUpKeepTheNamesAndChangeTheSources) {
  const auto model = applied("qwen3", "broken/swapped_gate_up.rules.json");
  ASSERT_TRUE(model.has_value());
  EXPECT_TRUE(model->faults.empty());
  for (const model::Mapping& mapping : model->mappings) {
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
  const auto large = parse_rules_file("{\"rules\": 9e999}", "large.json");
  ASSERT_FALSE(large.has_value());
  EXPECT_EQ(large.error().code, Code::RulesInvalid);
  EXPECT_EQ(large.error().message, "it holds a number that is too large");
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

TEST(Pattern, ManyWildcardsInARowAreSearchedToTheEnd) {
  const std::string name = "decoder.layers.11.self_attention.linear_qkv.weight and much behind it";
  const auto captures = match_pattern("decoder.**************it", name);
  ASSERT_TRUE(captures.has_value());
  EXPECT_EQ(captures->size(), 7U);
  EXPECT_EQ(captures->front(), name.substr(8, name.size() - 10));
  EXPECT_FALSE(match_pattern("decoder.**************none", name).has_value());
  EXPECT_FALSE(match_pattern("**a**a**a**a**a**a**a**b", std::string(400, 'a')).has_value());
}

TEST(Pattern, CapturesFillFromTheLeftDoubleStarsFirst) {
  EXPECT_EQ(fill_pattern("x.*.y.*.z", {"1", "2"}), "x.1.y.2.z");
  EXPECT_EQ(fill_pattern("*.**", {"a", "7"}), "7.a");  // the captures change places, as upstream
  EXPECT_EQ(fill_pattern("x.*", {"4", "5"}), "x.4");
}

/// Rules of the golden model of that name, with one rule changed.
Result<model::Model> changed(const std::string& name, const std::string& megatron,
                             const std::function<void(ForeignRule&)>& change) {
  ForeignRules rules = rules_of("rules/" + name + ".rules.json");
  for (ForeignRule& rule : rules.rules) {
    if (rule.megatron == megatron) {
      change(rule);
    }
  }
  static const ForeignKinds kinds = foreign_kinds().value();
  return apply_rules(*resolve_golden(name), rules, kinds, golden_headers(name));
}

const std::string kProjection = "decoder.layers.*.self_attention.linear_proj.weight";

/// permute_dims of a rule that packs no experts was read and forgotten: a transposed weight passed
/// as it stood.
TEST(RulesFile, APermutationChoosesTheLineThatTransposes) {
  const auto model = changed("qwen3", kProjection, [](ForeignRule& rule) {
    rule.permutation = {1, 0};
  });
  ASSERT_TRUE(model.has_value()) << model.error().message;
  for (const model::Mapping& mapping : model->mappings) {
    if (mapping.hf.front().ends_with("o_proj.weight")) {
      EXPECT_EQ(mapping.rule->kind, "row_transposed");
      EXPECT_EQ(mapping.rule->axes.at("i"), "24 / t");  // o_proj is [24, 96]
      EXPECT_EQ(mapping.rule->axes.at("o"), "96");
    }
  }
  const auto three = changed("qwen3", kProjection, [](ForeignRule& rule) {
    rule.permutation = {0, 2, 1};
  });
  ASSERT_FALSE(three.has_value());
  EXPECT_EQ(three.error().code, Code::RulesInvalid);
  const auto cycle = changed("qwen3", kProjection, [](ForeignRule& rule) {
    rule.permutation = {1, 2, 0};
  });
  ASSERT_FALSE(cycle.has_value());
  EXPECT_NE(cycle.error().message.find("no involution"), std::string::npos);
}

TEST(RulesFile, PermutationsAreReadAndChecked) {
  const auto parsed = [](const std::string& dims) {
    return parse_rules_file(R"({"schema":"bridge-rules/1","rules":[{"kind":"row","megatron":"a",)"
                            R"("hf":"b","parameters":{"permute_dims":)" +
                                dims + "}}]}",
                            "x");
  };
  EXPECT_EQ(parsed("[1, 0]")->rules[0].permutation, (std::vector<std::int64_t>{1, 0}));
  EXPECT_TRUE(parsed("[0, 1, 2]")->rules[0].permutation.empty());
  EXPECT_EQ(parsed("[0, 1, 2]")->rules[0].transposed, std::optional(false));
  EXPECT_EQ(parsed("[0, 2, 1]")->rules[0].transposed, std::optional(true));
  EXPECT_TRUE(parsed("null")->rules[0].permutation.empty());
  for (const char* wrong : {"[]", "[1]", "[0, 0]", "[0, 2]", "[-1, 0]", "[0.0, 1]", "7",
                            "[0,1,2,3,4,5,6,7,8]", R"("10")"}) {
    EXPECT_FALSE(parsed(wrong).has_value()) << wrong;
  }
}

TEST(RulesFile, OneTensorForTwoParametersAndTwoRulesForOneAreFaults) {
  const auto twice = changed("qwen3", kProjection, [](ForeignRule& rule) {
    rule.hf.front().second = "model.layers.*.mlp.down_proj.weight";
  });
  ASSERT_TRUE(twice.has_value());
  const model::NameFault* claimed = fault_of(*twice, Code::DuplicateClaim);
  ASSERT_NE(claimed, nullptr);
  EXPECT_EQ(claimed->subject, "model.layers.0.mlp.down_proj.weight");
  ForeignRules rules = rules_of("rules/qwen3.rules.json");
  rules.rules.push_back(rules.rules.front());
  rules.rules.back().position = rules.rules.size() - 1;
  const auto kinds = foreign_kinds().value();
  const auto same = apply_rules(*resolve_golden("qwen3"), rules, kinds, golden_headers("qwen3"));
  EXPECT_EQ(fault_of(*same, Code::DuplicateClaim), nullptr) << "said twice: harmless";
  rules.rules.back().hf.front().second = "other.weight";
  const auto other = apply_rules(*resolve_golden("qwen3"), rules, kinds, golden_headers("qwen3"));
  EXPECT_NE(fault_of(*other, Code::DuplicateClaim), nullptr);
}

TEST(ForeignKinds, AutoKnowsEveryParameterOfEveryGoldenModelAndNoOther) {
  const auto kinds = foreign_kinds().value();
  for (const std::string& name : golden_cases()) {
    for (const std::string& parameter : megatron_names(*resolve_golden(name))) {
      EXPECT_NE(kinds.parallelism(parameter), "") << name << " " << parameter;
    }
  }
  EXPECT_EQ(kinds.parallelism("decoder.layers.0.self_attention.mystery.weight"), "");
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
}  // namespace bv::foreign

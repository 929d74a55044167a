#include "core/foreign/rules_apply.hpp"

#include <gtest/gtest.h>

#include <functional>

#include "core/foreign/pattern.hpp"
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

/// The rules on a golden checkpoint. Questions about single rules are faults here.
AppliedRules all_of(const std::string& golden_name, const ForeignRules& rules) {
  static const ForeignKinds kinds = foreign_kinds().value();
  const auto wanted = resolve_golden(golden_name);
  EXPECT_TRUE(wanted.has_value());
  auto out = apply_rules(*wanted, rules, kinds, golden_headers(golden_name));
  EXPECT_TRUE(out.has_value()) << out.error().message;
  return std::move(out).value();
}

Result<model::Model> applied_rules(const std::string& golden_name, const ForeignRules& rules) {
  AppliedRules out = all_of(golden_name, rules);
  if (!out.open.empty()) {
    const OpenQuestion& question = out.open.front();
    Error error = fail(question.code, question.message);
    error.help = question.help;
    return error;
  }
  return std::move(out.model);
}

Result<model::Model> applied(const std::string& golden_name, const std::string& part) {
  return applied_rules(golden_name, rules_of(part));
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
  EXPECT_EQ(unfilled->wanted,
            "model.layers.0.mlp.experts.0.gate_proj.weight, "
            "model.layers.0.mlp.experts.0.up_proj.weight");
  EXPECT_EQ(unfilled->found,
            "not in the checkpoint: model.layers.0.mlp.experts.0.gate_proj.weight, "
            "model.layers.0.mlp.experts.0.up_proj.weight; unread there: "
            "model.layers.0.mlp.experts.gate_up_proj");
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

TEST(RulesFile, UnknownKindsAndWildcardCountsAreQuestionsAboutTheirRule) {
  const auto kind = applied("qwen3", "broken/unknown_kind.rules.json");
  ASSERT_FALSE(kind.has_value());
  EXPECT_EQ(kind.error().code, Code::RuleKindUnknown);
  EXPECT_EQ(kind.error().help, "did you mean qkv?");
  const AppliedRules rest = all_of("qwen3", rules_of("broken/unknown_kind.rules.json"));
  ASSERT_EQ(rest.open.size(), 1U);
  EXPECT_EQ(rest.open[0].answer, OpenQuestion::Answer::Unsupported);
  EXPECT_FALSE(rest.open[0].hf.empty()) << "its tensors are told of with it";
  EXPECT_TRUE(rest.model.faults.empty()) << "one cause, once";
  EXPECT_FALSE(rest.model.mappings.empty()) << "the other rules are judged";
  const auto count = applied("qwen3", "broken/wildcard_count.rules.json");
  ASSERT_FALSE(count.has_value());
  EXPECT_EQ(count.error().code, Code::WildcardCount);
  const AppliedRules counted = all_of("qwen3", rules_of("broken/wildcard_count.rules.json"));
  EXPECT_EQ(counted.open.size(), 1U);
  EXPECT_TRUE(counted.model.faults.empty()) << "what it was meant to read is no second cause";
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
  EXPECT_EQ(large.error().message, "large.json holds a number that is too large");
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
  return applied_rules(name, rules);
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
  EXPECT_EQ(three.error().code, Code::RuleMalformed);
  const auto cycle = changed("qwen3", kProjection, [](ForeignRule& rule) {
    rule.permutation = {1, 2, 0};
  });
  ASSERT_FALSE(cycle.has_value());
  EXPECT_NE(cycle.error().message.find("which does not undo itself"), std::string::npos);
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
  const auto same = applied_rules("qwen3", rules);
  EXPECT_EQ(fault_of(*same, Code::DuplicateClaim), nullptr) << "said twice: harmless";
  rules.rules.back().hf.front().second = "other.weight";
  const auto other = applied_rules("qwen3", rules);
  EXPECT_NE(fault_of(*other, Code::DuplicateClaim), nullptr);
}

/// Two rules of one stack, put on headers of these shapes.
std::vector<std::string> stack_kinds(const std::string& parameters, const Shape& fc1,
                                     const Shape& fc2) {
  const std::string golden_name = "qwen3_5_moe_packed";
  const auto wanted = resolve_golden(golden_name);
  Headers headers = golden_headers(golden_name);
  for (auto& [name, spec] : headers) {
    spec.shape = name.ends_with("experts.gate_up_proj") ? fc1
                 : name.ends_with("experts.down_proj")  ? fc2
                                                        : spec.shape;
  }
  ForeignRules rules = rules_of("rules/qwen3_5_moe_packed.rules.json");
  const auto extra = parse_rules_file(
      R"({"schema":"bridge-rules/1","rules":[{"kind":"row","megatron":"a","hf":"b","parameters":)" +
          parameters + "}]}",
      "x");
  for (ForeignRule& rule : rules.rules) {
    rule.orientation = extra->rules[0].orientation;
  }
  const auto out = apply_rules(*wanted, rules, foreign_kinds().value(), headers);
  std::set<std::string> kinds;
  for (const OpenQuestion& question : out->open) {
    kinds.insert(label(question.code));
  }
  for (const model::Mapping& mapping : out->model.mappings) {
    if (mapping.rule->kind.starts_with("packed")) {
      kinds.insert(mapping.rule->kind);
    }
  }
  return {kinds.begin(), kinds.end()};
}

/// transpose_on_export was read as "stored [E, in, out]": 146 verdicts against Qwen3-VL-MoE.
TEST(RulesFile, StacksAreReadByShapeWhateverTheExportDoes) {
  using Kinds = std::vector<std::string>;
  const auto hidden = resolve_golden("qwen3_5_moe_packed")->geometry.at("hidden_size");
  const std::int64_t wide = hidden + 8;
  for (const char* parameters : {"{}", R"({"transpose_on_export": true})",
                                 R"({"transpose_on_export": false, "orientation": "by_shape"})"}) {
    EXPECT_EQ(stack_kinds(parameters, {8, 2 * wide, hidden}, {8, hidden, wide}),
              (Kinds{"packed_fc1", "packed_fc2"}))
        << parameters;
    EXPECT_EQ(stack_kinds(parameters, {8, hidden, 2 * wide}, {8, wide, hidden}),
              (Kinds{"packed_fc1_in_out", "packed_fc2_in_out"}))
        << parameters;
    EXPECT_EQ(stack_kinds(parameters, {8, hidden, hidden}, {8, hidden, hidden}), Kinds{"BV2008"})
        << parameters;
  }
  EXPECT_EQ(stack_kinds(R"({"orientation": "in_out"})", {8, hidden, hidden}, {8, hidden, hidden}),
            (Kinds{"packed_fc1_in_out", "packed_fc2_in_out"}));
  EXPECT_EQ(stack_kinds(R"({"transpose": false})", {8, hidden, hidden}, {8, hidden, hidden}),
            (Kinds{"packed_fc1", "packed_fc2"}));
}

TEST(RulesFile, RulesAreNamedByLineAndColumn) {
  const auto rules = parse_rules_file(
      "{\"schema\": \"bridge-rules/1\",\n \"rules\": [\n"
      "  {\"kind\": \"row\", \"megatron\": \"a\", \"hf\": \"b\"},\n"
      "  {\"kind\": \"row\", \"megatron\": \"c\", \"hf\": \"d\",\n"
      "   \"source\": {\"file\": \"bridge.py\", \"line\": 257}}]}",
      "my.json");
  ASSERT_TRUE(rules.has_value());
  EXPECT_EQ(rules->rules[0].source, "my.json:3:3");
  EXPECT_EQ(rules->rules[1].source, "bridge.py:257");
  const auto wrong = parse_rules_file(
      "{\"schema\": \"bridge-rules/1\", \"rules\": [\n"
      "  {\"kind\": \"row\", \"megatron\": \"a\",\n   \"hf\": 7}]}",
      "my.json");
  ASSERT_FALSE(wrong.has_value());
  EXPECT_EQ(wrong.error().where, "my.json:3:10");
  EXPECT_EQ(wrong.error().message, "\"hf\" of rule r0 is neither a name nor names by role");
}

TEST(RulesFile, StatementsAndParametersAreReadAndChecked) {
  const auto with = [](const std::string& key) {
    return parse_rules_file(
        R"({"schema":"bridge-rules/1","rules":[{"kind":"row","megatron":"a","hf":"b"}],)" + key +
            "}",
        "x");
  };
  EXPECT_EQ(with(R"("facts":{"layernorm_zero_centered_gamma":true})")->zero_centered_norms, true);
  EXPECT_EQ(with(R"("facts":{"hidden_size":8})")->zero_centered_norms, std::nullopt);
  const auto measured =
      with(R"("facts":{"norms":{"hf":{"a":"weight"},"megatron":{"b.*":"offset"}}},)"
           R"("hooks":{"maybe_modify_loaded_hf_weight":"X","changes":["r0"]})");
  ASSERT_TRUE(measured.has_value());
  EXPECT_FALSE(measured->norms.hf.at(0).offset);
  EXPECT_TRUE(measured->norms.megatron.at(0).offset);
  EXPECT_EQ(measured->norms.megatron.at(0).pattern, "b.*");
  EXPECT_EQ(measured->load_hook->owner, "X");
  EXPECT_EQ(measured->load_hook->changes, std::vector<std::string>{"r0"});
  const auto list =
      with(R"("model":{"parameters":["a",{"name":"b","shape":[2,3]},["c",[4],"Linear","row"]]})");
  ASSERT_TRUE(list.has_value());
  ASSERT_EQ(list->parameters->size(), 3U);
  EXPECT_EQ((*list->parameters)[1].shape, (Shape{2, 3}));
  EXPECT_EQ((*list->parameters)[2].parallelism, "row");
  EXPECT_TRUE(list->warnings.empty());
  for (const char* wrong :
       {R"("facts":{"norms":{"hf":{"a":"sometimes"},"megatron":{}}})",
        R"("facts":{"norms":{"hf":{}}})", R"("facts":{"norms":7})",
        R"("hooks":{"maybe_modify_loaded_hf_weight":"X","changes":[7]})", R"("facts":7)",
        R"("hooks":{"maybe_modify_loaded_hf_weight":"X","changes":["r1"]})",
        R"("facts":{"layernorm_zero_centered_gamma":1})", R"("model":{"parameters":[]})",
        R"("model":{"parameters":["a","a"]})", R"("model":{"parameters":["a.*"]})",
        R"("model":{"parameters":[["a",[-1]]]})",
        R"("model":{"parameters":[["a",[1],"","diagonal"]]})"}) {
    const auto refused = with(wrong);
    ASSERT_FALSE(refused.has_value()) << wrong;
    EXPECT_EQ(refused.error().code, Code::RulesInvalid) << wrong;
  }
}

/// Rules that name the MTP layer by number found nothing in the small model of the forward claim.
TEST(RulesFile, NumbersOfLayersBehindTheDecoderCountFromTheEnd) {
  const auto rules = parse_rules_file(
      R"({"schema":"bridge-rules/1","rules":[
          {"kind":"row","megatron":"decoder.layers.*.a","hf":"model.layers.*.a"},
          {"kind":"row","megatron":"mtp.layers.0.a","hf":"model.layers.46.a"},
          {"kind":"row","megatron":"decoder.layers.0.b","hf":"model.layers.0.b"}]})",
      "x");
  const ForeignRules small = with_layers(*rules, 46, 2);
  EXPECT_EQ(small.rules[0].hf[0].second, "model.layers.*.a");
  EXPECT_EQ(small.rules[1].hf[0].second, "model.layers.2.a");
  EXPECT_EQ(small.rules[2].hf[0].second, "model.layers.0.b");
}

}  // namespace
}  // namespace bv::foreign

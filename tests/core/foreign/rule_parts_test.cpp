// Keys of a rule beyond its kind: computed names, parts that may be absent, slices, when.

#include <gmock/gmock.h>

#include "core/foreign/lint.hpp"
#include "core/foreign/numbered.hpp"
#include "core/foreign/pattern.hpp"
#include "tests/core/foreign/new_model.hpp"

namespace bv::foreign {
namespace {

using namespace test;
using ::testing::ElementsAre;
using ::testing::HasSubstr;
using Told = std::vector<std::string>;
using Texts = std::vector<std::string>;

Error rejected(const NewModel& model) {
  const auto parsed = parse_rules_file(model.rules_text(), "new.rules.json");
  EXPECT_FALSE(parsed);
  return parsed ? Error{} : parsed.error();
}

TEST(NumberedNames, AreMadeOfTheCaptures) {
  const std::string pattern =
      numbered_pattern("mtp.layers.{a}.x.{b}", {{"a", "c0 * 2 + c1"}, {"b", "c1"}}).value();
  EXPECT_EQ(pattern, "mtp.layers.{c0 * 2 + c1}.x.{c1}");
  EXPECT_EQ(fill_pattern(pattern, {"3", "1"}), "mtp.layers.7.x.1");
  EXPECT_EQ(starred_numbers(pattern), "mtp.layers.*.x.*");
  EXPECT_EQ(captures_in(pattern), (std::vector<std::size_t>{0, 1}));
  // No name has a number that is below zero, no integer or too large.
  EXPECT_FALSE(fill_numbers("l.{c0 - 1}", {"0"}));
  EXPECT_FALSE(fill_numbers("l.{c0 / 2}", {"3"}));
  EXPECT_FALSE(fill_numbers("l.{c0}", {"12345678901234567890"}));
  EXPECT_FALSE(fill_numbers("l.{c1}", {"1"}));
}

TEST(NumberedNames, AreSolvedWhereEachCaptureFollows) {
  EXPECT_EQ(solve_numbers("l.{c0 + 8}", {"11"}), Texts{"3"});
  EXPECT_EQ(solve_numbers("l.{c0 + 8}", {"7"}), std::nullopt);
  EXPECT_EQ(solve_numbers("l.{2 * c0}", {"5"}), std::nullopt);
  EXPECT_EQ(solve_numbers("l.{c0 + 8}", {"011"}), std::nullopt);
  EXPECT_EQ(solve_numbers("{c1}.{c0 * 2 + 1}", {"4", "7"}), (Texts{"3", "4"}));
  EXPECT_EQ(solve_numbers("{c0}.{c0 + 1}", {"4", "5"}), Texts{"4"});
  EXPECT_EQ(solve_numbers("{c0}.{c0 + 1}", {"4", "6"}), std::nullopt);
  EXPECT_FALSE(can_be_solved("l.{c0 * 2 + c1}"));
  EXPECT_FALSE(can_be_solved("l.{c0 * c0}"));
}

TEST(NumberedNames, ThatAreWrittenWronglyAreRefused) {
  for (const json& hf :
       {json{{"pattern", "l.{a}.x"}}, json{{"pattern", "l.{a}.x"}, {"a", "c0 +"}},
        json{{"pattern", "l.{a}.x"}, {"a", "c9"}}, json{{"pattern", "l.{a}.x"}, {"a", "7"}},
        json{{"pattern", "l.{a}.x"}, {"a", "layers"}}, json{{"pattern", "l.{a}.x"}, {"a", 3}},
        json{{"pattern", "l.{a}.*"}, {"a", "c0"}}, json{{"pattern", "l.{a"}, {"a", "c0"}},
        json{{"pattern", "l.{a}.x"}, {"a", "c0"}, {"b", "c0"}}, json("l.{a}.x")}) {
    NewModel model = NewModel::plain();
    model.rule("replicated", "decoder.layers.*.x", hf);
    const Error error = rejected(model);
    EXPECT_EQ(error.code, Code::RulesInvalid) << hf;
    EXPECT_THAT(error.where, HasSubstr("new.rules.json:")) << hf;
    EXPECT_FALSE(error.help.empty()) << hf;
  }
}

/// Experts of a second pool are numbered behind those of the first (Ernie 4.5 VL).
NewModel two_pools() {
  NewModel model;
  model.sizes().ends().attention().norms();
  model.config.update({{"num_experts", 2}, {"moe_intermediate_size", 16}});
  for (int e = 0; e < 4; ++e) {
    model.per_layer(fmt::format("mlp.experts.{}.down_proj.weight", e), {24, 16});
  }
  model.layer_rule("row", "mlp.text.local_experts.*.linear_fc2.weight",
                   "mlp.experts.*.down_proj.weight");
  return model;
}

TEST(RuleParts, AComputedNameReadsWhatItSays) {
  NewModel model = NewModel::plain();
  for (int i = 0; i < 3; ++i) {
    model.tensor(fmt::format("tower.{}.proj.weight", 2 * i + 5), {8, 8});
  }
  model.rule("replicated", "vision_model.blocks.*.proj.weight",
             json{{"pattern", "tower.{n}.proj.weight"}, {"n", "2 * c0 + 5"}});
  const AppliedRules applied = model.applied();
  EXPECT_EQ(told(applied), Told{kOpenList});
  EXPECT_EQ(unaccounted(model, applied), Told{});
  for (const model::Mapping& mapping : applied.model.mappings) {
    if (applied.model.megatron_name(mapping, 0) == "vision_model.blocks.2.proj.weight") {
      EXPECT_EQ(mapping.hf, Texts{"tower.9.proj.weight"});
    }
  }
  EXPECT_TRUE(makes(applied, "vision_model.blocks.2.proj.weight"));
}

/// The fault that the arithmetic is for: an offset that is one too small.
TEST(RuleParts, AWrongOffsetLeavesATensorUnread) {
  NewModel model = NewModel::plain();
  for (int i = 0; i < 3; ++i) {
    model.tensor(fmt::format("tower.{}.proj.weight", i + 8), {8, 8});
  }
  model.rule("replicated", "vision_model.blocks.*.proj.weight",
             json{{"pattern", "tower.{n}.proj.weight"}, {"n", "c0 + 9"}});
  EXPECT_EQ(told(model.applied()), (Told{"fault BV1001 tower.8.proj.weight", kOpenList}));
}

TEST(RuleParts, ANumberOfTwoWildcardsIsAQuestionWithoutAListOfParameters) {
  NewModel model = NewModel::plain();
  json list = json::array();
  const AppliedRules plain = model.applied();
  for (const model::Mapping& mapping : plain.model.mappings) {
    list.push_back(plain.model.megatron_name(mapping));
  }
  for (int i = 0; i < 4; ++i) {
    model.tensor(fmt::format("mtp.layers.{}.norm.weight", i), {24});
    list.push_back(fmt::format("mtp.blocks.{}.inner.{}.norm.weight", i / 2, i % 2));
  }
  model.rule("replicated", "mtp.blocks.*.inner.*.norm.weight",
             json{{"pattern", "mtp.layers.{n}.norm.weight"}, {"n", "c0 * 2 + c1"}});
  const AppliedRules open = model.applied();
  EXPECT_EQ(told(open), (Told{"undecided BV1019 mtp.blocks.*.inner.*.norm.weight", kOpenList}));
  EXPECT_EQ(unaccounted(model, open), Told{});
  model.extra["model"]["parameters"] = list;
  const AppliedRules applied = model.applied();
  EXPECT_EQ(told(applied), Told{});
  EXPECT_TRUE(makes(applied, "mtp.blocks.1.inner.1.norm.weight"));
  // c0 + c1 reads layers.1 twice and never layers.3.
  model.rules.back()["hf"]["n"] = "c0 + c1";
  const Told all = told(model.applied());
  EXPECT_THAT(all, ::testing::Contains(HasSubstr("BV1001 mtp.layers.3.norm.weight")));
  EXPECT_THAT(all, ::testing::Contains(HasSubstr("BV1010 mtp.layers.1.norm.weight")));
}

/// Ernie 4.5 VL has rules for experts kept apart and no others, whatever the setting.
TEST(RuleParts, ARegistryOfOneSpellingIsReadInIt) {
  NewModel model = two_pools();
  model.forget("linear_fc2.weight");
  model.options.spelling.grouped_experts = true;
  model.layer_rule("row", "mlp.experts.local_experts.*.linear_fc2.weight",
                   "mlp.experts.*.down_proj.weight");
  const std::string apart = "decoder.layers.0.mlp.experts.local_experts.3.linear_fc2.weight";
  EXPECT_TRUE(makes(model.applied(), apart));
  for (const std::string& one : told(model.applied())) {
    EXPECT_FALSE(one.starts_with("fault BV1001") && one.find("experts") != std::string::npos)
        << one;
  }
  // With both spellings the setting decides.
  model.layer_rule("row", "mlp.experts.linear_fc2.weight*", "mlp.experts.*.down_proj.weight");
  EXPECT_FALSE(makes(model.applied(), apart));
}

TEST(RuleParts, AComputedNameIsMadeOfEveryWildcard) {
  NewModel model = two_pools();
  model.layer_rule("row", "mlp.vision.local_experts.*.linear_fc2.weight", "x");
  model.rules.back()["hf"] = {{"pattern", "model.layers.{i}.mlp.experts.1.down_proj.weight"},
                              {"i", "c0"}};
  const auto parsed = parse_rules_file(model.rules_text(), "new.rules.json").value();
  const auto findings = lint_rules(parsed, all_kinds());
  ASSERT_EQ(findings.size(), 1U);
  EXPECT_EQ(findings[0].code, Code::WildcardCount);
  EXPECT_THAT(findings[0].message, HasSubstr("2 wildcards"));
  model.rules.back()["hf"] = {{"pattern", "model.layers.{i}.mlp.experts.{e}.down_proj.weight"},
                              {"i", "c0"},
                              {"e", "c1 + 2"}};
  EXPECT_TRUE(
      lint_rules(parse_rules_file(model.rules_text(), "new.rules.json").value(), all_kinds())
          .empty());
}

TEST(RuleParts, WhatMayBeAbsentIsNeverRefutedAndNeverGreen) {
  NewModel model = NewModel::plain();
  model.headers.erase("model.layers.1.self_attn.v_proj.weight");
  EXPECT_THAT(told(model.applied()), ::testing::Contains(HasSubstr("fault BV1004")));
  for (const char* word : {"copy:k", "zero"}) {
    model.rule_for("linear_qkv.weight")["parameters"]["optional"] = {{"v", word}};
    const AppliedRules applied = model.applied();
    EXPECT_EQ(
        told(applied),
        (Told{kOpenList, "unsupported BV1016 decoder.layers.1.self_attention.linear_qkv.weight"}))
        << word;
    EXPECT_EQ(unaccounted(model, applied), Told{}) << word;
    EXPECT_TRUE(makes(applied, "decoder.layers.0.self_attention.linear_qkv.weight"));
  }
  // Another part is not the optional one.
  model.headers.erase("model.layers.2.self_attn.k_proj.weight");
  EXPECT_THAT(told(model.applied()), ::testing::Contains(HasSubstr("fault BV1004")));
}

TEST(RuleParts, AParameterThatIsSkippedIsAskedAboutWhereTheModelHasIt) {
  NewModel model = NewModel::plain();
  model.layer_rule("replicated", "extra.scale", "extra.scale", {{"optional", "skip"}});
  EXPECT_EQ(told(model.applied()), Told{kOpenList});
  model.per_layer("extra.scale", {24}, 0, 2);
  EXPECT_TRUE(makes(model.applied(), "decoder.layers.1.extra.scale"));
  json list = json::array();
  const AppliedRules whole = model.applied();
  for (const model::Mapping& mapping : whole.model.mappings) {
    list.push_back(whole.model.megatron_name(mapping));
  }
  model.extra["model"]["parameters"] = list;
  EXPECT_EQ(told(model.applied()), Told{});
  model.extra["model"]["parameters"].push_back("decoder.layers.2.extra.scale");
  EXPECT_EQ(told(model.applied()), Told{"undecided BV1019 decoder.layers.2.extra.scale"});
}

/// Row 0 of a tensor is one parameter and row 1 another (Ernie 4.5 VL, DeepSeek-V4).
NewModel with_slices(const json& first, const json& second) {
  NewModel model = NewModel::plain();
  model.per_layer("mlp.bias", {2, 8});
  model.layer_rule("replicated", "mlp.text.bias", "mlp.bias", {{"slice", first}});
  return model.layer_rule("replicated", "mlp.vision.bias", "mlp.bias", {{"slice", second}});
}

/// "slice 1 of model.layers.0.mlp.bias, slices": what makes a parameter, and its kind.
std::string made_of(const AppliedRules& applied, const std::string& name) {
  for (const model::Mapping& mapping : applied.model.mappings) {
    for (std::int64_t part = 0; part < applied.model.parameters_of(mapping); ++part) {
      if (mapping.is_stack() && applied.model.megatron_name(mapping, part) == name) {
        return fmt::format("slice {} of {}, {}", part, mapping.hf.front(), mapping.rule->kind);
      }
    }
  }
  return "nothing";
}

TEST(RuleParts, SlicesOfOneTensorAreMovedTogether) {
  const NewModel right = with_slices(0, 1);
  const AppliedRules applied = right.applied();
  EXPECT_EQ(told(applied), Told{kOpenList});
  EXPECT_EQ(unaccounted(right, applied), Told{});
  EXPECT_EQ(made_of(applied, "decoder.layers.0.mlp.text.bias"),
            "slice 0 of model.layers.0.mlp.bias, slices");
  EXPECT_EQ(made_of(applied, "decoder.layers.1.mlp.vision.bias"),
            "slice 1 of model.layers.1.mlp.bias, slices");
  const AppliedRules exchanged = with_slices(1, 0).applied();
  EXPECT_EQ(made_of(exchanged, "decoder.layers.0.mlp.text.bias"),
            "slice 1 of model.layers.0.mlp.bias, slices");
}

TEST(RuleParts, SlicesThatAreReadTwiceOrNotAtAllAreRefuted) {
  const Told twice = told(with_slices(0, 0).applied());
  EXPECT_THAT(twice, ::testing::Contains(HasSubstr("refuted BV1010")));
  EXPECT_THAT(twice, ::testing::Contains(HasSubstr("fault BV1001 model.layers.0.mlp.bias")));
  EXPECT_THAT(told(with_slices(0, 2).applied()), ::testing::Contains(HasSubstr("refuted BV2001")));
}

/// A vector of numbers that are a parameter each (DeepSeek-V4), and rows that the ranks cut.
TEST(RuleParts, SlicesAreCutAsTheirKindIs) {
  NewModel model = NewModel::plain();
  model.per_layer("scale", {3});
  for (const auto& [index, name] :
       std::map<int, const char*>{{0, "pre"}, {1, "post"}, {2, "res"}}) {
    model.layer_rule("replicated", fmt::format("mix.alpha_{}", name), "scale", {{"slice", index}});
  }
  model.per_layer("two.weight", {2, 40, 24});
  model.layer_rule("column", "a.linear_fc1.weight", "two.weight", {{"slice", 0}});
  model.layer_rule("column", "b.linear_fc1.weight", "two.weight", {{"slice", 1}});
  const AppliedRules applied = model.applied();
  EXPECT_EQ(told(applied), Told{kOpenList});
  EXPECT_EQ(made_of(applied, "decoder.layers.2.mix.alpha_res"),
            "slice 2 of model.layers.2.scale, single_slices");
  EXPECT_EQ(made_of(applied, "decoder.layers.0.b.linear_fc1.weight"),
            "slice 1 of model.layers.0.two.weight, packed_column");
}

TEST(RuleParts, SlicesThatAreCutInTwoWaysOrForTwoLayersAreNotMoved) {
  NewModel model = NewModel::plain();
  model.per_layer("two.weight", {2, 40, 24});
  model.layer_rule("column", "a.linear_fc1.weight", "two.weight", {{"slice", 0}});
  model.layer_rule("row", "b.linear_fc2.weight", "two.weight", {{"slice", 1}});
  EXPECT_THAT(told(model.applied()), ::testing::Contains(HasSubstr("unsupported BV1016")));
  NewModel layers = NewModel::plain();
  layers.tensor("model.all", {2, 8});
  layers.rule("replicated", "decoder.layers.0.x.bias", "model.all", {{"slice", 0}});
  layers.rule("replicated", "decoder.layers.1.x.bias", "model.all", {{"slice", 1}});
  EXPECT_THAT(told(layers.applied()), ::testing::Contains(HasSubstr("unsupported BV1016")));
}

TEST(RuleParts, PartsThatSayNothingAreRefused) {
  for (const json& parameters :
       {json{{"slice", -1}}, json{{"slice", "0"}}, json{{"slice", 1.5}}, json{{"optional", 1}},
        json{{"optional", {{"w", "skip"}}}}, json{{"optional", {{"v", "copy:w"}}}},
        json{{"optional", {{"v", "copy:v"}}}}, json{{"optional", {{"v", "k"}}}},
        json{{"optional", json::object()}}, json{{"slice", 0}}}) {
    NewModel model = NewModel::plain();
    model.rule_for("linear_qkv.weight")["parameters"] = parameters;
    EXPECT_THAT(rejected(model).message, HasSubstr("of rule r3")) << parameters;
  }
}

TEST(RuleParts, IdleRulesAreToldByWhatTheyAreFor) {
  NewModel model = NewModel::plain();
  for (const char* when : {"mtp", "sequential", "unfused", ""}) {
    for (const char* side : {"a", "b"}) {
      model.rule("replicated", fmt::format("x.{}{}.weight", when, side),
                 fmt::format("absent.{}{}.weight", when, side));
      model.rules.back()["when"] = when;
    }
  }
  const auto parsed = parse_rules_file(model.rules_text(), "new.rules.json").value();
  Texts messages;
  for (const LintFinding& one : idle_rules(parsed, model.headers)) {
    EXPECT_EQ(one.code, Code::RuleDead);
    messages.push_back(one.message.substr(0, one.message.find(" find")));
  }
  EXPECT_THAT(messages, ElementsAre("2 rules for MTP layers", "2 rules for experts kept apart",
                                    "2 rules for norms kept apart", "2 rules"));
}

TEST(RuleParts, ValuesThatUndoEachOtherAreRefused) {
  const auto with = [](const std::string& values) {
    return parse_rules_file(
        R"({"schema":"bridge-rules/1","rules":[{"kind":"replicated","megatron":"a","hf":"b","values":)" +
            values + "}]}",
        "x");
  };
  EXPECT_TRUE(with(R"(["minus_one"])").has_value());
  for (const char* both : {R"(["minus_one","plus_one"])", R"(["plus_one","minus_one"])"}) {
    const auto refused = with(both);
    ASSERT_FALSE(refused.has_value());
    EXPECT_EQ(refused.error().message, "two values of rule r0 undo each other");
  }
}

}  // namespace
}  // namespace bv::foreign

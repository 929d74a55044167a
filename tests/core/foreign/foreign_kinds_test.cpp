#include "core/foreign/foreign_kinds.hpp"

#include <gtest/gtest.h>

#include "tests/core/foreign/new_model.hpp"
#include "tests/core/model/sample.hpp"

namespace bv::foreign {
namespace {

using namespace model::test;

/// What the module MambaMixer holds itself: AutoMapping finds no parallelism for such a module, so
/// Falcon-H1's bridge names it.
bool stands_in_the_mixer(const std::string& parameter) {
  return parameter.ends_with("mamba_mixer.D") || parameter.ends_with("mamba_mixer.conv1d_weight") ||
         parameter.ends_with("mamba_mixer.conv1d_bias");
}

/// Modules of transformers that a bridge carries as they are (ERNIE 4.5 VL): they have no
/// parallelism.
bool stands_in_a_carried_tower(const std::string& parameter) {
  return parameter.starts_with("vision_tower.") || parameter.starts_with("resampler_model.");
}

TEST(ForeignKinds, AutoKnowsEveryParameterOfEveryGoldenModelAndNoOther) {
  const auto kinds = foreign_kinds().value();
  for (const std::string& name : golden_cases()) {
    for (const std::string& parameter : megatron_names(*resolve_golden(name))) {
      if (stands_in_a_carried_tower(parameter)) {
        continue;
      }
      EXPECT_EQ(kinds.parallelism(parameter).empty(), stands_in_the_mixer(parameter))
          << name << " " << parameter;
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

Result<ForeignKinds> kinds_of(const nlohmann::json& keys) {
  nlohmann::json rule = {{"id", "r7"}, {"megatron", "a.weight"}, {"hf", {{"q", "q"}, {"k", "k"}}}};
  rule.update(keys);
  const nlohmann::json file = {{"schema", "bridge-rules/1"}, {"rules", {rule}}};
  const auto rules = parse_rules_file(file.dump(), "mine.rules.json");
  EXPECT_TRUE(rules) << rules.error().message;
  return foreign_kinds(*rules);
}

TEST(LineOfARule, HasTheSizesThatItSaysAndThoseThatADimensionGivesAlone) {
  const auto kinds = kinds_of({{"layout", "q[(t g d) ...], k[e (t f)] -> x{t}[(g d) ...]"},
                               {"axes", {{"g", "4 / t"}, {"d", "s0d0 / 4"}}}});
  EXPECT_FALSE(kinds) << "k has no place in x";
  const auto right = kinds_of({{"layout", "q[(t g d) ...], k[f ...] -> x[(q: t g d | k: f) ...]"},
                               {"axes", {{"g", 4}, {"d", "s0d0 / 4 / t"}}}});
  ASSERT_TRUE(right) << right.error().found << right.error().wanted;
  const ForeignKind* kind = right->find("line_0");
  ASSERT_NE(kind, nullptr);
  EXPECT_EQ(kind->line.axes, (Sizes{{"d", "s0d0 / 4 / t"}, {"f", "s1d0"}, {"g", "4"}}));
  EXPECT_EQ(kind->line.rest, 1U);
  EXPECT_EQ(kind->sources, (std::vector<std::vector<std::string>>{{"q"}, {"k"}}));
  EXPECT_FALSE(kind->packed);
  EXPECT_NE(right->lines.find("line_0"), nullptr);
  const std::vector<std::string> offered = right->offered();
  EXPECT_EQ(std::count(offered.begin(), offered.end(), "line_0"), 0);
}

TEST(LineOfARule, ThatIsWrongIsToldAtTheRule) {
  using Row = std::pair<nlohmann::json, std::string>;
  for (const auto& [keys, said] : std::vector<Row>{
           {{{"layout", "q[a -> b"}}, "q[a -> b"},
           {{{"layout", "x[(a b)] -> x[(a b)]"}}, "no size of axis a"},
           {{{"layout", "q[a] -> x[a], y[a]"}}, "q[a] -> x[a], y[a]"},
           {{{"layout", "x[(a b)] -> x[(b a)]"}, {"axes", {{"a", "s0d0 / 2"}, {"b", "mystery"}}}},
            "mystery"}}) {
    const auto kinds = kinds_of(keys);
    ASSERT_FALSE(kinds) << keys;
    EXPECT_EQ(kinds.error().code, Code::RulesInvalid);
    EXPECT_EQ(kinds.error().message, "the layout of rule r7 is not a line of notation");
    EXPECT_NE(kinds.error().found.find(said), std::string::npos) << kinds.error().found;
    EXPECT_TRUE(kinds.error().where.starts_with("mine.rules.json")) << kinds.error().where;
  }
}

}  // namespace
}  // namespace bv::foreign

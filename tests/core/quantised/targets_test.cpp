// Which modules each group of config_groups is for. Where the shapes of a weight allow several
// kinds, its targets decide, as in compressed-tensors (utils/match.py, match_targets and
// quantization/lifecycle/apply.py, read at ac8e2ba): names, then expressions in the order of their
// text, then classes.

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <map>
#include <nlohmann/json.hpp>

#include "core/quantised/module.hpp"
#include "core/quantised/quantised.hpp"

namespace bv::quantised {
namespace {

using nlohmann::json;
using testing::ElementsAre;
using testing::HasSubstr;
using testing::IsEmpty;

std::vector<std::size_t> named(const std::vector<std::vector<std::string>>& targets,
                               const std::string& module) {
  std::vector<json> groups;
  for (const auto& one : targets) {
    groups.push_back(json{{"targets", one}});
  }
  std::vector<std::pair<std::size_t, const json*>> kinds;
  for (std::size_t i = 0; i < groups.size(); ++i) {
    kinds.emplace_back(i, &groups[i]);
  }
  return kinds_named(targets_of(kinds), module);
}

TEST(Targets, NamesComeBeforeExpressionsAndTheseBeforeClasses) {
  const std::string down = "model.layers.3.mlp.down_proj";
  EXPECT_THAT(named({{"Linear"}, {"re:.*down_proj"}}, down), ElementsAre(1));
  EXPECT_THAT(named({{"re:.*down_proj"}, {"Linear"}}, down), ElementsAre(0));
  EXPECT_THAT(named({{"re:.*down_proj"}, {down}}, down), ElementsAre(1));
  EXPECT_THAT(named({{"Linear"}, {"re:.*down_proj"}}, "model.layers.3.mlp.up_proj"),
              ElementsAre(0));
  EXPECT_THAT(named({{"re:.*up_proj"}, {"re:.*q_proj"}}, down), IsEmpty());
}

TEST(Targets, TheFirstExpressionByItsTextDecides) {
  const std::string down = "model.layers.3.mlp.down_proj";
  EXPECT_THAT(named({{"re:.*mlp.*"}, {"re:.*down_proj"}}, down), ElementsAre(1));  // "d" < "m"
  EXPECT_THAT(named({{"re:.*down_proj"}, {"re:.*mlp.*"}}, down), ElementsAre(0));
  EXPECT_THAT(named({{"Linear"}, {"Linear"}}, down), ElementsAre(1));  // the later group counts
}

TEST(Targets, AnExpressionMatchesFromTheStart) {
  const std::string down = "model.layers.3.mlp.down_proj";
  EXPECT_THAT(named({{"re:model.layers.3"}}, down), ElementsAre(0));
  EXPECT_THAT(named({{"re:layers.3"}}, down), IsEmpty());
  EXPECT_THAT(named({{"re:model.*mlp$"}}, down), IsEmpty());
  EXPECT_THAT(named({{"re:.*down_proj$"}}, down), ElementsAre(0));
  EXPECT_THAT(named({{"re:.*layers[.](0|3)[.]mlp"}}, down), ElementsAre(0));
}

TEST(Targets, AnExpressionThatIsNotUnderstoodLeavesBothOpen) {
  const std::string down = "model.layers.3.mlp.down_proj";
  EXPECT_THAT(named({{"re:(?!x).*"}, {"re:.*down_proj"}}, down), ElementsAre(0, 1));
  EXPECT_THAT(named({{"re:.*down_proj"}, {"re:z(?!x)"}}, down), ElementsAre(0));  // comes later
}

/// Two groups whose kinds both fit a weight of 12 words a row and 3 scales: 4 bits by 32, 8 bits
/// by 16.
Source source_of(const std::vector<std::string>& four, const std::vector<std::string>& eight,
                 Headers& headers) {
  json config;
  json& says = config["quantization_config"];
  says["quant_method"] = "compressed-tensors";
  const auto group = [](int bits, int size, const std::vector<std::string>& targets) {
    return json{
        {"targets", targets},
        {"weights",
         {{"num_bits", bits}, {"type", "int"}, {"strategy", "group"}, {"group_size", size}}}};
  };
  says["config_groups"] = {{"group_0", group(4, 32, four)}, {"group_1", group(8, 16, eight)}};
  for (const char* module : {"model.layers.0.mlp.down_proj", "model.layers.0.mlp.up_proj"}) {
    const std::string name = module;
    headers[name + ".weight_packed"] = {name + ".weight_packed", DType::I32, {64, 12}};
    headers[name + ".weight_scale"] = {name + ".weight_scale", DType::BF16, {64, 3}};
  }
  return find(headers, config).value();
}

std::map<std::string, int> bits_of(const Source& source) {
  std::map<std::string, int> out;
  for (const Group& group : source.groups) {
    for (const Weight& weight : group.weights) {
      out[weight.name] = weight.form ? weight.form->bits : 0;
    }
  }
  return out;
}

TEST(Targets, DecideBetweenKindsThatTheShapesAllow) {
  Headers headers;
  EXPECT_EQ(bits_of(source_of({"Linear"}, {"re:.*down_proj"}, headers)),
            (std::map<std::string, int>{{"model.layers.0.mlp.down_proj.weight", 8},
                                        {"model.layers.0.mlp.up_proj.weight", 4}}));
  EXPECT_EQ(bits_of(source_of({"re:.*down_proj"}, {"model.layers.0.mlp.up_proj"}, headers)),
            (std::map<std::string, int>{{"model.layers.0.mlp.down_proj.weight", 4},
                                        {"model.layers.0.mlp.up_proj.weight", 8}}));
}

TEST(Targets, AWeightThatNoneNamesStaysUndecided) {
  Headers headers;
  const Source source = source_of({"re:.*down_proj"}, {"re:.*q_proj"}, headers);
  EXPECT_EQ(bits_of(source).at("model.layers.0.mlp.down_proj.weight"), 4);
  EXPECT_EQ(bits_of(source).at("model.layers.0.mlp.up_proj.weight"), 0);
  EXPECT_FALSE(can_dequantise(source));
  EXPECT_THAT(source.groups[0].weights[1].undefined, HasSubstr("no target decides between them"));
}

TEST(Targets, ShapesOfOneKindNeedNoTarget) {
  Headers headers;
  headers["a.weight_packed"] = {"a.weight_packed", DType::I32, {64, 12}};
  headers["a.weight_scale"] = {"a.weight_scale", DType::BF16, {64, 6}};  // 8 bits by 8 alone
  const json groups = {
      {"group_0", {{"targets", {"re:a"}}, {"weights", {{"num_bits", 4}, {"group_size", 32}}}}},
      {"group_1", {{"targets", {"re:b"}}, {"weights", {{"num_bits", 8}, {"group_size", 8}}}}}};
  const json config = {
      {"quantization_config", {{"quant_method", "compressed-tensors"}, {"config_groups", groups}}}};
  EXPECT_EQ(bits_of(find(headers, config).value()).at("a.weight"), 8);
}

}  // namespace
}  // namespace bv::quantised

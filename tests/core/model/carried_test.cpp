// Tensors that go as they are, under a prefix that the family names.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "tests/core/model/resolved.hpp"

namespace bv::model::test {
namespace {

using ::testing::HasSubstr;

family::FamilyPtr with_tower() {
  return family::parse_family(R"({
    "schema": "bridge-family/1", "family": "tiny", "architectures": ["TinyForCausalLM"],
    "symbols": {"hidden_size": {"field": "hidden_size"}, "num_hidden_layers": {"field": "num_hidden_layers"}},
    "prefixes": {"M": "language_model.", "HF": "model."},
    "carried": [{"hf": ["tower.vision_model.", "tower."], "megatron": "vision_tower."}],
    "sections": [
      {"stage": "decoder", "over": {"i": "num_hidden_layers"},
       "rules": [{"kind": "replicated", "megatron": "{M}decoder.layers.{i}.norm.weight", "hf": "{HF}layers.{i}.norm.weight", "rest": ["hidden_size"]}]}]})",
                              "tiny.json")
      .value();
}

Headers with_blocks(const std::string& tower, std::int64_t blocks) {
  Headers headers;
  add(headers, "model.layers.0.norm.weight", {8});
  add(headers, tower + "patch.weight", {4, 3});
  add(headers, tower + "merger.0.weight", {4, 4});
  add(headers, tower + "merger.2.weight", {8, 4});
  for (std::int64_t i = 0; i < blocks; ++i) {
    add(headers, tower + "blocks." + std::to_string(i) + ".fc.weight", {5, 4});
  }
  return headers;
}

Model resolved(const Headers& headers, const ResolveOptions& options = {}) {
  const json config = {{"hidden_size", 8}, {"num_hidden_layers", 1}};
  return must(resolve(with_tower(), config, headers, options));
}

TEST(Carried, TensorsGoUnderTheMegatronPrefixWithTheirOwnShapes) {
  for (const std::string tower : {"tower.", "tower.vision_model."}) {
    SCOPED_TRACE(tower);
    const Model model = resolved(with_blocks(tower, 3));
    EXPECT_TRUE(model.faults.empty()) << all_faults(model);
    EXPECT_EQ(model.mappings.size(), 7U);
    const Mapping* block = mapping_of(model, "vision_tower.blocks.2.fc.weight");
    ASSERT_NE(block, nullptr);
    EXPECT_EQ(block->hf, (std::vector<std::string>{tower + "blocks.2.fc.weight"}));
    EXPECT_EQ(block->rule->kind, "replicated");
    EXPECT_EQ(block->rule->rest, (std::vector<std::string>{"5", "4"}));
    ASSERT_NE(mapping_of(model, "vision_tower.merger.2.weight"), nullptr);
    EXPECT_EQ(detected(model, "carried"), tower + "*");
  }
}

TEST(Carried, BlocksOfOneShapeShareARule) {
  const Model model = resolved(with_blocks("tower.", 3));
  EXPECT_EQ(mapping_of(model, "vision_tower.blocks.0.fc.weight")->rule,
            mapping_of(model, "vision_tower.blocks.2.fc.weight")->rule);
}

TEST(Carried, APrefixWithoutATensorIsAFault) {
  Headers headers;
  add(headers, "model.layers.0.norm.weight", {8});
  const Model model = resolved(headers);
  ASSERT_EQ(model.faults.size(), 1U) << all_faults(model);
  EXPECT_EQ(model.faults[0].code, Code::HfTensorMissing);
  EXPECT_THAT(model.faults[0].message, HasSubstr("vision_tower.*"));
}

TEST(Carried, ABlockThatLacksWhatMostHaveIsAFault) {
  Headers headers = with_blocks("tower.", 4);
  headers.erase("tower.blocks.2.fc.weight");
  const Model model = resolved(headers);
  ASSERT_EQ(model.faults.size(), 1U) << all_faults(model);
  EXPECT_EQ(model.faults[0].subject, "tower.blocks.2.fc.weight");
}

/// A sequence of modules of which some have no tensors: numbers are left out.
TEST(Carried, ASequenceWithModulesWithoutTensorsIsWhole) {
  Headers headers = with_blocks("tower.", 3);
  add(headers, "tower.conv.0.weight", {4, 4});
  add(headers, "tower.conv.2.weight", {4, 4});
  add(headers, "tower.conv.4.weight", {4, 4});
  const Model model = resolved(headers);
  EXPECT_TRUE(model.faults.empty()) << all_faults(model);
}

/// Convolutions by channel and by point, with activations at irregular distances between them:
/// their biases are alike, their weights are not.
TEST(Carried, ASequenceOfModulesThatDifferInOneTensorIsWhole) {
  Headers headers = with_blocks("tower.", 3);
  for (const auto& [number, kernel] :
       std::map<std::string, std::int64_t>{{"0", 3}, {"2", 3}, {"3", 1}, {"5", 3}, {"6", 1}}) {
    add(headers, "tower.conv." + number + ".weight", {4, 1, kernel, kernel});
    add(headers, "tower.conv." + number + ".bias", {4});
  }
  const Model model = resolved(headers);
  EXPECT_TRUE(model.faults.empty()) << all_faults(model);
}

/// Of blocks that are alike one is missing whole, though another has a tensor of its own.
TEST(Carried, ABlockThatIsMissingWholeIsAFault) {
  Headers headers = with_blocks("tower.", 5);
  std::erase_if(headers, [](const auto& one) { return one.first.starts_with("tower.blocks.2."); });
  add(headers, "tower.blocks.0.downsample.weight", {4, 4});
  const Model model = resolved(headers);
  ASSERT_FALSE(model.faults.empty());
  EXPECT_THAT(all_faults(model), HasSubstr("tower.blocks.2."));
}

TEST(Carried, ABlockWithOneTensorMissingIsAFault) {
  Headers headers = with_blocks("tower.", 4);
  for (const char* number : {"0", "1", "3"}) {
    add(headers, "tower.blocks." + std::string(number) + ".fc.bias", {5});
  }
  const Model model = resolved(headers);
  ASSERT_EQ(model.faults.size(), 1U) << all_faults(model);
  EXPECT_EQ(model.faults[0].subject, "tower.blocks.2.fc.bias");
}

/// The layers of a tower are named as those of the model.
TEST(Carried, NamesOfATowerSayNothingOfThePrefixesOfTheModel) {
  Headers headers = with_blocks("tower.", 3);
  for (const char* number : {"0", "1", "2"}) {
    add(headers, "tower.encoder.layers." + std::string(number) + ".norm.weight", {8});
  }
  const Model model = resolved(headers);
  EXPECT_TRUE(model.faults.empty()) << all_faults(model);
  EXPECT_EQ(model.prefixes.at("HF"), "model.");
}

/// As many elements in another shape: no tower has such a block, and one that narrows has other
/// sizes.
TEST(Carried, ABlockOfAnotherShapeIsAFaultAndOneOfAnotherSizeIsNone) {
  Headers headers = with_blocks("tower.", 4);
  headers.erase("tower.blocks.2.fc.weight");
  add(headers, "tower.blocks.2.fc.weight", {20});
  const Model flat = resolved(headers);
  ASSERT_EQ(flat.faults.size(), 1U) << all_faults(flat);
  EXPECT_EQ(flat.faults[0].subject, "tower.blocks.2.fc.weight");
  EXPECT_EQ(flat.faults[0].code, Code::ShapeMismatch);
  headers.erase("tower.blocks.2.fc.weight");
  add(headers, "tower.blocks.2.fc.weight", {10, 8});
  EXPECT_TRUE(resolved(headers).faults.empty());
}

// Towers whose class is known.

family::FamilyPtr with_parts() {
  return family::parse_family(R"({
    "schema": "bridge-family/1", "family": "tiny", "architectures": ["TinyForCausalLM"],
    "symbols": {"hidden_size": {"field": "hidden_size"}, "num_hidden_layers": {"field": "num_hidden_layers"},
                "depth": {"field": "vision/depth", "default": 2, "min": 0}, "width": {"field": "vision/width", "default": 4},
                "biased": {"field": "vision/bias", "flag": true, "default": false}},
    "prefixes": {"M": "language_model.", "HF": "model."},
    "carried": [{"hf": ["model.tower.", "tower."], "megatron": "tower.", "parts": [
      {"tensors": {"patch.weight": ["width", "3"], "pool.weight": ["*", "width"]}},
      {"over": "depth", "tensors": {"blocks.{k}.fc.weight": ["2 * width", "width"]}},
      {"over": "depth", "when": ["biased"], "tensors": {"blocks.{k}.fc.bias": ["2 * width"]}},
      {"optional": true, "tensors": {"head.weight": ["width"], "head.bias": ["width"]}}]}],
    "sections": [
      {"stage": "decoder", "over": {"i": "num_hidden_layers"},
       "rules": [{"kind": "replicated", "megatron": "{M}decoder.layers.{i}.norm.weight", "hf": "{HF}layers.{i}.norm.weight", "rest": ["hidden_size"]}]}]})",
                              "tiny.json")
      .value();
}

Headers whole_tower(const std::string& prefix = "tower.") {
  Headers headers;
  add(headers, "model.layers.0.norm.weight", {8});
  add(headers, prefix + "patch.weight", {4, 3});
  add(headers, prefix + "pool.weight", {7, 4});
  add(headers, prefix + "blocks.0.fc.weight", {8, 4});
  add(headers, prefix + "blocks.1.fc.weight", {8, 4});
  return headers;
}

std::string faults_of(const Headers& headers, const json& vision = json::object()) {
  const json config = {{"hidden_size", 8}, {"num_hidden_layers", 1}, {"vision", vision}};
  return all_faults(must(resolve(with_parts(), config, headers, {})));
}

TEST(CarriedParts, AWholeTowerHasNoFaultUnderEitherPrefix) {
  EXPECT_EQ(faults_of(whole_tower()), "");
  EXPECT_EQ(faults_of(whole_tower("model.tower.")), "");
  Headers headed = whole_tower();
  add(headed, "tower.head.weight", {4});
  add(headed, "tower.head.bias", {4});
  EXPECT_EQ(faults_of(headed), "");
}

/// A prefix under which the class has one tensor: it is named where it is gone.
TEST(CarriedParts, TheOnlyTensorOfAPrefixIsMissingByName) {
  json text = json::parse(R"({
    "schema": "bridge-family/1", "family": "tiny", "architectures": ["TinyForCausalLM"],
    "symbols": {"hidden_size": {"field": "hidden_size"}}, "prefixes": {"M": "", "HF": "model."},
    "carried": [{"hf": ["projector."], "megatron": "projector.",
                 "parts": [{"tensors": {"linear.weight": ["hidden_size", "4"]}}]}],
    "sections": [{"stage": "final_norm", "rules": [{"kind": "replicated", "megatron": "{M}norm.weight",
                  "hf": "{HF}norm.weight", "rest": ["hidden_size"]}]}]})");
  Headers headers;
  add(headers, "model.norm.weight", {8});
  const json config = {{"hidden_size", 8}};
  const auto faults = [&] {
    return must(
               resolve(family::parse_family(text.dump(), "tiny.json").value(), config, headers, {}))
        .faults;
  };
  ASSERT_EQ(faults().size(), 1U);
  EXPECT_EQ(faults()[0].subject, "projector.linear.weight");
  text["carried"][0]["parts"][0]["tensors"]["linear.bias"] = json::array({"hidden_size"});
  ASSERT_EQ(faults().size(), 1U);
  EXPECT_EQ(faults()[0].subject, "projector.*");
}

TEST(CarriedParts, EveryTensorOfTheClassMustBeThere) {
  for (const auto& [name, spec] : whole_tower()) {
    Headers headers = whole_tower();
    headers.erase(name);
    EXPECT_THAT(faults_of(headers), HasSubstr(name));
  }
  Headers headers = whole_tower();  // the last block, by the config
  EXPECT_THAT(faults_of(headers, {{"depth", 3}}), HasSubstr("tower.blocks.2.fc.weight"));
  EXPECT_THAT(faults_of(headers, {{"depth", 1}}), HasSubstr("tower.blocks.1.fc.weight"));
  EXPECT_THAT(faults_of(headers, {{"bias", true}}), HasSubstr("tower.blocks.0.fc.bias"));
  add(headers, "tower.head.weight", {4});  // the other one of all or none
  EXPECT_THAT(faults_of(headers), HasSubstr("tower.head.bias"));
}

TEST(CarriedParts, ATensorThatNoClassHasIsUnused) {
  Headers headers = whole_tower();
  headers.erase("tower.patch.weight");
  add(headers, "tower.patches.weight", {4, 3});
  EXPECT_THAT(faults_of(headers), HasSubstr("tower.patches.weight"));
}

TEST(CarriedParts, ShapesAreThoseOfTheConfigButForWhatOnlyTheCheckpointSays) {
  const json config = {{"hidden_size", 8}, {"num_hidden_layers", 1}};
  const Model model = must(resolve(with_parts(), config, whole_tower(), {}));
  EXPECT_EQ(mapping_of(model, "tower.blocks.1.fc.weight")->rule->rest,
            (std::vector<std::string>{"2 * width", "width"}));
  EXPECT_EQ(mapping_of(model, "tower.pool.weight")->rule->rest,
            (std::vector<std::string>{"7", "width"}));
}

TEST(Carried, NothingIsKnownWithoutHeaders) {
  ResolveOptions options;
  options.config_only = true;
  const Model model = resolved({}, options);
  EXPECT_TRUE(model.faults.empty()) << all_faults(model);
  EXPECT_EQ(model.mappings.size(), 1U);
}

TEST(Carried, NamesWithBracesAreUsedByNobody) {
  Headers headers = with_blocks("tower.", 1);
  add(headers, "tower.{hidden_size}.weight", {1});
  const Model model = resolved(headers);
  ASSERT_EQ(model.faults.size(), 1U) << all_faults(model);
  EXPECT_EQ(model.faults[0].code, Code::HfTensorUnused);
}

}  // namespace
}  // namespace bv::model::test

#include <gtest/gtest.h>

#include "tests/core/model/extents.hpp"
#include "tests/core/model/sample.hpp"

namespace bv::model::test {
namespace {

class Golden : public ::testing::TestWithParam<std::string> {};

TEST_P(Golden, EveryTensorIsUsedByExactlyOneMapping) {
  const auto model = resolve_golden(GetParam());
  ASSERT_TRUE(model) << model.error().message;
  EXPECT_TRUE(model->faults.empty()) << all_faults(*model);
  std::vector<std::string> there;
  for (const auto& [name, spec] : golden_headers(GetParam())) {
    there.push_back(name);
  }
  EXPECT_EQ(used_names(*model), there);
  EXPECT_TRUE(model->ignored.empty());
}

TEST_P(Golden, RuleExtentsAreTheHeaderShapes) {
  const auto model = resolve_golden(GetParam());
  ASSERT_TRUE(model) << model.error().message;
  const Headers headers = golden_headers(GetParam());
  for (const Mapping& mapping : model->mappings) {
    const Extents extents = extents_of(*mapping.rule, *model);
    ASSERT_EQ(extents.sources.size(), mapping.hf.size()) << mapping.rule->source;
    for (std::size_t i = 0; i < mapping.hf.size(); ++i) {
      EXPECT_EQ(extents.sources.at(mapping.rule->hf[i].first), headers.at(mapping.hf[i]).shape)
          << mapping.hf[i];
    }
  }
}

TEST_P(Golden, OneMissingTensorIsNamed) {
  Headers headers = golden_headers(GetParam());
  const std::string gone =
      std::next(headers.begin(), static_cast<std::ptrdiff_t>(headers.size() / 2))->first;
  headers.erase(gone);
  const auto model = resolve_with(golden_config(GetParam()), headers);
  ASSERT_TRUE(model) << model.error().message;
  ASSERT_EQ(model->faults.size(), 1U) << all_faults(*model);
  EXPECT_EQ(model->faults[0].code, Code::HfTensorMissing);
  EXPECT_EQ(model->faults[0].subject, gone);
}

TEST_P(Golden, OneExtraTensorIsNamed) {
  Headers headers = golden_headers(GetParam());
  headers["model.layers.0.self_attn.extra.weight"] = {
      "model.layers.0.self_attn.extra.weight", DType::F32, {3}};
  const auto model = resolve_with(golden_config(GetParam()), headers);
  ASSERT_TRUE(model) << model.error().message;
  ASSERT_EQ(model->faults.size(), 1U) << all_faults(*model);
  EXPECT_EQ(model->faults[0].code, Code::HfTensorUnused);
  EXPECT_EQ(model->faults[0].subject, "model.layers.0.self_attn.extra.weight");
}

INSTANTIATE_TEST_SUITE_P(Hf, Golden, ::testing::ValuesIn(golden_cases()),
                         [](const auto& each) { return each.param; });

/// Cases that the real bridge converted on one rank: names and shapes of its parameters.
std::vector<std::string> bridged_cases() {
  std::vector<std::string> names;
  for (const auto& entry : std::filesystem::directory_iterator(golden("megatron"))) {
    if (std::filesystem::exists(entry.path() / "tp1.json")) {
      names.push_back(entry.path().filename().string());
    }
  }
  std::sort(names.begin(), names.end());
  return names;
}

class Bridged : public ::testing::TestWithParam<std::string> {};

TEST_P(Bridged, MegatronNamesAreThoseOfTheRealBridge) {
  const auto model = resolve_golden(GetParam());
  ASSERT_TRUE(model) << model.error().message;
  const json real = read_json(golden("megatron/" + GetParam() + "/tp1.json"));
  std::set<std::string> names;
  for (const auto& [name, spec] : real.at("shards").at(0).at("tensors").items()) {
    names.insert(name);
  }
  EXPECT_EQ(megatron_names(*model), names);
}

TEST_P(Bridged, MegatronShapesAreThoseOfTheRealBridge) {
  const auto model = resolve_golden(GetParam());
  ASSERT_TRUE(model) << model.error().message;
  const json real =
      read_json(golden("megatron/" + GetParam() + "/tp1.json")).at("shards").at(0).at("tensors");
  for (const Mapping& mapping : model->mappings) {
    const std::string name = model->megatron_name(mapping);
    ASSERT_TRUE(real.contains(name)) << name;
    EXPECT_EQ(extents_of(*mapping.rule, *model).target, real.at(name).at(1).get<Shape>()) << name;
  }
}

INSTANTIATE_TEST_SUITE_P(Megatron, Bridged, ::testing::ValuesIn(bridged_cases()),
                         [](const auto& each) { return each.param; });

TEST(GoldenCases, AreAllThere) {
  EXPECT_EQ(golden_cases().size(), 49U);
  EXPECT_GE(bridged_cases().size(), 20U);
}

}  // namespace
}  // namespace bv::model::test

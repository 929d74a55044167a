#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <fstream>

#include "tests/core/model/sample.hpp"

namespace bv::model::test {
namespace {

using ::testing::ElementsAre;

class Golden : public ::testing::TestWithParam<std::string> {};

/// Extents of the sources and of the whole target of a rule with one rank, written down by hand for each kind.
struct Extents {
  std::map<std::string, Shape> sources;
  Shape target;
};

Shape with_rest(std::vector<std::int64_t> head, const Shape& rest) {
  head.insert(head.end(), rest.begin(), rest.end());
  return head;
}

Extents extents_of(const Rule& rule, const Model& model) {
  std::map<std::string, std::int64_t, std::less<>> numbers = model.geometry.symbols;
  numbers["t"] = 1;
  std::map<std::string, std::int64_t> x;
  for (const auto& [axis, size] : rule.axes) {
    x[axis] = *evaluate(size, numbers);
  }
  Shape rest;
  for (const std::string& size : rule.rest) {
    rest.push_back(*evaluate(size, numbers));
  }
  const auto lead = [&](std::int64_t rows) { return with_rest({rows}, rest); };
  const std::string& kind = rule.kind;
  if (kind == "column") return {{{"x", lead(x["o"])}}, lead(x["o"])};
  if (kind == "row") return {{{"x", {x["o"], x["i"]}}}, {x["o"], x["i"]}};
  if (kind == "replicated") return {{{"x", rest}}, rest};
  if (kind == "vocabulary") return {{{"x", lead(x["v"])}}, lead(x["v"])};
  const std::int64_t q = x["g"] * x["n"] * x["d"], k = x["g"] * x["d"];
  if (kind == "qkv") return {{{"q", lead(q)}, {"k", lead(k)}, {"v", lead(k)}}, lead(q + 2 * k)};
  if (kind == "qkv_gated") return {{{"q", lead(2 * q)}, {"k", lead(k)}, {"v", lead(k)}}, lead(2 * q + 2 * k)};
  if (kind == "qkv_concat") return {{{"qkv", lead(q + 2 * k)}}, lead(q + 2 * k)};
  if (kind == "gated_mlp") return {{{"gate", lead(x["f"])}, {"up", lead(x["f"])}}, lead(2 * x["f"])};
  const std::int64_t keys = x["a"] * x["c"], values = x["b"] * x["e"];
  if (kind == "gdn4") {
    return {{{"qkv", lead(2 * keys + values)}, {"z", lead(values)}, {"b_", lead(x["b"])}, {"a_", lead(x["b"])}},
            lead(2 * keys + 2 * values + 2 * x["b"])};
  }
  if (kind == "gdn2") {
    const std::int64_t heads = x["a"] * x["r"];
    return {{{"qkvz", lead(2 * keys + 2 * heads * x["e"])}, {"ba", lead(2 * heads)}}, lead(2 * keys + 2 * heads * x["e"] + 2 * heads)};
  }
  if (kind == "gdn_conv") return {{{"x", lead(2 * keys + values)}}, lead(2 * keys + values)};
  const std::int64_t E = x["E"], f = x["f"];
  if (kind == "packed_fc1") return {{{"gate_up", with_rest({E, 2 * f}, rest)}}, lead(2 * f)};
  if (kind == "packed_fc1_in_out" || kind == "gpt_oss_fc1") return {{{"gate_up", {E, x["h"], 2 * f}}}, {2 * f, x["h"]}};
  if (kind == "packed_fc2") return {{{"down", {E, x["o"], x["i"]}}}, {x["o"], x["i"]}};
  if (kind == "packed_fc2_in_out") return {{{"down", {E, x["i"], x["o"]}}}, {x["o"], x["i"]}};
  if (kind == "gpt_oss_fc1_bias") return {{{"gate_up", {E, 2 * f}}}, {2 * f}};
  if (kind == "packed_bias") return {{{"x", {E, x["o"]}}}, {x["o"]}};
  ADD_FAILURE() << "unknown kind " << kind;
  return {};
}

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
      EXPECT_EQ(extents.sources.at(mapping.rule->hf[i].first), headers.at(mapping.hf[i]).shape) << mapping.hf[i];
    }
  }
}

TEST_P(Golden, OneMissingTensorIsNamed) {
  Headers headers = golden_headers(GetParam());
  const std::string gone = std::next(headers.begin(), static_cast<std::ptrdiff_t>(headers.size() / 2))->first;
  headers.erase(gone);
  const auto model = resolve_with(golden_config(GetParam()), headers);
  ASSERT_TRUE(model) << model.error().message;
  ASSERT_EQ(model->faults.size(), 1U) << all_faults(*model);
  EXPECT_EQ(model->faults[0].code, Code::HfTensorMissing);
  EXPECT_EQ(model->faults[0].subject, gone);
}

TEST_P(Golden, OneExtraTensorIsNamed) {
  Headers headers = golden_headers(GetParam());
  headers["model.layers.0.self_attn.extra.weight"] = {"model.layers.0.self_attn.extra.weight", DType::F32, {3}};
  const auto model = resolve_with(golden_config(GetParam()), headers);
  ASSERT_TRUE(model) << model.error().message;
  ASSERT_EQ(model->faults.size(), 1U) << all_faults(*model);
  EXPECT_EQ(model->faults[0].code, Code::HfTensorUnused);
  EXPECT_EQ(model->faults[0].subject, "model.layers.0.self_attn.extra.weight");
}

INSTANTIATE_TEST_SUITE_P(Hf, Golden, ::testing::ValuesIn(golden_cases()), [](const auto& each) { return each.param; });

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
  const json real = read_json(golden("megatron/" + GetParam() + "/tp1.json")).at("shards").at(0).at("tensors");
  for (const Mapping& mapping : model->mappings) {
    const std::string name = model->megatron_name(mapping);
    ASSERT_TRUE(real.contains(name)) << name;
    EXPECT_EQ(extents_of(*mapping.rule, *model).target, real.at(name).at(1).get<Shape>()) << name;
  }
}

INSTANTIATE_TEST_SUITE_P(Megatron, Bridged, ::testing::ValuesIn(bridged_cases()), [](const auto& each) { return each.param; });

TEST(GoldenCases, AreAllThere) {
  EXPECT_EQ(golden_cases().size(), 27U);
  EXPECT_GE(bridged_cases().size(), 20U);
}

}  // namespace
}  // namespace bv::model::test

#include "core/checkpoint/dtype_notes.hpp"

#include <gtest/gtest.h>

#include <nlohmann/json.hpp>

namespace bv::checkpoint {
namespace {

using nlohmann::json;
using Notes = std::vector<std::string>;

Headers layers_of(DType dtype, int count) {
  Headers out;
  for (int i = 0; i < count; ++i) {
    const std::string name = "model.layers." + std::to_string(i) + ".mlp.up_proj.weight";
    out[name] = {name, dtype, {8, 4}};
  }
  return out;
}

void set(Headers& headers, const std::string& name, DType dtype) {
  headers[name] = {name, dtype, {4}};
}

TEST(DtypeNotes, OneDtypeThatTheConfigStatesIsWorthNoNote) {
  const Headers headers = layers_of(DType::BF16, 12);
  for (const json& config :
       {json::object(), json{{"dtype", "bfloat16"}}, json{{"torch_dtype", "torch.bfloat16"}},
        json{{"text_config", {{"torch_dtype", "bfloat16"}}}}, json{{"dtype", 7}},
        json{{"dtype", "auto"}}}) {
    EXPECT_EQ(dtype_notes(config, headers), Notes{}) << config;
  }
  EXPECT_EQ(dtype_notes(json::object(), {}), Notes{});
}

TEST(DtypeNotes, ATensorOfAnotherDtypeThanItsNeighboursIsNamed) {
  Headers headers = layers_of(DType::BF16, 12);
  set(headers, "model.norm.weight", DType::F16);
  EXPECT_EQ(dtype_notes(json::object(), headers),
            (Notes{"1 of 13 tensors is F16, most are BF16: model.norm.weight"}));
}

TEST(DtypeNotes, TensorsThatTheConfigContradictsAreCountedByPattern) {
  Headers headers = layers_of(DType::F32, 12);
  set(headers, "model.norm.weight", DType::BF16);
  EXPECT_EQ(dtype_notes({{"dtype", "bfloat16"}}, headers),
            (Notes{"12 of 13 tensors are F32, config.json says bfloat16: "
                   "model.layers.*.mlp.up_proj.weight (12)"}));
}

TEST(DtypeNotes, EachDtypeIsANoteAndManyPatternsAreCounted) {
  Headers headers = layers_of(DType::BF16, 12);
  for (const char* name : {"a", "b", "c", "d", "e"}) {
    set(headers, name, DType::F32);
  }
  set(headers, "model.layers.0.mlp.up_proj.weight", DType::F16);
  EXPECT_EQ(dtype_notes(json::object(), headers),
            (Notes{"1 of 17 tensors is F16, most are BF16: model.layers.0.mlp.up_proj.weight",
                   "5 of 17 tensors are F32, most are BF16: a, b, c, 2 more"}));
}

/// A dequantised release often keeps the field: a note, never a fault.
TEST(DtypeNotes, AQuantisationThatNoTensorShowsIsANote) {
  const json config = {{"quantization_config", {{"quant_method", "fp8"}}}};
  EXPECT_EQ(dtype_notes(config, layers_of(DType::BF16, 3)),
            (Notes{"no tensor is quantised, but there is quantization_config of config.json: "
                   "quant_method fp8: probably left from before the weights were dequantised"}));
  Headers headers = layers_of(DType::BF16, 3);
  set(headers, "model.norm.weight", DType::F8E4M3);
  EXPECT_EQ(dtype_notes(config, headers), Notes{}) << "claims tell of that tensor";
}

TEST(DtypeNotes, NamesOfTensorsAreUntrusted) {
  Headers headers = layers_of(DType::BF16, 3);
  set(headers, "\x1b[31m" + std::string(100'000, 'x'), DType::F16);
  const Notes notes = dtype_notes(json::object(), headers);
  ASSERT_EQ(notes.size(), 1U);
  EXPECT_LT(notes[0].size(), 1000U);
  EXPECT_EQ(notes[0].find('\x1b'), std::string::npos);
}

}  // namespace
}  // namespace bv::checkpoint

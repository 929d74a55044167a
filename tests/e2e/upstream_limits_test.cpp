// What the real Megatron-Bridge 0.6.2 gets wrong or refuses (fixtures/golden/megatron/NOTES.md),
// and ours does.

#include "tests/e2e/process.hpp"

namespace bv::e2e {
namespace {

namespace fs = std::filesystem;

struct RoundTrip {
  TempFolder folder;
  std::map<std::string, EditedTensor> back;
  [[nodiscard]] std::map<std::string, EditedTensor> shard(const std::string& name) const {
    return read_tensors(folder / ("m/" + name));
  }
};

void convert_there_and_back(const fs::path& model, const std::vector<std::string>& layout,
                            RoundTrip& trip) {
  std::vector<std::string> line = {"convert",      "--to",  "megatron",       "--model",
                                   model.string(), "--out", trip.folder / "m"};
  line.insert(line.end(), layout.begin(), layout.end());
  const Ended there = run(line);
  ASSERT_EQ(there.code, 0) << there.all();
  const Ended back =
      run({"convert", "--to", "hf", "--model", trip.folder / "m", "--out", trip.folder / "h"});
  ASSERT_EQ(back.code, 0) << back.all();
  trip.back = read_tensors(trip.folder / "h");
}

/// Rows from `begin` on are zero, and there are some; the rows before are those of `source`.
void expect_zero_rows(const EditedTensor& padded, const EditedTensor& source) {
  ASSERT_EQ(padded.dtype, source.dtype);
  ASSERT_GT(padded.bytes.size(), source.bytes.size());
  EXPECT_TRUE(std::equal(source.bytes.begin(), source.bytes.end(), padded.bytes.begin()));
  EXPECT_TRUE(std::all_of(padded.bytes.begin() + static_cast<std::ptrdiff_t>(source.bytes.size()),
                          padded.bytes.end(), [](std::byte one) { return one == std::byte{0}; }));
}

/// M1: upstream keeps the padded rows on export.
TEST(UpstreamLimit, PaddedVocabularyRowsAreCutOnTheWayBack) {
  RoundTrip trip;
  convert_there_and_back(golden_hf("llama"), {"--tp", "4", "--make-vocab-size-divisible-by", "4"},
                         trip);
  EXPECT_EQ(trip.shard("pp0_tp3_ep0_etp0.safetensors").at("embedding.word_embeddings.weight").shape,
            (Shape{36, 24}));
  EXPECT_EQ(trip.back.at("model.embed_tokens.weight").shape, (Shape{131, 24}));
  EXPECT_TRUE(trip.back == read_tensors(golden_hf("llama")));
}

/// M2: upstream refuses a padded vocabulary with one tensor-parallel rank.
TEST(UpstreamLimit, PaddingWorksWithOneTensorParallelRank) {
  RoundTrip trip;
  convert_there_and_back(golden_hf("llama"), {"--tp", "1", "--make-vocab-size-divisible-by", "128"},
                         trip);
  const auto shard = trip.shard("pp0_tp0_ep0_etp0.safetensors");
  const auto source = read_tensors(golden_hf("llama"));
  EXPECT_EQ(shard.at("output_layer.weight").shape, (Shape{256, 24}));
  expect_zero_rows(shard.at("output_layer.weight"), source.at("lm_head.weight"));
  expect_zero_rows(shard.at("embedding.word_embeddings.weight"),
                   source.at("model.embed_tokens.weight"));
  EXPECT_TRUE(trip.back == source);
}

/// M3: upstream fails on a padded vocabulary under the prefix of a vision-language class.
TEST(UpstreamLimit, PaddingWorksUnderTheLanguageModelPrefix) {
  for (const char* model : {"qwen3_5_vl_dense", "qwen3_vl"}) {
    RoundTrip trip;
    convert_there_and_back(golden_hf(model), {"--tp", "2", "--make-vocab-size-divisible-by", "64"},
                           trip);
    const auto source = read_tensors(golden_hf(model));
    const auto shard = trip.shard("pp0_tp1_ep0_etp0.safetensors");
    const EditedTensor& last = shard.at("language_model.embedding.word_embeddings.weight");
    EXPECT_EQ(last.shape[0], 64) << model;  // 84 rows padded to 128
    const std::size_t row = last.bytes.size() / 64;
    EXPECT_TRUE(std::all_of(last.bytes.begin() + static_cast<std::ptrdiff_t>(20 * row),
                            last.bytes.end(), [](std::byte one) { return one == std::byte{0}; }));
    EXPECT_TRUE(trip.back == source) << model;
    const Ended check = run({"roundtrip", "--model", golden_hf(model).string(), "--tp", "2",
                             "--make-vocab-size-divisible-by", "64"});
    EXPECT_EQ(check.code, 0) << check.all();
  }
}

/// M8: the last decoder layer is a GDN layer and MTP attends fully; upstream cannot build the
/// class.
TEST(UpstreamLimit, MtpAttendsFullyBehindALastLinearLayer) {
  EditedCheckpoint model = EditedCheckpoint::golden("qwen3_5_dense_mtp");
  std::erase_if(model.tensors,
                [](const auto& one) { return one.first.starts_with("model.layers.3."); });
  model.config["num_hidden_layers"] = 3;
  model.config["layer_types"] = {"linear_attention", "linear_attention", "linear_attention"};
  const TempFolder folder;
  model.write(folder.path() / "hf");
  const Ended check = run({"roundtrip", "--model", folder / "hf"});
  EXPECT_EQ(check.code, 0) << check.all();
  RoundTrip trip;
  convert_there_and_back(folder / "hf",
                         {"--tp", "2", "--pp", "3", "--make-vocab-size-divisible-by", "2"}, trip);
  const auto last = trip.shard("pp2_tp1_ep0_etp0.safetensors");
  EXPECT_TRUE(last.contains("mtp.layers.0.mtp_model_layer.self_attention.linear_qkv.weight"));
  EXPECT_TRUE(last.contains("decoder.layers.0.self_attention.in_proj.weight"));
  EXPECT_TRUE(trip.back == model.tensors);
}

void make_and_convert(const std::string& fixture, const std::vector<std::string>& layout,
                      RoundTrip& trip) {
  const Ended made = run({"fixture", "make", "--family", fixture, "--out", trip.folder / "f"});
  ASSERT_EQ(made.code, 0) << made.all();
  convert_there_and_back(trip.folder / "f", layout, trip);
  EXPECT_TRUE(trip.back == read_tensors(trip.folder / "f")) << fixture;
}

/// D18: upstream gives g_proj rows behind all groups, and a model of megatron-core 0.19.2 without a
/// place for them. Ours follows the bridge's rule, for a Megatron-Core that has the place.
TEST(UpstreamLimit, StepsGateRowsStandBehindTheGroups) {
  RoundTrip trip;
  make_and_convert("step3p7", {"--tp", "2"}, trip);
  const auto first = trip.shard("pp0_tp0_ep0_etp0.safetensors");
  const auto second = trip.shard("pp0_tp1_ep0_etp1.safetensors");
  const std::string name = "language_model.decoder.layers.0.self_attention.linear_qkv.weight";
  EXPECT_EQ(first.at(name).shape, (Shape{84, 24}));  // of 160 rows and 8 gates
  const auto gates = read_tensors(trip.folder / "f").at("model.layers.0.self_attn.g_proj.weight");
  const std::vector<std::byte>& rows = second.at(name).bytes;
  ASSERT_GE(rows.size(), gates.bytes.size());
  EXPECT_TRUE(std::equal(gates.bytes.begin(), gates.bytes.end(),
                         rows.end() - static_cast<std::ptrdiff_t>(gates.bytes.size())));
}

/// Upstream leaves what a layer with the keys of another one does not read as it was initialised.
TEST(UpstreamLimit, RowsForKeysThatNobodyReadsAreZero) {
  RoundTrip trip;
  make_and_convert("gemma4_text", {"--tp", "1"}, trip);
  const auto shard = trip.shard("pp0_tp0_ep0_etp0.safetensors");
  const EditedTensor& own = shard.at("decoder.layers.0.self_attention.linear_qkv.weight");
  const EditedTensor& shared = shard.at("decoder.layers.4.self_attention.linear_qkv.weight");
  ASSERT_EQ(own.shape, shared.shape);
  const auto zeros = [](const EditedTensor& one) {
    const std::size_t group = one.bytes.size() / 4;  // two queries, keys, values of 10 rows
    return std::all_of(one.bytes.begin() + static_cast<std::ptrdiff_t>(group / 2),
                       one.bytes.begin() + static_cast<std::ptrdiff_t>(group),
                       [](std::byte b) { return b == std::byte{0}; });
  };
  EXPECT_TRUE(zeros(shared));
  EXPECT_FALSE(zeros(own));
}

/// Upstream's indexers are numbered by the layers of the whole model, on every stage.
TEST(UpstreamLimit, WhatStandsBesideTheLayersKeepsItsNumberOnEveryStage) {
  RoundTrip trip;
  make_and_convert("minimax_m3", {"--tp", "2", "--pp", "2", "--ep", "2", "--etp", "1"}, trip);
  const auto last = trip.shard("pp1_tp0_ep0_etp0.safetensors");
  EXPECT_TRUE(last.contains("lightning_indexers.3.q_proj.weight"));
  EXPECT_TRUE(last.contains("language_model.decoder.layers.1.self_attention.linear_qkv.weight"));
}

TEST(UpstreamLimit, LayersOfTheirOwnSizesComeBackFromEveryStage) {
  for (const auto& [fixture, layout] : std::map<std::string, std::vector<std::string>>{
           {"nemotron_nas", {"--tp", "4", "--pp", "3"}},
           {"nemotron_h/mtp", {"--tp", "2", "--pp", "2", "--ep", "4", "--etp", "2"}},
           {"step3p5", {"--tp", "4", "--pp", "2", "--ep", "2", "--etp", "2"}},
           {"mimo_v2_flash", {"--tp", "2", "--pp", "4", "--ep", "8", "--etp", "1"}},
           {"gemma4_text/experts", {"--tp", "4", "--pp", "3", "--ep", "2", "--etp", "4"}}}) {
    RoundTrip trip;
    make_and_convert(fixture, layout, trip);
  }
}

}  // namespace
}  // namespace bv::e2e

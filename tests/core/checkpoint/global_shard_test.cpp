#include "core/checkpoint/global_shard.hpp"

#include <gtest/gtest.h>

#include "tests/core/checkpoint/memory_store.hpp"

namespace bv::checkpoint {
namespace {

/// A tensor of zeros in one chunk.
void add(MemoryStore& store, const std::string& name, const Shape& shape,
         DType dtype = DType::BF16) {
  std::int64_t count = 1;
  for (const std::int64_t extent : shape) {
    count *= extent;
  }
  const std::vector<std::byte> zeros(static_cast<std::size_t>(count * bytes(dtype)));
  store.add({name, dtype, shape}, {{Shape(shape.size(), 0), shape}}, zeros);
}

/// "key[index] at row", for each piece.
std::vector<std::string> found(const MemoryStore& store, const std::string& name) {
  std::vector<std::string> out;
  for (const GlobalPiece& piece : find_global(store, name)) {
    std::string text = piece.tensor->name;
    for (const std::int64_t one : piece.index) {
      text += "[" + std::to_string(one) + "]";
    }
    out.push_back(text + " at " + std::to_string(piece.row));
  }
  return out;
}
using Found = std::vector<std::string>;

TEST(FindGlobal, KeysOfTheirOwnOrStackedOverLayers) {
  MemoryStore store;
  add(store, "decoder.layers.mlp.linear_fc2.weight", {3, 4, 2});
  add(store, "mtp.layers.0.transformer_layer.mlp.linear_fc2.weight", {4, 2});
  EXPECT_EQ(found(store, "decoder.layers.2.mlp.linear_fc2.weight"),
            Found{"decoder.layers.mlp.linear_fc2.weight[2] at 0"});
  EXPECT_EQ(found(store, "decoder.layers.3.mlp.linear_fc2.weight"), Found{});
  EXPECT_EQ(found(store, "mtp.layers.0.mtp_model_layer.mlp.linear_fc2.weight"),
            Found{"mtp.layers.0.transformer_layer.mlp.linear_fc2.weight at 0"});
  add(store, "decoder.layers.2.mlp.linear_fc2.weight", {4, 2});
  EXPECT_EQ(found(store, "decoder.layers.2.mlp.linear_fc2.weight"),
            Found{"decoder.layers.2.mlp.linear_fc2.weight at 0"});
}

TEST(FindGlobal, ExpertsInBothSpellingsAndBothSchemes) {
  MemoryStore store;
  add(store, "decoder.layers.1.mlp.experts.experts.linear_fc1.weight", {8, 4, 2});
  add(store, "decoder.layers.mlp.experts.experts.linear_fc2.weight", {3, 8, 4, 2});
  EXPECT_EQ(found(store, "decoder.layers.1.mlp.experts.linear_fc1.weight7"),
            Found{"decoder.layers.1.mlp.experts.experts.linear_fc1.weight[7] at 0"});
  EXPECT_EQ(found(store, "decoder.layers.1.mlp.experts.local_experts.7.linear_fc1.weight"),
            Found{"decoder.layers.1.mlp.experts.experts.linear_fc1.weight[7] at 0"});
  EXPECT_EQ(found(store, "decoder.layers.2.mlp.experts.linear_fc2.weight5"),
            Found{"decoder.layers.mlp.experts.experts.linear_fc2.weight[2][5] at 0"});
  EXPECT_EQ(found(store, "decoder.layers.1.mlp.experts.linear_fc1.weight8"), Found{});
}

/// singleton_local_shards: no expert shares a key with another one.
TEST(FindGlobal, ExpertsWithKeysOfTheirOwn) {
  MemoryStore store;
  const std::string experts = "decoder.layers.1.mlp.experts.";
  add(store, experts + "experts.7.linear_fc1.weight_w", {4, 2});
  add(store, experts + "experts.7.linear_fc1.weight_v", {4, 2});
  add(store, "decoder.layers.mlp.experts.experts.7.linear_fc2.weight", {3, 2, 4});
  for (const char* spelling : {"linear_fc1.weight7", "local_experts.7.linear_fc1.weight"}) {
    EXPECT_EQ(found(store, experts + spelling),
              (Found{experts + "experts.7.linear_fc1.weight_w at 0",
                     experts + "experts.7.linear_fc1.weight_v at 4"}));
  }
  EXPECT_EQ(found(store, experts + "linear_fc1.weight6"), Found{});
  EXPECT_EQ(found(store, experts + "linear_fc2.weight7"),
            Found{"decoder.layers.mlp.experts.experts.7.linear_fc2.weight[1] at 0"});
}

TEST(FindGlobal, FusedRowsThatAreStoredApart) {
  MemoryStore store;
  for (const auto& [part, rows] : std::vector<std::pair<std::string, std::int64_t>>{
           {"query", 4}, {"key", 4}, {"value", 6}, {"z", 6}, {"beta", 2}, {"alpha", 2}}) {
    add(store, "decoder.layers.0.self_attention.in_proj.weight." + part, {rows, 5});
  }
  add(store, "decoder.layers.0.self_attention.conv1d.weight.query", {4, 1, 4});
  add(store, "decoder.layers.0.self_attention.conv1d.weight.key", {4, 1, 4});
  add(store, "decoder.layers.0.self_attention.conv1d.weight.value", {6, 1, 4});
  const std::string layer = "decoder.layers.0.self_attention.";
  EXPECT_EQ(found(store, layer + "in_proj.weight"),
            (Found{layer + "in_proj.weight.query at 0", layer + "in_proj.weight.key at 4",
                   layer + "in_proj.weight.value at 8", layer + "in_proj.weight.z at 14",
                   layer + "in_proj.weight.beta at 20", layer + "in_proj.weight.alpha at 22"}));
  EXPECT_EQ(found(store, layer + "conv1d.weight"),
            (Found{layer + "conv1d.weight.query at 0", layer + "conv1d.weight.key at 4",
                   layer + "conv1d.weight.value at 8"}));
}

/// What Megatron-Core 0.19.2 writes of a Mamba mixer, whose convolution was a module once.
TEST(FindGlobal, RowsOfAMambaMixer) {
  MemoryStore store;
  const std::string layer = "decoder.layers.3.mixer.";
  for (const auto& [part, rows] : std::vector<std::pair<std::string, std::int64_t>>{
           {"z", 6}, {"x", 6}, {"B", 2}, {"C", 2}, {"dt", 3}}) {
    add(store, layer + "in_proj.weight." + part, {rows, 5});
    if (part != "z" && part != "dt") {
      add(store, layer + "conv1d.weight." + part, {rows, 1, 4});
      add(store, layer + "conv1d.bias." + part, {rows});
    }
  }
  EXPECT_EQ(found(store, layer + "in_proj.weight"),
            (Found{layer + "in_proj.weight.z at 0", layer + "in_proj.weight.x at 6",
                   layer + "in_proj.weight.B at 12", layer + "in_proj.weight.C at 14",
                   layer + "in_proj.weight.dt at 16"}));
  for (const std::string parameter : {"weight", "bias"}) {
    const std::string key = layer + "conv1d." + parameter;
    EXPECT_EQ(found(store, layer + "conv1d_" + parameter),
              (Found{key + ".x at 0", key + ".B at 6", key + ".C at 8"}));
  }
}

/// Layers of multi-token prediction of a hybrid model are stacks, and keep their name.
TEST(FindGlobal, MtpLayersThatAreStacks) {
  MemoryStore store;
  const std::string name = "mtp.layers.0.mtp_model_layer.layers.1.mlp.linear_fc2.weight";
  add(store, name, {4, 2});
  EXPECT_EQ(found(store, name), Found{name + " at 0"});
}

/// Gemma 4 stacks the layers of each kind of attention for themselves.
TEST(FindGlobal, LayersThatAreStackedByKind) {
  MemoryStore store;
  add(store, "decoder.layers.self_attention_global.linear_qkv.weight", {2, 4, 2});
  StoredName name("decoder.layers.5.self_attention_global.linear_qkv.weight");
  name.number = 1;
  const auto pieces = find_global(store, name);
  ASSERT_EQ(pieces.size(), 1U);
  EXPECT_EQ(pieces[0].index, Shape{1});
}

/// The spelling that no class of Megatron has is not taken for one.
TEST(FindGlobal, TowersOfTransformersAreNeverStacked) {
  MemoryStore store;
  add(store, "audio_tower.layers.fc1.weight", {3, 4, 2});
  StoredName name("audio_tower.layers.2.fc1.weight");
  name.single = true;
  name.as_in_memory = true;
  EXPECT_TRUE(find_global(store, name).empty());
  add(store, "audio_tower.layers.2.fc1.weight", {4, 2});
  EXPECT_EQ(find_global(store, name).size(), 1U);
}

/// Nothing in a tower is renamed, whatever it is called.
TEST(FindGlobal, TowersOfTransformersKeepTheirNames) {
  StoredName name("vision_tower.layers.2.mlp.experts.linear_fc1.weight3");
  EXPECT_EQ(global_place(name).key, "vision_tower.layers.2.mlp.experts.experts.linear_fc1.weight");
  name.as_in_memory = true;
  EXPECT_EQ(global_place(name).key, name.name);
}

TEST(FindGlobal, ExpertsOfTwoPools) {
  MemoryStore store;
  const std::string pool = "decoder.layers.1.mlp.vision_moe_layer.experts.";
  add(store, pool + "experts.linear_fc1.weight", {8, 4, 2});
  EXPECT_EQ(found(store, pool + "local_experts.7.linear_fc1.weight"),
            Found{pool + "experts.linear_fc1.weight[7] at 0"});
}

TEST(FindGlobal, PartsOfTwoTypesAreNotJoined) {
  MemoryStore store;
  add(store, "x.linear_fc1.weight_w", {4, 2});
  add(store, "x.linear_fc1.weight_v", {4, 2}, DType::F32);
  EXPECT_EQ(found(store, "x.linear_fc1.weight"), Found{});
  add(store, "y.linear_fc1.weight_w", {4, 2});
  add(store, "y.linear_fc1.weight_v", {4, 2});
  EXPECT_EQ(found(store, "y.linear_fc1.weight"),
            (Found{"y.linear_fc1.weight_w at 0", "y.linear_fc1.weight_v at 4"}));
}

}  // namespace
}  // namespace bv::checkpoint

// What Megatron reads beside the weights lies in the checkpoint too.

#include "core/torch_dist/extra_states.hpp"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "core/torch_dist/store.hpp"
#include "tests/core/io/scratch.hpp"
#include "tests/core/torch_dist/golden_copy.hpp"

namespace bv::torch_dist {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::IsEmpty;

Metadata metadata_of(const GoldenCopy& copy) {
  const std::string text = slurp(copy.iteration / ".metadata");
  return read_metadata(std::as_bytes(std::span(text)), "f").value();
}

/// What modules have in common of which one lacks its state.
std::string without_numbers(std::string text) {
  if (text.find("layernorm._extra_state") != std::string::npos) {
    return text.substr(0, text.find('.'));
  }
  std::erase_if(text, [](char c) { return c >= '0' && c <= '9'; });
  return text;
}

TEST(ExtraStates, NothingIsMissedInWhatMegatronWrote) {
  for (const char* name :
       {"qwen3", "qwen3_5_dense_mtp", "qwen3_5_moe_packed", "qwen3_5_vl_dense"}) {
    const io::testing::ScratchFolder folder;
    EXPECT_THAT(absent_states(metadata_of(GoldenCopy(name, folder.path()))), IsEmpty()) << name;
  }
}

TEST(ExtraStates, EveryOneThatIsTakenAwayIsNamed) {
  int named = 0;
  for (const char* name : {"qwen3", "qwen3_5_moe_packed"}) {
    const io::testing::ScratchFolder folder;
    const Metadata whole = metadata_of(GoldenCopy(name, folder.path()));
    for (const auto& [key, slice] : whole.objects) {
      if (key.find("_extra_state") == std::string::npos) {
        continue;
      }
      Metadata less = whole;
      less.objects.erase(key);
      const auto absent = absent_states(less);
      named += absent.empty() ? 0 : 1;
      // The only module of its kind: a model built without Transformer Engine has none there.
      const auto like = std::count_if(
          whole.objects.begin(), whole.objects.end(),
          [&](const auto& one) { return without_numbers(one.first) == without_numbers(key); });
      EXPECT_EQ(absent.size(), like > 1 ? 1U : 0U) << key;
      EXPECT_TRUE(absent.empty() || key.starts_with(absent.front())) << key;
    }
  }
  EXPECT_GT(named, 20);
  const io::testing::ScratchFolder folder;
  Metadata less = metadata_of(GoldenCopy("qwen3_5_moe_packed", folder.path()));
  ASSERT_EQ(less.objects.erase("decoder.final_layernorm._extra_state/shard_0_1"), 1U);
  EXPECT_THAT(absent_states(less), ElementsAre("decoder.final_layernorm._extra_state"));
}

TEST(ExtraStates, APartOfManyAndAModuleAmongItsLikeAreMissed) {
  Metadata metadata;
  for (const char* key : {"a.layers.fc._extra_state/shard_0_3",
                          "a.layers.fc._extra_state/shard_2_3", "a.grid._extra_state/shard_0.0_1.2",
                          "b.layers.0.fc._extra_state/shard_0_1", "b.layers.2.fc._extra_state"}) {
    metadata.objects[key] = {};
  }
  for (const char* key : {"b.layers.0.fc.weight", "b.layers.10.fc.weight", "b.layers.2.fc.weight",
                          "b.layers.0.norm.weight", "a.layers.fc.weight"}) {
    metadata.tensors[key] = {};
  }
  EXPECT_THAT(absent_states(metadata),
              ElementsAre("a.grid._extra_state/shard_0.1_1.2", "a.layers.fc._extra_state/shard_1_3",
                          "b.layers.10.fc._extra_state"));
}

TEST(ExtraStates, OneThatIsAbsentIsTold) {
  const io::testing::ScratchFolder folder;
  const GoldenCopy copy("qwen3", folder.path());
  copy.edit_plan([](Metadata& plan) {
    ASSERT_EQ(plan.objects.erase("decoder.layers.mlp.linear_fc1._extra_state/shard_1_4"), 1U);
  });
  const auto store = DistCheckpoint::open(copy.iteration);
  ASSERT_TRUE(store.has_value()) << store.error().message;
  std::vector<std::string> notes;
  tell_beside(store->beside(), notes);
  ASSERT_EQ(notes.size(), 2U);
  EXPECT_THAT(notes[1], HasSubstr("1 extra state is absent"));
  EXPECT_THAT(notes[1], HasSubstr("decoder.layers.mlp.linear_fc1._extra_state/shard_1_4"));
}

TEST(ExtraStates, WhatIsNotReadLiesInAFileAllTheSame) {
  for (const bool moved : {true, false}) {
    const io::testing::ScratchFolder folder;
    const GoldenCopy copy("qwen3", folder.path());
    copy.edit_plan([&](Metadata& plan) {
      Slice& slice = plan.objects.begin()->second;
      moved ? slice.offset = std::uint64_t{1} << 40 : slice.length = std::uint64_t{1} << 40;
    });
    const auto store = DistCheckpoint::open(copy.iteration);
    ASSERT_FALSE(store.has_value());
    EXPECT_EQ(store.error().code, Code::DistMetadataInvalid);
    EXPECT_THAT(store.error().message, HasSubstr("lies outside of it"));
  }
  const io::testing::ScratchFolder folder;
  const GoldenCopy copy("qwen3", folder.path());
  copy.edit_plan([](Metadata& plan) { plan.objects.begin()->second.file = "__7_0.distcp"; });
  EXPECT_FALSE(DistCheckpoint::open(copy.iteration).has_value());
}

}  // namespace
}  // namespace bv::torch_dist

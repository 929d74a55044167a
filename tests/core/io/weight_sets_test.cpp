#include "core/io/weight_sets.hpp"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "core/io/checkpoint.hpp"
#include "tests/core/io/small_checkpoint.hpp"

namespace bv::io {
namespace {

namespace fs = std::filesystem;
using ::testing::ElementsAre;
using ::testing::HasSubstr;
using testing::index_of;
using testing::kIndex;
using testing::kSecond;
using testing::one_tensor;
using testing::outcome;
using testing::safetensors;
using testing::ScratchFolder;
using testing::shown;
using testing::write_two_shards;

/// Two U8 tensors of four bytes each.
std::string two_tensors(const std::string& a, const std::string& b) {
  return safetensors("{\"" + a + R"(":{"dtype":"U8","shape":[4],"data_offsets":[0,4]},")" + b +
                         R"(":{"dtype":"U8","shape":[4],"data_offsets":[4,8]}})",
                     8);
}

/// What is said of a folder: "warning TEXT" for a second checkpoint, else "note TEXT".
std::vector<std::string> said(const ScratchFolder& folder) {
  const auto checkpoint = Checkpoint::open(folder.path());
  std::vector<std::string> out;
  if (!checkpoint) {
    return {"refused " + shown(checkpoint.error())};
  }
  for (const FormatFinding& one : checkpoint->findings()) {
    out.push_back((one.warning ? "warning " : "note ") + one.what);
  }
  return out;
}

constexpr const char* kBeside = ": two checkpoints in one folder";

TEST(WeightSets, AFileWithTheSameNamesIsASecondCheckpoint) {
  const ScratchFolder folder;
  write_two_shards(folder);
  folder.write("model.safetensors", two_tensors("a", "b"));
  const auto checkpoint = Checkpoint::open(folder.path());
  ASSERT_TRUE(checkpoint) << shown(checkpoint.error());
  ASSERT_EQ(checkpoint->findings().size(), 1u);
  const Error warning = warning_of(checkpoint->findings()[0]);
  EXPECT_EQ(warning.code, Code::SecondCheckpoint);
  EXPECT_EQ(warning.message,
            "model.safetensors.index.json was read, and model.safetensors lies beside it: two "
            "checkpoints in one folder");
  EXPECT_THAT(warning.facts,
              ElementsAre("it holds 2 tensors of that name too",
                          "transformers loads model.safetensors, not the shards of an index"));
  EXPECT_EQ(warning.help, "move the one that is not meant out of the folder");
  const auto strict = Checkpoint::open(folder.path(), true);
  ASSERT_EQ(outcome(strict), "BV7007");
  EXPECT_EQ(strict.error().help, warning.help);
}

TEST(WeightSets, TheSameModelUnderNamesOfAnotherLibraryIsASecondCheckpoint) {
  const ScratchFolder folder;
  write_two_shards(folder);
  folder.write("consolidated.safetensors", two_tensors("layers.0.wq", "layers.0.wk"));
  EXPECT_THAT(said(folder), ElementsAre("warning model.safetensors.index.json was read, and "
                                        "consolidated.safetensors lies beside it" +
                                        std::string(kBeside)));
}

TEST(WeightSets, ASecondCompleteIndexIsASecondCheckpoint) {
  const ScratchFolder folder;
  write_two_shards(folder);
  folder.write("old-1.safetensors", one_tensor("a"));
  folder.write("old-2.safetensors", one_tensor("b"));
  folder.write("old.safetensors.index.json",
               index_of({{"a", "old-1.safetensors"}, {"b", "old-2.safetensors"}}));
  EXPECT_THAT(said(folder), ElementsAre("warning model.safetensors.index.json was read, and "
                                        "old.safetensors.index.json (2 files) lies beside it" +
                                        std::string(kBeside)));
  fs::remove(folder.path() / "old-2.safetensors");
  EXPECT_THAT(said(folder), ElementsAre("note not in the index and not read: old-1.safetensors"));
}

TEST(WeightSets, ACompleteNumberedSetIsASecondCheckpointAndAnIncompleteOneIsNot) {
  const ScratchFolder folder;
  write_two_shards(folder);
  folder.write("model-00001-of-00003.safetensors", one_tensor("a"));
  folder.write("model-00002-of-00003.safetensors", one_tensor("b"));
  folder.write("model-00003-of-00003.safetensors", one_tensor("c"));
  EXPECT_THAT(said(folder), ElementsAre("warning model.safetensors.index.json was read, and "
                                        "model-*-of-00003.safetensors (3 files) lies beside it" +
                                        std::string(kBeside)));
  fs::remove(folder.path() / "model-00002-of-00003.safetensors");
  EXPECT_THAT(said(folder),
              ElementsAre("note not in the index and not read: model-00001-of-00003.safetensors, "
                          "model-00003-of-00003.safetensors"));
}

TEST(WeightSets, OneFileThatIsReadWithoutAnIndexIsNamedTogetherWithTheShardsBesideIt) {
  const ScratchFolder folder;
  write_two_shards(folder);
  fs::remove(folder.path() / kIndex);
  folder.write("model.safetensors", two_tensors("a", "b"));
  EXPECT_THAT(said(folder), ElementsAre("warning model.safetensors was read, and "
                                        "model-*-of-00002.safetensors (2 files) lies beside it" +
                                        std::string(kBeside)));
  fs::remove(folder.path() / kSecond);
  EXPECT_THAT(said(folder), ElementsAre("note not read: model-00001-of-00002.safetensors"));
}

TEST(WeightSets, FewTensorsOfOtherNamesAndFilesThatCannotBeReadAreNoCheckpoint) {
  const ScratchFolder folder;
  write_two_shards(folder);
  folder.write("adapter.safetensors", one_tensor("lora", 3));
  EXPECT_THAT(said(folder), ElementsAre("note not in the index and not read: adapter.safetensors"));
  folder.write("adapter.safetensors", "version https://git-lfs.github.com/spec/v1");
  EXPECT_THAT(said(folder), ElementsAre("note not in the index and not read: adapter.safetensors"));
}

TEST(WeightSets, AnotherNameOfAFileThatWasReadIsNoSecondCheckpoint) {
  const ScratchFolder folder;
  folder.write("model-00001-of-00001.safetensors", one_tensor("a"));
  folder.write(kIndex, index_of({{"a", "model-00001-of-00001.safetensors"}}));
  fs::create_symlink("model-00001-of-00001.safetensors", folder.path() / "model.safetensors");
  EXPECT_THAT(said(folder), ElementsAre());
}

TEST(WeightSets, WithoutAnIndexTwoNumberedSetsAreNamedWhenTheyShareATensor) {
  const ScratchFolder folder;
  write_two_shards(folder);
  fs::remove(folder.path() / kIndex);
  folder.write("model-00001-of-00001.safetensors", two_tensors("a", "b"));
  const auto checkpoint = Checkpoint::open(folder.path());
  ASSERT_EQ(outcome(checkpoint), "BV7009");
  EXPECT_THAT(checkpoint.error().facts,
              ElementsAre("two sets of shards: model-*-of-00001.safetensors and "
                          "model-*-of-00002.safetensors"));
}

TEST(WeightSets, AnIndexWithoutItsShardsNamesTheCompleteOnesThatLieThere) {
  const ScratchFolder folder;
  write_two_shards(folder);
  folder.write(kIndex, index_of({{"a", "model-00001-of-00004.safetensors"},
                                 {"b", "model-00002-of-00004.safetensors"}}));
  const auto checkpoint = Checkpoint::open(folder.path());
  ASSERT_EQ(outcome(checkpoint), "BV7002");
  EXPECT_EQ(checkpoint.error().message, "2 of 2 shards are missing from the folder");
  EXPECT_THAT(
      checkpoint.error().facts,
      ElementsAre("\"model-00001-of-00004.safetensors\"", "\"model-00002-of-00004.safetensors\"",
                  "names can be checked, bytes cannot",
                  "model-*-of-00002.safetensors (2 files) holds every tensor that the "
                  "index names: the index is of another save"));
  EXPECT_EQ(checkpoint.error().help,
            "delete the index, or write it again from the files that are there");
}

TEST(WeightSets, AnIndexWithoutItsShardsNamesWhatElseLiesThere) {
  const ScratchFolder folder;
  write_two_shards(folder);
  fs::remove(folder.path() / kSecond);
  folder.write(kIndex, index_of({{"a", "x-1.safetensors"}, {"b", "x-1.safetensors"}}));
  const auto checkpoint = Checkpoint::open(folder.path());
  ASSERT_EQ(outcome(checkpoint), "BV7002");
  EXPECT_THAT(checkpoint.error().facts,
              ElementsAre("\"x-1.safetensors\"", "names can be checked, bytes cannot",
                          "not in the index: model-*-of-00002.safetensors (1 file); it holds 1 of "
                          "2 tensors that the index names"));
  EXPECT_THAT(checkpoint.error().help, HasSubstr("copy the missing shards"));
}

}  // namespace
}  // namespace bv::io

#include "core/io/shard_index.hpp"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "tests/core/io/small_checkpoint.hpp"

namespace bv::io {
namespace {

namespace fs = std::filesystem;
using ::testing::ElementsAre;
using ::testing::HasSubstr;
using testing::index_of;
using testing::kFirst;
using testing::kIndex;
using testing::kSecond;
using testing::one_tensor;
using testing::outcome;
using testing::safetensors;
using testing::ScratchFolder;
using testing::shown;
using testing::write_two_shards;

TEST(ShardIndex, HostileShardNamesAreRefused) {
  const ScratchFolder outer;
  outer.write("secret.safetensors", one_tensor("a"));
  const std::vector<std::string> hostile = {"../secret.safetensors",
                                            "sub/../../secret.safetensors",
                                            "/etc/passwd.safetensors",
                                            "C:model.safetensors",
                                            "./C:model.safetensors",
                                            "c:/x.safetensors",
                                            "sub\\\\model.safetensors",
                                            "model\\u0000.safetensors",
                                            "model.bin",
                                            "",
                                            ".",
                                            "..",
                                            "model.safetensors/",
                                            "/"};
  for (const std::string& name : hostile) {
    const std::string file = "inner/" + std::string(kIndex);
    outer.write(file, index_of({{"a", name}}));
    EXPECT_EQ(outcome(Checkpoint::open(outer.path() / "inner")), "BV7016") << name;
  }
}

TEST(ShardIndex, ShardInASubfolderAndTwoSpellingsOfOneNameAreFine) {
  const ScratchFolder folder;
  folder.write(
      "sub/x.safetensors",
      safetensors(
          R"({"a":{"dtype":"U8","shape":[1],"data_offsets":[0,1]},"b":{"dtype":"U8","shape":[3],"data_offsets":[1,4]}})",
          4));
  folder.write(kIndex, index_of({{"a", "sub/x.safetensors"}, {"b", "./sub//x.safetensors"}}));
  const auto checkpoint = Checkpoint::open(folder.path(), true);
  ASSERT_TRUE(checkpoint) << shown(checkpoint.error());
  EXPECT_EQ(checkpoint->files().size(), 1u);
}

TEST(ShardIndex, LinkThatLeavesTheFolderIsRefused) {
  const ScratchFolder outer;
  outer.write("secret.safetensors", one_tensor("a"));
  fs::create_directories(outer.path() / "inner");
  fs::create_symlink("../secret.safetensors", outer.path() / "inner" / "model.safetensors");
  EXPECT_EQ(outcome(Checkpoint::open(outer.path() / "inner")), "BV7016");
  outer.write("inner/" + std::string(kIndex), index_of({{"a", "model.safetensors"}}));
  EXPECT_EQ(outcome(Checkpoint::open(outer.path() / "inner")), "BV7016");
  // The user named the file: that link is theirs.
  EXPECT_EQ(outcome(Checkpoint::open(outer.path() / "inner" / "model.safetensors")), "accepted");
}

TEST(ShardIndex, FolderWhoseNameStartsLikeTheBoundaryIsOutside) {
  const ScratchFolder outer;
  outer.write("inner2/model.safetensors", one_tensor("a"));
  fs::create_directories(outer.path() / "inner");
  fs::create_symlink("../inner2/model.safetensors", outer.path() / "inner" / "model.safetensors");
  EXPECT_EQ(outcome(Checkpoint::open(outer.path() / "inner")), "BV7016");
}

TEST(ShardIndex, LinkLoopIsAnError) {
  const ScratchFolder folder;
  fs::create_symlink("y.safetensors", folder.path() / "x.safetensors");
  fs::create_symlink("x.safetensors", folder.path() / "y.safetensors");
  EXPECT_EQ(outcome(Checkpoint::open(folder.path())), "BV8007");
  EXPECT_EQ(outcome(Checkpoint::open(folder.path() / "x.safetensors")), "BV8007");
}

TEST(ShardIndex, SnapshotOfTheHfCacheMayLinkToItsBlobs) {
  const ScratchFolder root;
  const std::string repository = "hub/models--Org--Name/";
  root.write(repository + "blobs/1234", one_tensor("a"));
  const fs::path snapshot = root.path() / repository / "snapshots" / std::string(40, 'f');
  fs::create_directories(snapshot);
  fs::create_symlink("../../blobs/1234", snapshot / "model.safetensors");
  EXPECT_EQ(outcome(Checkpoint::open(snapshot, true)), "accepted");
  // A link into the blobs of another repository leaves this one.
  root.write("hub/models--Org--Other/blobs/1234", one_tensor("a"));
  fs::remove(snapshot / "model.safetensors");
  fs::create_symlink("../../../models--Org--Other/blobs/1234", snapshot / "model.safetensors");
  EXPECT_EQ(outcome(Checkpoint::open(snapshot)), "BV7016");
}

TEST(ShardIndex, SnapshotWithoutABlobNamesTheDownload) {
  const ScratchFolder root;
  const fs::path snapshot = root.path() / "models--Org--Name" / "snapshots" / std::string(40, 'f');
  fs::create_directories(snapshot);
  root.write("models--Org--Name/snapshots/" + std::string(40, 'f') + "/" + kIndex,
             index_of({{"a", kFirst}, {"b", kSecond}}));
  root.write("models--Org--Name/snapshots/" + std::string(40, 'f') + "/" + kSecond,
             one_tensor("b"));
  fs::create_symlink("../../blobs/gone", snapshot / kFirst);
  const auto checkpoint = Checkpoint::open(snapshot);
  ASSERT_EQ(outcome(checkpoint), "BV7002");
  EXPECT_EQ(checkpoint.error().message, "1 of 2 shards is missing from the snapshot");
  EXPECT_THAT(checkpoint.error().help,
              HasSubstr("hf download Org/Name --include \"model-00001-*\""));
  EXPECT_THAT(shown(checkpoint.error()), HasSubstr("names can be checked, bytes cannot"));
}

TEST(ShardIndex, BrokenIndexNamesLineAndColumn) {
  const ScratchFolder folder;
  folder.write(kIndex, "{\n  \"weight_map\": {\n    \"a\": 1\n  }\n}");
  const auto checkpoint = Checkpoint::open(folder.path());
  ASSERT_EQ(outcome(checkpoint), "BV7017");
  EXPECT_THAT(checkpoint.error().message, HasSubstr("line 3, column 10: expected a string"));
  for (const char* text : {"", "[]", "{}", "{\"weight_map\":[]}", "{\"weight_map\":{},}",
                           "{\"weight_map\":{}} x", "{\"weight_map\":{\"\xff\":\"a\"}}"}) {
    folder.write(kIndex, text);
    EXPECT_EQ(outcome(Checkpoint::open(folder.path())), "BV7017") << text;
  }
}

TEST(ShardIndex, IndexWithATensorTwiceIsRefused) {
  const ScratchFolder folder;
  write_two_shards(folder);
  folder.write(kIndex, index_of({{"a", kFirst}, {"b", kSecond}, {"a", kSecond}}));
  EXPECT_EQ(outcome(Checkpoint::open(folder.path())), "BV7009");
  folder.write(kIndex, R"({"weight_map":{},"weight_map":{}})");
  EXPECT_EQ(outcome(Checkpoint::open(folder.path())), "BV7009");
}

TEST(ShardIndex, TensorsAndShardsAreSortedByName) {
  const auto index = parse_shard_index(
      index_of({{"b", "y.safetensors"}, {"a", "y.safetensors"}, {"c", "x.safetensors"}}), "X");
  ASSERT_TRUE(index);
  EXPECT_THAT(index->shards, ElementsAre("x.safetensors", "y.safetensors"));
  std::string order;
  for (const IndexedTensor& tensor : index->tensors) {
    order += tensor.name + std::to_string(tensor.shard);
  }
  EXPECT_EQ(order, "a1b1c0");
}

TEST(ShardIndex, TotalSizeIsANumberOfAnyForm) {
  const auto size = [](const std::string& metadata) {
    return parse_shard_index(index_of({}, metadata), "X")->total_size;
  };
  EXPECT_EQ(size(R"({"total_size":12})"), 12.0);
  EXPECT_EQ(size(R"({"total_parameters":3,"total_size":1.5e10})"), 1.5e10);
  EXPECT_EQ(size(R"({"total_size":"12"})"), std::nullopt);
  EXPECT_EQ(size(R"({"total_size":null})"), std::nullopt);
  EXPECT_EQ(size("null"), std::nullopt);
}

TEST(ShardIndex, GapsInTheNumbersAreFound) {
  EXPECT_THAT(missing_by_number({"m-00001-of-00003.safetensors", "m-00003-of-00003.safetensors"}),
              ElementsAre("m-00002-of-00003.safetensors"));
  EXPECT_THAT(missing_by_number({"m-1-of-2.safetensors", "m-2-of-2.safetensors",
                                 "model.safetensors", "a-of-b.safetensors", "-of-1.safetensors"}),
              ElementsAre());
  EXPECT_THAT(missing_by_number(
                  {"m-1-of-99999999999.safetensors", "m-1-of-99999999999999999999999.safetensors"}),
              ElementsAre());
}

TEST(ShardIndex, HugeNumbersOfMissingShardsStayBounded) {
  std::vector<std::string> names;
  for (int i = 0; i < 50; ++i) {
    names.push_back("m" + std::to_string(i) + "-00001-of-100000.safetensors");
  }
  EXPECT_LE(missing_by_number(names).size(), 100'000u);
}

}  // namespace
}  // namespace bv::io

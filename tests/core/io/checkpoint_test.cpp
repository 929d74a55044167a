#include "core/io/checkpoint.hpp"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/resource.h>
#include <sys/stat.h>

#include <atomic>
#include <thread>

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

std::vector<std::string> names(const Checkpoint& checkpoint) {
  std::vector<std::string> out;
  for (const auto& [name, tensor] : checkpoint.tensors()) {
    out.push_back(name);
  }
  return out;
}

std::vector<int> values(std::span<const std::byte> bytes) {
  std::vector<int> out;
  for (const std::byte byte : bytes) {
    out.push_back(std::to_integer<int>(byte));
  }
  return out;
}

TEST(Checkpoint, ReadsShardsOfAnIndex) {
  const ScratchFolder folder;
  write_two_shards(folder);
  const auto checkpoint = Checkpoint::open(folder.path(), true);
  ASSERT_TRUE(checkpoint) << shown(checkpoint.error());
  EXPECT_THAT(names(*checkpoint), ElementsAre("a", "b"));
  EXPECT_EQ(checkpoint->total_bytes(), 8u);
  EXPECT_EQ(checkpoint->files().size(), 2u);
  EXPECT_TRUE(checkpoint->findings().empty());
  EXPECT_EQ(checkpoint->headers().at("b"), (TensorSpec{"b", DType::U8, {4}}));
  const StoredTensor& b = checkpoint->tensors().at("b");
  EXPECT_EQ(checkpoint->files()[b.file].filename(), kSecond);
  EXPECT_THAT(values(checkpoint->bytes(b)), ElementsAre(0, 1, 2, 3));
  std::vector<std::byte> part(2);
  ASSERT_TRUE(checkpoint->read(b, 1, part));
  EXPECT_THAT(values(part), ElementsAre(1, 2));
  EXPECT_TRUE(checkpoint->unchanged());
}

TEST(Checkpoint, IndexCanBeNamedItself) {
  const ScratchFolder folder;
  write_two_shards(folder);
  const auto checkpoint = Checkpoint::open(folder.path() / kIndex);
  ASSERT_TRUE(checkpoint);
  EXPECT_THAT(names(*checkpoint), ElementsAre("a", "b"));
}

TEST(Checkpoint, OneFileIsPreferredToAListing) {
  const ScratchFolder folder;
  folder.write("model.safetensors", one_tensor("a"));
  folder.write("other.safetensors", one_tensor("a"));
  const auto checkpoint = Checkpoint::open(folder.path());
  ASSERT_TRUE(checkpoint);
  EXPECT_EQ(checkpoint->files().size(), 1u);
}

TEST(Checkpoint, ListingReadsAllFilesAndSkipsHiddenOnes) {
  const ScratchFolder folder;
  folder.write("x.safetensors", one_tensor("a"));
  folder.write("y.safetensors", one_tensor("b"));
  folder.write("._x.safetensors", "no tensors");
  const auto checkpoint = Checkpoint::open(folder.path());
  ASSERT_TRUE(checkpoint);
  EXPECT_THAT(names(*checkpoint), ElementsAre("a", "b"));
}

TEST(Checkpoint, ListingRefusesATensorInTwoFiles) {
  const ScratchFolder folder;
  folder.write("x.safetensors", one_tensor("a"));
  folder.write("y.safetensors", one_tensor("a"));
  const auto checkpoint = Checkpoint::open(folder.path());
  ASSERT_EQ(outcome(checkpoint), "BV7009");
  EXPECT_THAT(checkpoint.error().message,
              HasSubstr("tensor \"a\" is in two files: x.safetensors and y.safetensors"));
}

TEST(Checkpoint, ListingNoticesAGapInTheNumbers) {
  const ScratchFolder folder;
  folder.write("model-00001-of-00003.safetensors", one_tensor("a"));
  folder.write("model-00003-of-00003.safetensors", one_tensor("b"));
  const auto checkpoint = Checkpoint::open(folder.path());
  ASSERT_EQ(outcome(checkpoint), "BV7002");
  EXPECT_THAT(shown(checkpoint.error()), HasSubstr("model-00002-of-00003.safetensors"));
}

TEST(Checkpoint, FilesAndFoldersWithoutWeightsAreNamed) {
  const ScratchFolder folder;
  EXPECT_EQ(outcome(Checkpoint::open(folder.path() / "none")), "BV7001");
  EXPECT_EQ(outcome(Checkpoint::open(folder.path())), "BV7001");
  folder.write("pytorch_model.bin", "PK");
  const auto pickle = Checkpoint::open(folder.path());
  ASSERT_EQ(outcome(pickle), "BV7013");
  EXPECT_THAT(pickle.error().message,
              HasSubstr("has pickle weights that are not an archive of torch.save"));
  EXPECT_EQ(outcome(Checkpoint::open(folder.path() / "pytorch_model.bin")), "BV7013");
}

TEST(Checkpoint, EmptyFileAndPipeAreRefusedWithoutAHang) {
  const ScratchFolder folder;
  EXPECT_EQ(outcome(Checkpoint::open(folder.write("empty.safetensors", ""))), "BV7004");
  ASSERT_EQ(::mkfifo((folder.path() / "pipe.safetensors").c_str(), 0600), 0);
  EXPECT_EQ(outcome(Checkpoint::open(folder.path() / "pipe.safetensors")), "BV8007");
  EXPECT_EQ(outcome(Checkpoint::open("/dev/zero")), "BV8007");
}

TEST(Checkpoint, MissingShardsAreListedAndTheOthersStayUsable) {
  const ScratchFolder folder;
  write_two_shards(folder);
  fs::remove(folder.path() / kFirst);
  const auto checkpoint = Checkpoint::open(folder.path());
  ASSERT_EQ(outcome(checkpoint), "BV7002");
  EXPECT_EQ(checkpoint.error().message, "1 of 2 shards is missing from the folder");
  EXPECT_THAT(shown(checkpoint.error()), HasSubstr(kFirst));
  const auto partial = Checkpoint::open_partial(folder.path());
  ASSERT_TRUE(partial);
  EXPECT_THAT(names(*partial), ElementsAre("b"));
  ASSERT_EQ(partial->missing().size(), 1u);
  EXPECT_EQ(partial->missing()[0].file, kFirst);
  EXPECT_THAT(partial->missing()[0].tensors, ElementsAre("a"));
}

TEST(Checkpoint, IndexThatNamesAnotherShardIsRefused) {
  const ScratchFolder folder;
  write_two_shards(folder);
  folder.write(kIndex, index_of({{"a", kSecond}, {"b", kFirst}}));
  const auto checkpoint = Checkpoint::open(folder.path());
  ASSERT_EQ(outcome(checkpoint), "BV7007");
  EXPECT_EQ(checkpoint.error().message,
            "index puts \"a\" in \"model-00002-of-00002.safetensors\", the file with it is "
            "\"model-00001-of-00002.safetensors\"");
  EXPECT_THAT(checkpoint.error().facts, ElementsAre("and 1 further disagreement"));
}

TEST(Checkpoint, IndexThatNamesAnAbsentTensorIsRefused) {
  const ScratchFolder folder;
  write_two_shards(folder);
  folder.write(kIndex, index_of({{"a", kFirst}, {"b", kSecond}, {"c", kSecond}}));
  const auto checkpoint = Checkpoint::open(folder.path());
  ASSERT_EQ(outcome(checkpoint), "BV7007");
  EXPECT_THAT(checkpoint.error().message, HasSubstr("no file has it"));
}

TEST(Checkpoint, TensorInTwoShardsOfAnIndexIsRefused) {
  const ScratchFolder folder;
  write_two_shards(folder);
  folder.write(
      kSecond,
      safetensors(
          R"({"a":{"dtype":"U8","shape":[1],"data_offsets":[0,1]},"b":{"dtype":"U8","shape":[3],"data_offsets":[1,4]}})",
          4));
  EXPECT_EQ(outcome(Checkpoint::open(folder.path())), "BV7007");
}

TEST(Checkpoint, StrayTensorIsLeftOutWithAFinding) {
  const ScratchFolder folder;
  write_two_shards(folder);
  folder.write(
      kSecond,
      safetensors(
          R"({"b":{"dtype":"U8","shape":[4],"data_offsets":[0,4]},"stray":{"dtype":"U8","shape":[2],"data_offsets":[4,6]}})",
          6));
  const auto checkpoint = Checkpoint::open(folder.path());
  ASSERT_TRUE(checkpoint) << shown(checkpoint.error());
  EXPECT_THAT(names(*checkpoint), ElementsAre("a", "b"));
  EXPECT_EQ(checkpoint->total_bytes(), 8u);
  ASSERT_EQ(checkpoint->findings().size(), 1u);
  EXPECT_THAT(checkpoint->findings()[0].what, HasSubstr("\"stray\""));
  EXPECT_EQ(outcome(Checkpoint::open(folder.path(), true)), "BV7007");
}

TEST(Checkpoint, UnindexedFileAndWrongTotalSizeAreNotesOnly) {
  const ScratchFolder folder;
  write_two_shards(folder);
  folder.write(kIndex, index_of({{"a", kFirst}, {"b", kSecond}}, R"({"total_size":1.5e10})"));
  folder.write("consolidated.safetensors", "never read");
  const auto checkpoint = Checkpoint::open(folder.path(), true);
  ASSERT_TRUE(checkpoint) << shown(checkpoint.error());
  ASSERT_EQ(checkpoint->findings().size(), 2u);
  EXPECT_THAT(checkpoint->findings()[0].what, HasSubstr("consolidated.safetensors"));
  EXPECT_THAT(checkpoint->findings()[1].what,
              HasSubstr("total_size says 15000000000 bytes, the tensors have 8"));
}

TEST(Checkpoint, SingleFileBesideAnIndexIsRefusedWhenStrict) {
  const ScratchFolder folder;
  write_two_shards(folder);
  folder.write("model.safetensors", one_tensor("a"));
  EXPECT_EQ(outcome(Checkpoint::open(folder.path())), "accepted");
  EXPECT_EQ(outcome(Checkpoint::open(folder.path(), true)), "BV7007");
}

TEST(Checkpoint, SeveralIndexesNeedTheMainOne) {
  const ScratchFolder folder;
  write_two_shards(folder);
  fs::rename(folder.path() / kIndex, folder.path() / "model.fp16.safetensors.index.json");
  EXPECT_EQ(outcome(Checkpoint::open(folder.path())), "accepted");
  fs::copy(folder.path() / "model.fp16.safetensors.index.json",
           folder.path() / "model.fp8.safetensors.index.json");
  EXPECT_EQ(outcome(Checkpoint::open(folder.path())), "BV7017");
}

TEST(Checkpoint, FileThatChangesIsNoticed) {
  const ScratchFolder folder;
  const fs::path path = folder.write("model.safetensors", one_tensor("a", 100));
  const auto checkpoint = Checkpoint::open(folder.path());
  ASSERT_TRUE(checkpoint);
  const StoredTensor& a = checkpoint->tensors().at("a");
  EXPECT_EQ(outcome(checkpoint->unchanged()), "accepted");
  fs::resize_file(path, fs::file_size(path) - 50);
  EXPECT_EQ(outcome(checkpoint->unchanged()), "BV7007");
  std::vector<std::byte> out(100);
  EXPECT_EQ(outcome(checkpoint->read(a, 0, out)), "BV7007");
}

TEST(Checkpoint, FileThatShrinksBetweenTwoReadsIsAnError) {
  const ScratchFolder folder;
  const fs::path path = folder.write("model.safetensors", one_tensor("a", 100));
  const auto checkpoint = Checkpoint::open(folder.path());
  ASSERT_TRUE(checkpoint);
  const StoredTensor& a = checkpoint->tensors().at("a");
  std::vector<std::byte> out(100);
  ASSERT_TRUE(checkpoint->read(a, 0, out));
  fs::resize_file(path, fs::file_size(path) - 50);
  EXPECT_EQ(outcome(checkpoint->read(a, 0, out)), "BV8007");
  EXPECT_EQ(outcome(checkpoint->read(a, 0, std::span(out).first(50))), "accepted");
}

TEST(Checkpoint, FileThatIsReplacedOrDeletedIsNoticed) {
  const ScratchFolder folder;
  const fs::path path = folder.write("model.safetensors", one_tensor("a"));
  const auto checkpoint = Checkpoint::open(folder.path());
  ASSERT_TRUE(checkpoint);
  fs::rename(folder.write("new.safetensors", one_tensor("a")), path);
  EXPECT_EQ(outcome(checkpoint->unchanged()), "BV7007");
  fs::remove(path);
  EXPECT_EQ(outcome(checkpoint->unchanged()), "BV7007");
}

TEST(Checkpoint, ReleasedBytesCanBeReadAgain) {
  const ScratchFolder folder;
  folder.write("model.safetensors", one_tensor("a", 100'000));
  const auto checkpoint = Checkpoint::open(folder.path());
  ASSERT_TRUE(checkpoint);
  const auto bytes = checkpoint->bytes(checkpoint->tensors().at("a"));
  const std::vector<int> before = values(bytes);
  checkpoint->release(bytes.subspan(5'000, 60'000));
  checkpoint->release(bytes.first(0));
  EXPECT_EQ(values(bytes), before);
}

TEST(Checkpoint, MovedCheckpointKeepsItsBytes) {
  const ScratchFolder folder;
  folder.write("model.safetensors", one_tensor("a"));
  auto first = Checkpoint::open(folder.path());
  ASSERT_TRUE(first);
  const auto bytes = first->bytes(first->tensors().at("a"));
  const Checkpoint second = *std::move(first);
  EXPECT_EQ(second.bytes(second.tensors().at("a")).data(), bytes.data());
  EXPECT_THAT(values(bytes), ElementsAre(0, 1, 2, 3));
}

/// More files than a process may have open, read by several threads.
/// For its life this process may have so many open files.
class OpenFilesLimit {
 public:
  explicit OpenFilesLimit(rlim_t files) {
    EXPECT_EQ(::getrlimit(RLIMIT_NOFILE, &old_), 0);
    struct rlimit few = old_;
    few.rlim_cur = files;
    EXPECT_EQ(::setrlimit(RLIMIT_NOFILE, &few), 0);
  }
  ~OpenFilesLimit() { EXPECT_EQ(::setrlimit(RLIMIT_NOFILE, &old_), 0); }
  OpenFilesLimit(const OpenFilesLimit&) = delete;
  OpenFilesLimit& operator=(const OpenFilesLimit&) = delete;

 private:
  struct rlimit old_ {};
};

TEST(Checkpoint, TenThousandShardsNeedFewDescriptors) {
  const ScratchFolder folder;
  std::vector<std::pair<std::string, std::string>> map;
  for (int i = 0; i < 10'000; ++i) {
    const std::string name = "t" + std::to_string(i);
    folder.write(name + ".safetensors", one_tensor(name));
    map.emplace_back(name, name + ".safetensors");
  }
  folder.write(kIndex, index_of(map));
  const OpenFilesLimit limit(128);
  const auto checkpoint = Checkpoint::open(folder.path(), true);
  ASSERT_TRUE(checkpoint) << shown(checkpoint.error());
  EXPECT_EQ(checkpoint->tensors().size(), 10'000u);
  std::atomic<int> wrong{0};
  std::vector<std::thread> threads;
  for (int t = 0; t < 4; ++t) {
    threads.emplace_back([&] {
      std::vector<std::byte> out(4);
      for (const auto& [name, tensor] : checkpoint->tensors()) {
        wrong += checkpoint->read(tensor, 0, out) && out[3] == std::byte{3} &&
                         checkpoint->bytes(tensor)[3] == std::byte{3}
                     ? 0
                     : 1;
      }
    });
  }
  for (std::thread& thread : threads) {
    thread.join();
  }
  EXPECT_EQ(wrong, 0);
}

/// The real checkpoints of transformers: strict reading finds nothing to say but that
/// forward.safetensors is not in the index.
TEST(Checkpoint, OpensEveryGoldenCheckpoint) {
  std::size_t cases = 0;
  for (const auto& entry : fs::directory_iterator(fs::path(BV_FIXTURES) / "golden" / "hf")) {
    if (!entry.is_directory()) {
      continue;
    }
    ++cases;
    const auto checkpoint = Checkpoint::open(entry.path(), true);
    ASSERT_TRUE(checkpoint) << shown(checkpoint.error());
    EXPECT_GT(checkpoint->tensors().size(), 0u) << entry.path();
    for (const auto& [name, tensor] : checkpoint->tensors()) {
      std::vector<std::byte> copy(tensor.end - tensor.begin);
      ASSERT_TRUE(checkpoint->read(tensor, 0, copy));
      EXPECT_TRUE(std::ranges::equal(copy, checkpoint->bytes(tensor))) << name;
    }
    EXPECT_TRUE(checkpoint->unchanged());
  }
  EXPECT_EQ(cases, 49u);
}

}  // namespace
}  // namespace bv::io

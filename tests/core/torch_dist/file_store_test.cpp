#include "core/torch_dist/file_store.hpp"

#include <gtest/gtest.h>

#include "core/io/checkpoint.hpp"
#include "core/io/whole_tensor.hpp"
#include "tests/core/io/scratch.hpp"
#include "tests/core/pickle/small_archive.hpp"
#include "tests/core/torch_dist/golden_copy.hpp"

namespace bv::torch_dist {
namespace {

namespace fs = std::filesystem;
using pickle::pickled;
using pickle::pickled_tuple;
using pickle::SmallArchive;
using std::string_literals::operator""s;

/// A float tensor of `rows` elements in storage `key`.
std::string state_tensor(const std::string& key, int rows) {
  return "ctorch._utils\n_rebuild_tensor_v2\n((" + pickled("storage") + "ctorch\nFloatStorage\n" +
         pickled(key) + pickled("cpu") + pickled(rows) + "tQ" + pickled(0) + pickled(rows) +
         "\x85" + pickled(1) + "\x85" + "\x89" + "ccollections\nOrderedDict\n)RtR";
}

/// A Megatron file: arguments, weights in an OrderedDict, an extra state beside them.
SmallArchive megatron_file(const std::string& more = "") {
  const std::string arguments =
      "cargparse\nNamespace\n)\x81}" + pickled("pipeline_model_parallel_size") + pickled(2) + "sb";
  const std::string weights = "ccollections\nOrderedDict\n)R(" + pickled("a.weight") +
                              state_tensor("0", 2) + pickled("a._extra_state") + "N" +
                              pickled("b.weight") + state_tensor("1", 1) + more + "u";
  return {{{"m/data.pkl",
            "\x80\x02}(" + pickled("args") + arguments + pickled("model") + weights + "u."},
           {"m/data/0", std::string(8, 'a')},
           {"m/data/1", std::string(4, 'b')},
           {"m/version", "3\n"}}};
}

class TorchFileStore : public ::testing::Test {
 protected:
  Result<FileStore> open(const SmallArchive& archive, std::string_view key = "model") {
    spill(folder_.path() / "x.pt", archive.bytes());
    return FileStore::open(folder_.path() / "x.pt", key);
  }
  io::testing::ScratchFolder folder_;
};

/// What PyTorch itself saved of views of its storages, and the same row by row.
TEST(TorchViews, AreWhatPyTorchSaysThatTheyAre) {
  const fs::path folder = fs::path(BV_FIXTURES) / "torch";
  const auto wanted = io::Checkpoint::open(folder / "views.safetensors");
  const auto found = FileStore::open(folder / "views.bin");
  ASSERT_TRUE(found.has_value()) << found.error().message;
  const auto as_checkpoint = io::Checkpoint::open(folder / "views.bin");
  ASSERT_TRUE(as_checkpoint.has_value()) << as_checkpoint.error().message;
  EXPECT_EQ(found->headers(), wanted->headers());
  EXPECT_EQ(as_checkpoint->headers(), wanted->headers());
  EXPECT_EQ(found->total_bytes(), wanted->total_bytes());
  std::size_t gathered = 0;
  for (const auto& [name, stored] : wanted->tensors()) {
    const auto whole = wanted->bytes(stored);
    const std::vector<std::byte> right(whole.begin(), whole.end());
    const auto chunks = found->chunks(*found->find(name));
    ASSERT_EQ(chunks.size(), 1U);
    std::vector<std::byte> bytes(chunks[0].bytes.begin(), chunks[0].bytes.end());
    if (chunks[0].made != nullptr) {
      ++gathered;
      bytes.resize(right.size());
      ASSERT_TRUE(chunks[0].made->make(0, chunks[0].made->elements(), bytes.data()));
    }
    EXPECT_EQ(bytes, right) << name;
    const auto again =
        io::WholeTensor::read(*as_checkpoint, as_checkpoint->tensors().find(name)->second);
    EXPECT_EQ(std::vector<std::byte>(again->bytes().begin(), again->bytes().end()), right) << name;
  }
  EXPECT_EQ(gathered, 17U);  // the other four are contiguous, whatever made them
}

/// A storage of eight bytes says that it is terabytes.
TEST_F(TorchFileStore, RefusesRepeatedElementsWithoutABound) {
  const auto expanded = [](const std::string& shape) {
    return pickled("c.weight") + std::string("ctorch._utils\n_rebuild_tensor_v2\n((") +
           pickled("storage") + "ctorch\nFloatStorage\n" + pickled("0") + pickled("cpu") +
           pickled(2) + "tQ" + pickled(0) + shape + pickled_tuple(std::vector{0, 0}) + "\x89" +
           "ccollections\nOrderedDict\n)RtR";
  };
  const auto huge = open(megatron_file(expanded(pickled_tuple(std::vector{1 << 20, 1 << 20}))));
  ASSERT_FALSE(huge.has_value());
  EXPECT_EQ(huge.error().code, Code::PickleInvalid);
  EXPECT_NE(huge.error().message.find("repeat what is stored"), std::string::npos)
      << huge.error().message;
  EXPECT_NE(huge.error().found.find("c.weight"), std::string::npos) << huge.error().found;
  EXPECT_TRUE(open(megatron_file(expanded(pickled_tuple(std::vector{1 << 10, 1 << 10})))));
}

TEST_F(TorchFileStore, HoldsTheTensorsOfTheDictByName) {
  const auto store = open(megatron_file());
  ASSERT_TRUE(store.has_value()) << store.error().message;
  EXPECT_EQ(store->headers(), (Headers{{"a.weight", {"a.weight", DType::F32, {2}}},
                                       {"b.weight", {"b.weight", DType::F32, {1}}}}));
  const auto chunks = store->chunks(*store->find("b.weight"));
  ASSERT_EQ(chunks.size(), 1U);
  EXPECT_EQ(std::string(reinterpret_cast<const char*>(chunks[0].bytes.data()), 4), "bbbb");
  EXPECT_EQ(store->left_out(), 1);
  EXPECT_EQ(store->total_bytes(), 12U);
  EXPECT_EQ(store->argument("pipeline_model_parallel_size"), 2);
  EXPECT_EQ(store->argument("seed"), std::nullopt);
  EXPECT_TRUE(store->check_sums().has_value());
}

TEST_F(TorchFileStore, ADamagedRecordIsToldByItsChecksum) {
  SmallArchive archive = megatron_file();
  archive.records[2].more_crc = 1;
  const auto store = open(archive);
  ASSERT_TRUE(store.has_value());
  const auto sums = store->check_sums();
  ASSERT_FALSE(sums.has_value());
  EXPECT_EQ(sums.error().code, Code::ZipInvalid);
  EXPECT_NE(sums.error().message.find("\"data/1\""), std::string::npos);
}

TEST_F(TorchFileStore, AFileWithoutTheDictIsRefused) {
  EXPECT_EQ(open(megatron_file(), "weights").error().code, Code::PickleInvalid);
  EXPECT_EQ(open(megatron_file(), "args").error().code, Code::PickleInvalid);
  EXPECT_EQ(open(megatron_file(pickled("a.weight") + state_tensor("1", 1))).error().code,
            Code::DuplicateKey);
  EXPECT_EQ(open(megatron_file(pickled("c.weight") + state_tensor("7", 1))).error().code,
            Code::PickleInvalid);
}

TEST_F(TorchFileStore, ARealTrainingStateHoldsScalars) {
  const auto store = FileStore::open(fs::path(BV_FIXTURES) /
                                     "golden/torch_dist/qwen3/iter_0000000/train_state.pt");
  ASSERT_TRUE(store.has_value()) << store.error().message;
  EXPECT_EQ(*store->find("step"), (TensorSpec{"step", DType::I64, {}}));
  EXPECT_EQ(store->find("do_train")->dtype, DType::Bool);
  EXPECT_TRUE(store->check_sums().has_value());
}

TEST(LegacyFiles, AreFoundByTheirRanks) {
  const io::testing::ScratchFolder folder;
  for (const char* name : {"mp_rank_01_000", "mp_rank_00_001", "mp_rank_00_000", "mp_rank_x",
                           "mp_rank_00_00_00_00", "inner/mp_rank_00"}) {
    folder.write(std::string(name) + "/model_optim_rng.pt", "x");
  }
  const auto files = legacy_files(folder.path());
  ASSERT_EQ(files.size(), 3U);
  EXPECT_EQ(files[0].others, (std::vector<std::int64_t>{0}));
  EXPECT_EQ(files[1].others, (std::vector<std::int64_t>{1}));
  EXPECT_EQ(files[2].tp, 1);
  EXPECT_EQ(legacy_files(folder.path() / "inner").size(), 1U);
  EXPECT_TRUE(legacy_files(folder.path() / "none").empty());
}

}  // namespace
}  // namespace bv::torch_dist

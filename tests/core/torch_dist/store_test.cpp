#include "core/torch_dist/store.hpp"

#include <gtest/gtest.h>

#include "core/base/arith.hpp"
#include "core/base/text.hpp"
#include "core/io/digest.hpp"
#include "tests/core/io/scratch.hpp"
#include "tests/core/torch_dist/golden_copy.hpp"

namespace bv::torch_dist {
namespace {

namespace fs = std::filesystem;

/// The whole tensor, put together element by element from its chunks: no code of the engine.
std::string assembled(const TensorSpec& spec, const std::vector<io::Chunk>& chunks) {
  const auto size = static_cast<std::size_t>(bytes(spec.dtype));
  std::string out(static_cast<std::size_t>(element_count(spec.shape).value()) * size, '\0');
  for (const io::Chunk& chunk : chunks) {
    const std::int64_t count = element_count(chunk.extent).value();
    for (std::int64_t i = 0; i < count; ++i) {
      const Shape index = index_of(i, chunk.extent);
      std::int64_t flat = 0;
      for (std::size_t dim = 0; dim < index.size(); ++dim) {
        flat = flat * spec.shape[dim] + chunk.origin[dim] + index[dim];
      }
      std::memcpy(out.data() + static_cast<std::size_t>(flat) * size,
                  chunk.bytes.data() + static_cast<std::size_t>(i) * size, size);
    }
  }
  return out;
}

class RealCheckpoint : public ::testing::TestWithParam<std::string> {};

TEST_P(RealCheckpoint, HoldsWhatTheRealLoaderReads) {
  const fs::path folder = fs::path(BV_FIXTURES) / "golden/torch_dist" / GetParam();
  const auto expected = nlohmann::json::parse(slurp(folder / "expected.json"));
  const auto store = DistCheckpoint::open(folder / "iter_0000000");
  ASSERT_TRUE(store.has_value()) << store.error().message;
  const Headers headers = store->headers();
  ASSERT_EQ(headers.size(), expected.at("tensors").size());
  for (const auto& [key, wanted] : expected.at("tensors").items()) {
    const TensorSpec* const spec = store->find(key);
    ASSERT_NE(spec, nullptr) << key;
    EXPECT_EQ(name(spec->dtype), wanted.at("dtype").get<std::string>()) << key;
    EXPECT_EQ(spec->shape, wanted.at("shape").get<Shape>()) << key;
    const auto chunks = store->chunks(*spec);
    EXPECT_EQ(chunks.size(), wanted.at("chunks").size()) << key;
    EXPECT_TRUE(io::check_chunks(*spec, chunks, "f").has_value()) << key;
    io::Digest digest;
    digest.add(assembled(*spec, chunks));
    EXPECT_EQ(digest.hex(), wanted.at("xxh128").get<std::string>()) << key;
  }
  EXPECT_EQ(static_cast<std::size_t>(store->beside().objects), expected.at("objects").size());
  EXPECT_EQ(store->beside().optimizer_tensors, 0);
  std::vector<std::string> notes;
  EXPECT_TRUE(store->check_sums(2, notes).has_value());
  EXPECT_TRUE(notes.empty());
  EXPECT_TRUE(store->unchanged().has_value());
}

INSTANTIATE_TEST_SUITE_P(All, RealCheckpoint,
                         testing::Values("qwen3", "qwen3_5_dense_mtp", "qwen3_5_moe_packed",
                                         "qwen3_5_vl_dense"));

class DamagedCheckpoint : public ::testing::Test {
 protected:
  [[nodiscard]] Error error() const {
    auto opened = DistCheckpoint::open(copy_.iteration);
    EXPECT_FALSE(opened.has_value());
    return opened ? Error{} : opened.error();
  }
  io::testing::ScratchFolder folder_;
  GoldenCopy copy_{"qwen3", folder_.path()};
};

TEST_F(DamagedCheckpoint, AFlippedBitIsToldByItsChecksum) {
  const nlohmann::json& chunk = copy_.chunk("decoder.layers.mlp.linear_fc2.weight", 1);
  const auto file = copy_.iteration / chunk.at("file").get<std::string>();
  std::string bytes = slurp(file);
  const std::string data = copy_.data("decoder.layers.mlp.linear_fc2.weight", 1);
  const std::size_t at = bytes.find(data);
  ASSERT_NE(at, std::string::npos);
  bytes[at + 5] = static_cast<char>(bytes[at + 5] ^ 4);
  spill(file, bytes);
  const auto store = DistCheckpoint::open(copy_.iteration);
  ASSERT_TRUE(store.has_value());
  std::vector<std::string> notes;
  const auto sums = store->check_sums(1, notes);
  ASSERT_FALSE(sums.has_value());
  EXPECT_EQ(sums.error().code, Code::ZipInvalid);
  EXPECT_NE(sums.error().message.find("decoder.layers.mlp.linear_fc2.weight"), std::string::npos);
}

TEST_F(DamagedCheckpoint, AWholeFolderIsNeeded) {
  fs::remove(copy_.iteration / "__2_0.distcp");
  EXPECT_EQ(error().code, Code::DistMetadataInvalid);
  for (const char* name : {".metadata", "metadata.json"}) {
    fs::rename(copy_.iteration / name, copy_.iteration / "away");
    EXPECT_EQ(error().code, Code::DistMetadataInvalid);
    EXPECT_NE(error().message.find(std::string("is not complete: it has no ") + name),
              std::string::npos)
        << error().message;
    fs::rename(copy_.iteration / "away", copy_.iteration / name);
  }
  spill(copy_.iteration / "metadata.json", R"({"sharded_backend": "zarr"})");
  EXPECT_EQ(error().code, Code::DistMetadataInvalid);
  spill(copy_.iteration / "metadata.json", "[[[[");
  EXPECT_EQ(error().code, Code::DistMetadataInvalid);
}

TEST_F(DamagedCheckpoint, FilesThatEndEarlyAreRefused) {
  fs::resize_file(copy_.iteration / "__1_0.distcp", 61'000);
  EXPECT_EQ(error().code, Code::DistMetadataInvalid);
}

TEST_F(DamagedCheckpoint, FilesOfAnotherSaveAreRefused) {
  fs::copy_file(copy_.iteration / "__3_0.distcp", copy_.iteration / "__2_0.distcp",
                fs::copy_options::overwrite_existing);
  const Code code = error().code;
  EXPECT_TRUE(code == Code::ZipInvalid || code == Code::DistMetadataInvalid ||
              code == Code::ChunksInvalid);
}

TEST_F(DamagedCheckpoint, PathsThatLeadOutAreRefused) {
  copy_.edit_metadata("__1_0.distcp", "../../../p.x");
  EXPECT_EQ(error().code, Code::UnsafePath);
}

TEST_F(DamagedCheckpoint, MetadataThatWouldRunSomethingIsRefused) {
  copy_.edit_metadata("_MEM_FORMAT_ENCODING", "MEM_FORMAT_ENCODING_");
  const Error found = error();
  EXPECT_EQ(found.code, Code::PickleGlobal);
  EXPECT_NE(found.message.find("torch.distributed.checkpoint.metadata.MEM_FORMAT_ENCODING_"),
            std::string::npos);
}

TEST_F(DamagedCheckpoint, ATypeThatIsNotTheItemsIsRefused) {
  copy_.edit_metadata("float32", "float64");
  EXPECT_EQ(error().code, Code::ChunksInvalid);
}

/// Any byte of .metadata may be any other: an error or a checkpoint whose chunks tile its tensors.
TEST_F(DamagedCheckpoint, MetadataMayBeDamagedAnywhere) {
  const std::string whole = slurp(copy_.iteration / ".metadata");
  for (std::size_t at = 0; at < whole.size() / 3; at += 101) {
    std::string damaged = whole;
    damaged[at] = static_cast<char>(damaged[at] + 1);
    spill(copy_.iteration / ".metadata", damaged);
    const auto opened = DistCheckpoint::open(copy_.iteration);
    for (const auto& [key, spec] : opened ? opened->headers() : Headers{}) {
      ASSERT_TRUE(io::check_chunks(spec, opened->chunks(spec), "f").has_value()) << at << key;
    }
  }
}

}  // namespace
}  // namespace bv::torch_dist

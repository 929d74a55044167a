#include "core/torch_dist/metadata_writer.hpp"

#include <gtest/gtest.h>

#include "core/pickle/tensors.hpp"
#include "tests/core/pickle/small_archive.hpp"
#include "tests/core/torch_dist/golden_copy.hpp"

namespace bv::torch_dist {
namespace {

using pickle::as_span;

/// The metadata of every real checkpoint, written again and read again.
class RealMetadata : public ::testing::TestWithParam<std::string> {};

TEST_P(RealMetadata, ComesBackEqual) {
  const auto file = std::filesystem::path(BV_FIXTURES) / "golden/torch_dist" / GetParam() /
                    "iter_0000000/.metadata";
  const std::string real = slurp(file);
  const Metadata wanted = read_metadata(as_span(real), "m").value();
  const std::string text = metadata_text(wanted, "iter_0000000", "id");
  const Metadata found = read_metadata(as_span(text), "m").value();
  ASSERT_EQ(found.tensors.size(), wanted.tensors.size());
  for (const auto& [key, tensor] : wanted.tensors) {
    const StoredTensor& has = found.tensors.at(key);
    EXPECT_EQ(has.spec.dtype, tensor.spec.dtype) << key;
    EXPECT_EQ(has.spec.shape, tensor.spec.shape) << key;
    ASSERT_EQ(has.chunks.size(), tensor.chunks.size()) << key;
    for (std::size_t i = 0; i < tensor.chunks.size(); ++i) {
      EXPECT_EQ(has.chunks[i].place.origin, tensor.chunks[i].place.origin) << key;
      EXPECT_EQ(has.chunks[i].place.extent, tensor.chunks[i].place.extent) << key;
      EXPECT_EQ(has.chunks[i].slice.file, tensor.chunks[i].slice.file) << key;
      EXPECT_EQ(has.chunks[i].slice.offset, tensor.chunks[i].slice.offset) << key;
      EXPECT_EQ(has.chunks[i].slice.length, tensor.chunks[i].slice.length) << key;
    }
  }
  ASSERT_EQ(found.objects.size(), wanted.objects.size());
  for (const auto& [key, slice] : wanted.objects) {
    EXPECT_EQ(found.objects.at(key).offset, slice.offset) << key;
  }
}

INSTANTIATE_TEST_SUITE_P(All, RealMetadata,
                         testing::Values("qwen3", "qwen3_5_dense_mtp", "qwen3_5_moe_packed",
                                         "qwen3_5_vl_dense"));

/// The extra state of a real checkpoint but for its serialization id.
TEST(ExtraState, HoldsWhatARealOneHolds) {
  const std::filesystem::path folder =
      std::filesystem::path(BV_FIXTURES) / "golden/torch_dist/qwen3/iter_0000000";
  const std::string text = slurp(folder / ".metadata");
  const Metadata real = read_metadata(as_span(text), "m").value();
  const Slice& slice = real.objects.at("decoder.final_layernorm._extra_state/shard_0_1");
  const std::string wanted = slurp(folder / slice.file).substr(slice.offset, slice.length);
  const std::string found = empty_extra_state();
  const auto a = pickle::open_torch_file(as_span(wanted), "a").value();
  const auto b = pickle::open_torch_file(as_span(found), "b").value();
  for (const pickle::Record& record : a.archive.records()) {
    if (record.name == ".data/serialization_id" || record.name == "data.pkl") {
      continue;  // the first is random; the second is held by what it says, below
    }
    const pickle::Record* const has = b.archive.find(record.name);
    ASSERT_NE(has, nullptr) << record.name;
    EXPECT_EQ(has->size, record.size) << record.name;
    EXPECT_EQ(has->crc, record.crc) << record.name;
  }
  for (const pickle::TorchFile* file : {&a, &b}) {
    const auto items = file->pickle.items(file->pickle.root());
    ASSERT_EQ(items.size(), 1U);
    EXPECT_EQ(pickle::tensor_of(*file, items[0]).value().dtype, DType::U8);
    EXPECT_EQ(pickle::tensor_of(*file, items[0]).value().shape, (Shape{0}));
  }
}

TEST(CommonFile, SaysWhatAConversionSays) {
  const std::string text = common_file();
  const auto file = pickle::open_torch_file(as_span(text), "common.pt").value();
  EXPECT_EQ(file.archive.folder(), "common");
  const pickle::Pickle& read = file.pickle;
  EXPECT_EQ(read.real(*read.get(read.root(), "checkpoint_version")), 3.0);
  EXPECT_EQ(read.number(*read.get(read.root(), "iteration")), 0);
  const pickle::Id content = *read.get(read.root(), "content_metadata");
  EXPECT_EQ(read.number(*read.get(content, "singleton_local_shards")), 0);
  EXPECT_EQ(read.number(*read.get(content, "chained_optim_avoid_prefix")), 1);
}

}  // namespace
}  // namespace bv::torch_dist

#include "core/checkpoint/source_tensor.hpp"

#include <gtest/gtest.h>

#include <cstring>

#include "tests/core/checkpoint/memory_store.hpp"

namespace bv::checkpoint {
namespace {

/// Elements 0, 1, 2, ... of a tensor [4, 6], whole and in chunks cut in both dimensions.
class Stores : public ::testing::Test {
 protected:
  Stores() {
    std::vector<std::uint16_t> values(24);
    for (std::size_t i = 0; i < values.size(); ++i) {
      values[i] = static_cast<std::uint16_t>(i);
    }
    const auto bytes = std::as_bytes(std::span(values));
    whole.add(spec, {{{0, 0}, {4, 6}}}, bytes);
    apart.add(spec, {{{0, 0}, {4, 2}}, {{0, 2}, {1, 4}}, {{1, 2}, {3, 4}}}, bytes);
  }
  static SourceTensor tensor(const MemoryStore& store) { return {&store, store.find("x")}; }

  const TensorSpec spec{"x", DType::BF16, {4, 6}};
  MemoryStore whole;
  MemoryStore apart;
};

TEST_F(Stores, EveryRangeOfBytesIsTheSameInChunks) {
  TensorBytes one(tensor(whole));
  TensorBytes other(tensor(apart));
  ASSERT_EQ(one.size().value, 48);
  ASSERT_EQ(other.size().value, 48);
  for (std::int64_t begin = 0; begin <= 48; ++begin) {
    for (std::int64_t end = begin; end <= 48; ++end) {
      const auto wanted = one.read(ByteOffset(begin), ByteOffset(end));
      const auto found = other.read(ByteOffset(begin), ByteOffset(end));
      ASSERT_TRUE(std::equal(wanted.begin(), wanted.end(), found.begin(), found.end()))
          << begin << " " << end;
    }
  }
}

TEST_F(Stores, ATensorOfOneChunkIsNotCopied) {
  TensorBytes bytes(tensor(whole));
  const auto chunks = whole.chunks(*whole.find("x"));
  EXPECT_EQ(bytes.read(ByteOffset(4), ByteOffset(12)).data(), chunks[0].bytes.data() + 4);
}

/// The transpose, with a cast: boxes that read every chunk, and zeros where nothing is read.
TEST_F(Stores, ARecipeMakesTheSameElementsFromChunks) {
  const auto made = [&](const MemoryStore& store) {
    layout::Box turned{0, 0, 0, {{6, 1, 4}, {4, 6, 1}}};
    layout::Box zeros{-1, 0, 24, {{4, 0, 1}}};
    const std::vector<SourceTensor> sources = {tensor(store)};
    move::TensorMaker maker(over_chunks({DType::F32, 28, {turned, zeros}, {}, 0}, sources));
    std::vector<float> out(28, -1);
    EXPECT_TRUE(
        maker.make({}, ElementOffset(28), reinterpret_cast<std::byte*>(out.data())).has_value());
    return out;
  };
  EXPECT_EQ(made(whole), made(apart));
  EXPECT_EQ(made(apart)[27], 0);
}

TEST_F(Stores, AGapOfTheBoxesStaysAnError) {
  const std::vector<SourceTensor> sources = {tensor(apart)};
  move::TensorMaker maker(
      over_chunks({DType::BF16, 24, {{0, 0, 0, {{12, 1, 1}}}}, {}, 0}, sources));
  std::vector<std::byte> out(48);
  const auto status = maker.make({}, ElementOffset(24), out.data());
  ASSERT_FALSE(status.has_value());
  EXPECT_EQ(status.error().code, Code::Gap);
}

}  // namespace
}  // namespace bv::checkpoint

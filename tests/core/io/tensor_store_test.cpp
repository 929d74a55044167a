#include "core/io/tensor_store.hpp"

#include <gtest/gtest.h>

#include <limits>
#include <random>

namespace bv::io {
namespace {

const TensorSpec kTensor{"x", DType::BF16, {4, 6}};

std::string fault(const std::vector<ChunkPlace>& places, const TensorSpec& tensor = kTensor) {
  const auto checked = check_chunk_places(tensor, places, "f");
  if (checked) {
    return "";
  }
  EXPECT_EQ(checked.error().code, Code::ChunksInvalid);
  return checked.error().message;
}

TEST(Chunks, TilesOfAnyFormAreTaken) {
  EXPECT_EQ(fault({{{0, 0}, {4, 6}}}), "");
  EXPECT_EQ(fault({{{0, 3}, {4, 3}}, {{0, 0}, {4, 3}}}), "");
  EXPECT_EQ(fault({{{0, 0}, {1, 6}}, {{1, 0}, {3, 2}}, {{1, 2}, {2, 4}}, {{3, 2}, {1, 4}}}), "");
  // a pinwheel: no line cuts it in two
  EXPECT_EQ(fault({{{0, 0}, {1, 4}},
                   {{0, 4}, {3, 2}},
                   {{3, 2}, {1, 4}},
                   {{1, 0}, {3, 2}},
                   {{1, 2}, {2, 2}}}),
            "");
  EXPECT_EQ(fault({{{}, {}}}, {"s", DType::F32, {}}), "");
  EXPECT_EQ(fault({{{0, 0}, {0, 6}}}, {"e", DType::F32, {0, 6}}), "");
}

TEST(Chunks, AnOverlapIsRefusedWithBothPlaces) {
  const std::vector<ChunkPlace> places = {{{0, 0}, {2, 6}}, {{1, 0}, {2, 6}}};
  const auto checked = check_chunk_places(kTensor, places, "f");
  ASSERT_FALSE(checked.has_value());
  EXPECT_EQ(checked.error().code, Code::ChunksInvalid);
  EXPECT_EQ(checked.error().message, "\"x\": two chunks overlap");
  EXPECT_EQ(checked.error().found, "[2, 6] at [0, 0] and [2, 6] at [1, 0]");
}

TEST(Chunks, AnOverlapThatMakesUpForAGapIsRefused) {
  EXPECT_EQ(fault({{{0, 0}, {2, 6}}, {{0, 0}, {2, 6}}}), "\"x\": two chunks overlap");
}

TEST(Chunks, AGapIsRefused) {
  EXPECT_EQ(fault({{{0, 0}, {4, 5}}}), "\"x\": the chunks leave a gap");
  EXPECT_EQ(fault({}), "\"x\": the tensor has no chunk");
}

TEST(Chunks, APlaceOutsideIsRefused) {
  const std::int64_t most = std::numeric_limits<std::int64_t>::max();
  EXPECT_EQ(fault({{{0, 0}, {5, 6}}}), "\"x\": a chunk reaches out of the tensor");
  EXPECT_EQ(fault({{{-1, 0}, {5, 6}}}), "\"x\": a chunk reaches out of the tensor");
  EXPECT_EQ(fault({{{1, 0}, {most, 6}}}), "\"x\": a chunk reaches out of the tensor");
  EXPECT_EQ(fault({{{0}, {4}}}), "\"x\": a chunk has another number of dimensions than the tensor");
}

TEST(Chunks, BytesThatAreNotThoseOfTheExtentAreRefused) {
  const std::vector<std::byte> bytes(48);
  const auto check = [&](std::size_t size) {
    const std::vector<Chunk> chunks = {{{0, 0}, {4, 6}, std::span(bytes).first(size)}};
    return check_chunks(kTensor, chunks, "f");
  };
  EXPECT_TRUE(check(48).has_value());
  ASSERT_FALSE(check(46).has_value());
  EXPECT_EQ(check(46).error().message, "\"x\": a chunk has another size than its extent says");
}

/// A random tiling is taken; with any one of its places moved, dropped or doubled it is not.
TEST(Chunks, EveryPlantedFaultOfARandomTilingIsFound) {
  std::mt19937_64 random(7);
  const auto upto = [&](std::size_t most) { return random() % (most + 1); };
  for (int round = 0; round < 300; ++round) {
    std::vector<ChunkPlace> places = {{{0, 0, 0}, {8, 6, 10}}};
    for (int cuts = 0; cuts < 12; ++cuts) {
      ChunkPlace& one = places[upto(places.size() - 1)];
      const std::size_t dim = upto(2);
      if (one.extent[dim] < 2) {
        continue;
      }
      ChunkPlace other = one;
      const auto low =
          static_cast<std::int64_t>(1 + upto(static_cast<std::size_t>(one.extent[dim]) - 2));
      one.extent[dim] = low;
      other.origin[dim] += low;
      other.extent[dim] -= low;
      places.push_back(other);
    }
    const TensorSpec tensor{"x", DType::F32, {8, 6, 10}};
    ASSERT_EQ(fault(places, tensor), "");
    const std::size_t victim = upto(places.size() - 1);
    auto dropped = places;
    dropped.erase(dropped.begin() + static_cast<std::ptrdiff_t>(victim));
    ASSERT_NE(fault(dropped, tensor), "");
    auto doubled = places;
    doubled.push_back(places[victim]);
    ASSERT_EQ(fault(doubled, tensor), "\"x\": two chunks overlap");
    auto moved = places;
    moved[victim].origin[0] += moved[victim].origin[0] > 0 ? -1 : 1;
    ASSERT_NE(fault(moved, tensor), "");
  }
}

/// A checkpoint of a large model has tens of thousands of chunks a tensor.
TEST(Chunks, AGridOfManyChunksIsCheckedByItsSorting) {
  std::vector<ChunkPlace> places;
  for (std::int64_t layer = 0; layer < 100; ++layer) {
    for (std::int64_t expert = 0; expert < 512; ++expert) {
      places.push_back({{layer, expert, 0}, {1, 1, 4}});
      places.push_back({{layer, expert, 4}, {1, 1, 4}});
    }
  }
  const TensorSpec tensor{"x", DType::BF16, {100, 512, 8}};
  EXPECT_EQ(fault(places, tensor), "");
  places.back().origin[1] = 3;
  EXPECT_EQ(fault(places, tensor), "\"x\": two chunks overlap");
}

}  // namespace
}  // namespace bv::io

// The executor of a device, on the host: the bytes are those of the processor, for random pieces,
// types, windows and sizes of memory.

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "core/cuda/staged_executor.hpp"
#include "tests/core/cuda/host_device.hpp"
#include "tests/core/cuda/random_case.hpp"

namespace bv::cuda {
namespace {

using testing::Case;
using ::testing::ElementsAre;
using ::testing::HasSubstr;
using testing::HostDevice;
using testing::made_by;
using testing::random_bytes;
using testing::random_case;

TEST(StagedExecutor, GivesTheBytesOfTheProcessorForRandomPieces) {
  std::mt19937_64 random(17);
  auto device = std::make_unique<HostDevice>();
  const HostDevice& host = *device;
  StagedExecutor executor(std::move(device));
  for (int round = 0; round < 600; ++round) {
    const Case one = random_case(random);
    std::int64_t begin = 0;
    std::int64_t end = one.recipe.elements;
    if (round % 2 == 1) {
      begin = static_cast<std::int64_t>(random() % static_cast<std::uint64_t>(end));
      end =
          begin + 1 + static_cast<std::int64_t>(random() % static_cast<std::uint64_t>(end - begin));
    }
    EXPECT_EQ(made_by(&executor, one, begin, end), made_by(nullptr, one, begin, end)) << round;
  }
  for (const std::size_t unit : {1U, 2U, 4U, 8U, 16U}) {
    EXPECT_GT(host.widths[unit], 0) << "no access of " << unit << " bytes was tried";
  }
}

TEST(StagedExecutor, TakesSixteenBytesAtATimeWhereBothEndsAllowIt) {
  auto device = std::make_unique<HostDevice>();
  const HostDevice& host = *device;
  StagedExecutor executor(std::move(device));
  std::mt19937_64 random(1);
  Case one;
  one.bytes.push_back(random_bytes(2 * 64 * 8, random));
  one.recipe.dtype = DType::BF16;
  one.recipe.elements = 32 * 8;
  one.recipe.sources = {{one.bytes[0].data(), DType::BF16}};
  one.recipe.boxes = {{0, 32, 0, {{8, 64, 32}, {32, 1, 1}}}};  // half of each of 8 rows
  EXPECT_EQ(made_by(&executor, one, 0, 32 * 8), made_by(nullptr, one, 0, 32 * 8));
  EXPECT_EQ(host.widths[16], 32);
  EXPECT_EQ(host.launches, 1);
}

TEST(StagedExecutor, TurnsTransposesInTiles) {
  std::mt19937_64 random(11);
  constexpr std::array kTypes = {DType::U8, DType::BF16, DType::F32, DType::F64};
  std::int64_t tiled = 0;
  for (int round = 0; round < 120; ++round) {
    auto device = std::make_unique<HostDevice>();
    const HostDevice& host = *device;
    StagedExecutor executor(std::move(device), std::size_t{1} << 20);
    const DType from = kTypes[random() % 4];
    const bool computes = round % 3 == 0 && from != DType::U8;
    const auto outer = static_cast<std::int64_t>(1 + random() % 3);
    const auto rows = static_cast<std::int64_t>(1 + random() % 150);
    const auto columns = static_cast<std::int64_t>(1 + random() % 150);
    Case one;
    one.recipe.dtype = computes ? DType::BF16 : from;
    one.recipe.add = computes && round % 2 == 0 ? -1.0 : 0.0;
    one.recipe.elements = outer * rows * columns;
    one.bytes.push_back(
        random_bytes(static_cast<std::size_t>(one.recipe.elements * bytes(from)), random));
    one.recipe.sources = {{one.bytes[0].data(), from}};
    one.recipe.boxes = {
        {0,
         0,
         0,
         {{outer, rows * columns, rows * columns}, {columns, 1, rows}, {rows, columns, 1}}}};
    EXPECT_EQ(made_by(&executor, one, 0, one.recipe.elements),
              made_by(nullptr, one, 0, one.recipe.elements))
        << round << " " << outer << " " << rows << " x " << columns;
    const bool large = rows >= 16 && columns >= 16;
    const std::int64_t side = bytes(from) <= 2 ? 64 : 32;  // what is computed is BF16
    const std::int64_t wanted =
        large ? outer * ((rows + side - 1) / side) * ((columns + side - 1) / side) : 0;
    EXPECT_EQ(host.tiles, wanted) << rows << " x " << columns;
    tiled += host.tiles;
  }
  EXPECT_GT(tiled, 100);
}

TEST(StagedExecutor, KeepsWhatNoPieceWrites) {
  StagedExecutor executor(std::make_unique<HostDevice>());
  const std::vector<std::byte> source(4, std::byte{1});
  move::Recipe recipe{DType::U8,       8, {{0, 0, 2, {{4, 1, 1}}}}, {{source.data(), DType::U8}}, 0,
                      move::Gaps::Keep};
  move::TensorMaker maker(recipe, &executor);
  std::vector<std::byte> out(8, std::byte{9});
  ASSERT_TRUE(maker.make(ElementOffset(0), ElementOffset(8), out.data()));
  EXPECT_EQ(out[1], std::byte{9});
  EXPECT_EQ(out[2], std::byte{1});
  EXPECT_EQ(out[6], std::byte{9});
}

TEST(StagedExecutor, TakesSmallerChunksWhenTheDeviceHasLittleMemoryAndSaysSo) {
  std::mt19937_64 random(5);
  Case one;
  one.bytes.push_back(random_bytes(std::size_t{10} << 20, random));
  one.recipe.dtype = DType::F32;
  one.recipe.elements = std::int64_t{10} << 18;
  one.recipe.sources = {{one.bytes[0].data(), DType::F32}};
  const std::int64_t rows = std::int64_t{10} << 8;
  one.recipe.boxes = {{0, 0, 0, {{rows, 1024, 512}, {512, 1, 1}}},
                      {0, 512, rows * 512, {{rows, 1024, 512}, {512, 1, 1}}}};
  StagedExecutor executor(std::make_unique<HostDevice>(std::size_t{3} << 20),
                          std::size_t{64} << 20);
  EXPECT_EQ(made_by(&executor, one, 0, one.recipe.elements),
            made_by(nullptr, one, 0, one.recipe.elements));
  EXPECT_THAT(executor.notes(), ElementsAre(HasSubstr("the GPU has little memory left")));
}

TEST(StagedExecutor, LeavesRowsThatAreSpreadOverTooMuchToTheProcessorAndSaysSo) {
  std::mt19937_64 random(6);
  Case one;
  one.bytes.push_back(random_bytes(std::size_t{4} << 20, random));
  one.recipe.dtype = DType::F32;
  one.recipe.elements = std::int64_t{1} << 20;
  one.recipe.sources = {{one.bytes[0].data(), DType::F32}};
  one.recipe.boxes = {{0, 0, 0, {{1024, 1, 1024}, {1024, 1024, 1}}}};  // a transpose
  StagedExecutor executor(std::make_unique<HostDevice>(), std::size_t{1} << 20);
  EXPECT_EQ(made_by(&executor, one, 0, one.recipe.elements),
            made_by(nullptr, one, 0, one.recipe.elements));
  EXPECT_THAT(executor.notes(), ElementsAre(HasSubstr("the processor moved those")));
}

TEST(StagedExecutor, GivesBackTheErrorOfADeviceWithoutMemory) {
  StagedExecutor executor(std::make_unique<HostDevice>(1000));
  const std::vector<std::byte> source(4);
  const layout::Box box{0, 0, 0, {{4, 1, 1}}};
  const layout::BoxPiece piece = layout::whole(box);
  const move::SourceBytes from{source.data(), DType::U8};
  std::vector<std::byte> out(4);
  const move::MoveTask task{{&piece, 1}, {&from, 1}, out.data(), 0, 4, DType::U8, 0};
  const auto done = executor.run({&task, 1});
  ASSERT_FALSE(done);
  EXPECT_EQ(done.error().code, Code::OutOfMemory);
}

}  // namespace
}  // namespace bv::cuda

// Merges of the executor of a device, on the host: the bytes are those of the processor, however
// rows and columns are cut, and what does not fit is seen.

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <bit>
#include <limits>

#include "core/cuda/staged_executor.hpp"
#include "tests/core/cuda/host_device.hpp"
#include "tests/core/cuda/random_merge.hpp"

namespace bv::cuda {
namespace {

using ::testing::ElementsAre;
using testing::expect_merge_of_the_processor;
using ::testing::HasSubstr;
using testing::HostDevice;
using testing::Merge;
using testing::merge_of;
using testing::merged_by;
using testing::random_merge;

TEST(StagedMerge, GivesTheBytesOfTheProcessorForRandomProducts) {
  std::mt19937_64 random(51);
  StagedExecutor executor(std::make_unique<HostDevice>(), std::size_t{1} << 20);
  for (int round = 0; round < 60; ++round) {
    expect_merge_of_the_processor(executor, random_merge(random), std::to_string(round));
  }
}

/// Lanes of a few KiB: parts of rows, and of columns.
TEST(StagedMerge, CutsRowsAndColumnsWhereALaneIsSmall) {
  std::mt19937_64 random(52);
  for (const std::size_t lane : {4U << 10U, 8U << 10U, 20U << 10U}) {
    StagedExecutor executor(std::make_unique<HostDevice>(), lane);
    for (const DType dtype : {DType::BF16, DType::F32}) {
      Merge one = merge_of(70, 200, 9, DType::BF16, dtype, random);
      expect_merge_of_the_processor(executor, one, std::to_string(lane));
      one.in_place = true;
      expect_merge_of_the_processor(executor, one, "in place");
    }
    expect_merge_of_the_processor(executor, merge_of(3, 90, 60, DType::F32, DType::F32, random),
                                  "a long sum");
  }
}

TEST(StagedMerge, TakesSmallerPartsWhenTheDeviceHasLittleMemoryAndSaysSo) {
  std::mt19937_64 random(53);
  StagedExecutor executor(std::make_unique<HostDevice>(std::size_t{3} << 20),
                          std::size_t{64} << 20);
  Merge one = merge_of(1500, 2000, 3, DType::F32, DType::F32, random);
  one.in_place = true;
  expect_merge_of_the_processor(executor, one, "large");
  EXPECT_THAT(executor.notes(), ElementsAre(HasSubstr("the GPU has little memory left")));
}

TEST(StagedMerge, GivesBackTheErrorOfADeviceWithoutMemory) {
  std::mt19937_64 random(54);
  StagedExecutor none(std::make_unique<HostDevice>(1000));
  const Merge one = merge_of(2, 2, 2, DType::F32, DType::F32, random);
  const auto done = merged_by(&none, one);
  ASSERT_FALSE(done);
  EXPECT_EQ(done.error().code, Code::OutOfMemory);
  StagedExecutor small(std::make_unique<HostDevice>(), 1024);
  const auto large = merged_by(&small, merge_of(1, 1, 1000, DType::F32, DType::F32, random));
  ASSERT_FALSE(large);
  EXPECT_EQ(large.error().code, Code::OutOfMemory);
  EXPECT_THAT(large.error().message, HasSubstr("rank 1000"));
}

/// One element alone, at the first, the last and a middle place of each part.
TEST(StagedMerge, SeesTheOneElementThatDoesNotFit) {
  constexpr std::int64_t kRows = 200;
  constexpr std::int64_t kColumns = 90;
  for (const DType dtype : {DType::BF16, DType::F16, DType::F32}) {
    const auto size = bytes(dtype);
    const double large = dtype == DType::F16 ? 60000 : 3e38;
    for (const double bad : {large, -large, std::numeric_limits<double>::quiet_NaN()}) {
      for (const auto& [row, column] : {std::pair(0, 0), {199, 89}, {63, 64}, {64, 63}, {100, 7}}) {
        std::mt19937_64 random(55);
        Merge one = merge_of(kRows, kColumns, 1, DType::F32, dtype, random);
        one.scale = 1;
        for (std::int64_t i = 0; i < kRows; ++i) {  // the same large product for each element
          kinds::store(1, one.left.data() + i * 4, DType::F32);
        }
        for (std::int64_t j = 0; j < kColumns; ++j) {
          kinds::store(bad < 0 ? -large : large, one.right.data() + j * 4, DType::F32);
        }
        std::fill(one.base.begin(), one.base.end(), std::byte{0});
        StagedExecutor executor(std::make_unique<HostDevice>(), std::size_t{12} << 10);
        expect_merge_of_the_processor(executor, one, "all fit");
        EXPECT_EQ(merged_by(&executor, one)->back(), std::byte{0});
        kinds::store(bad, one.base.data() + (row * kColumns + column) * size, dtype);
        expect_merge_of_the_processor(executor, one, "one does not");
        EXPECT_EQ(merged_by(&executor, one)->back(), std::byte{1}) << row << " " << column;
      }
    }
  }
}

/// A product that changes nothing leaves what is no number as it is.
TEST(StagedMerge, LeavesTheBitsOfABaseThatNothingIsAddedTo) {
  std::mt19937_64 random(56);
  StagedExecutor executor(std::make_unique<HostDevice>(), std::size_t{1} << 20);
  for (const DType dtype : {DType::BF16, DType::F16, DType::F32}) {
    Merge one = merge_of(5, 70, 4, DType::F32, dtype, random);
    one.scale = 0;
    for (std::byte& each : one.base) {
      each = static_cast<std::byte>(random());
    }
    std::fill_n(one.base.begin(), 8, std::byte{0xff});  // NaN in each type
    expect_merge_of_the_processor(executor, one, std::string(name(dtype)));
    EXPECT_EQ(merged_by(&executor, one)->back(), std::byte{0});
  }
}

}  // namespace
}  // namespace bv::cuda

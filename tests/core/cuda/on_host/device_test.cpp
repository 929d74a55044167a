// The device of core/cuda with its own kernels, over the stand-in for the CUDA runtime: the bytes
// are those of the processor, whenever the work of a stream is done and in whatever order threads
// run; and every call may fail.

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "core/cuda/cuda.hpp"
#include "core/cuda/staged_executor.hpp"
#include "tests/core/cuda/random_case.hpp"
#include "tests/support/cuda/fake_cuda.hpp"

namespace bv::cuda {
namespace {

using fake_cuda::Choice;
using fake_cuda::When;
using ::testing::AnyOf;
using testing::Case;
using ::testing::ElementsAre;
using ::testing::HasSubstr;
using testing::made_by;
using testing::random_bytes;
using testing::random_case;

std::unique_ptr<StagedExecutor> executor_of(std::size_t lane_bytes, int number = 0) {
  auto device = open_device(number);
  EXPECT_TRUE(device) << (device ? "" : device.error().message);
  return std::make_unique<StagedExecutor>(std::move(*device), lane_bytes);
}

/// Rows of two halves; large enough for several chunks.
Case rows_case(std::int64_t kib, std::mt19937_64& random) {
  Case one;
  one.bytes.push_back(random_bytes(static_cast<std::size_t>(kib) << 10U, random));
  one.recipe.dtype = DType::F32;
  one.recipe.elements = kib << 8U;
  one.recipe.sources = {{one.bytes[0].data(), DType::F32}};
  const std::int64_t rows = kib >> 2U;
  one.recipe.boxes = {{0, 0, 0, {{rows, 1024, 512}, {512, 1, 1}}},
                      {0, 512, rows * 512, {{rows, 1024, 512}, {512, 1, 1}}}};
  return one;
}

/// Several outer matrices, turned, with a sum in another type.
Case transposed_case(std::int64_t rows, std::int64_t columns, std::mt19937_64& random) {
  Case one;
  one.recipe.dtype = DType::F32;
  one.recipe.add = -1.0;
  one.recipe.elements = 2 * rows * columns;
  one.bytes.push_back(random_bytes(static_cast<std::size_t>(one.recipe.elements) * 2, random));
  one.recipe.sources = {{one.bytes[0].data(), DType::BF16}};
  one.recipe.boxes = {
      {0, 0, 0, {{2, rows * columns, rows * columns}, {columns, 1, rows}, {rows, columns, 1}}}};
  return one;
}

TEST(DeviceOnHost, GivesTheBytesOfTheProcessorWheneverStreamsDoTheirWork) {
  std::mt19937_64 random(41);
  for (const When when : {When::Early, When::Late, When::Random}) {
    fake_cuda::choose({.when = when, .seed = static_cast<unsigned>(random())});
    {
      const auto executor = executor_of(std::size_t{1} << 20);
      for (int round = 0; round < 150; ++round) {
        const Case one = random_case(random);
        EXPECT_EQ(made_by(executor.get(), one, 0, one.recipe.elements),
                  made_by(nullptr, one, 0, one.recipe.elements))
            << round;
      }
      for (const auto& [rows, columns] : {std::pair(32, 32), {33, 70}, {129, 40}}) {
        const Case one = transposed_case(rows, columns, random);
        EXPECT_EQ(made_by(executor.get(), one, 0, one.recipe.elements),
                  made_by(nullptr, one, 0, one.recipe.elements))
            << rows << " x " << columns;
      }
    }
    EXPECT_GT(fake_cuda::seen().kernels, 150);
    EXPECT_EQ(fake_cuda::seen().pageable_copies, 0);
    EXPECT_EQ(fake_cuda::leaks(), "");
  }
}

/// Rows that nobody can move but byte by byte: so many units that a thread has several of them, and
/// a block a piece and a part of the next.
TEST(DeviceOnHost, MovesSpansOfManyUnits) {
  std::mt19937_64 random(43);
  Case one;
  one.recipe.dtype = DType::BF16;
  const std::int64_t rows = 401;
  const std::int64_t columns = 2 * 1501;
  one.recipe.elements = rows * columns;
  one.bytes.push_back(random_bytes(static_cast<std::size_t>(one.recipe.elements) * 2, random));
  one.recipe.sources = {{one.bytes[0].data(), DType::BF16}};
  const std::int64_t half = columns / 2;
  one.recipe.boxes = {{0, half, 0, {{rows, columns, columns}, {half, 1, 1}}},
                      {0, 0, half, {{rows, columns, columns}, {half, 1, 1}}}};
  const auto executor = executor_of(std::size_t{1} << 24U);
  EXPECT_EQ(made_by(executor.get(), one, 0, one.recipe.elements),
            made_by(nullptr, one, 0, one.recipe.elements));
}

TEST(DeviceOnHost, FillsOneLaneWhileTheOtherHasWork) {
  std::mt19937_64 random(42);
  for (const When when : {When::Late, When::Random}) {
    fake_cuda::choose({.when = when});
    const auto executor = executor_of(std::size_t{1} << 20);
    const Case one = rows_case(8 << 10, random);
    EXPECT_EQ(made_by(executor.get(), one, 0, one.recipe.elements),
              made_by(nullptr, one, 0, one.recipe.elements));
    EXPECT_GT(fake_cuda::seen().overlapped, 3);
    EXPECT_EQ(fake_cuda::seen().pageable_copies, 0);
  }
  EXPECT_EQ(fake_cuda::leaks(), "");
}

TEST(DeviceOnHost, TakesSmallerChunksWhereTheDeviceHasLittleMemoryAndSaysSo) {
  std::mt19937_64 random(43);
  fake_cuda::choose({.memory_bytes = std::size_t{5} << 20});
  {
    const auto executor = executor_of(std::size_t{64} << 20);
    const Case one = rows_case(12 << 10, random);
    EXPECT_EQ(made_by(executor.get(), one, 0, one.recipe.elements),
              made_by(nullptr, one, 0, one.recipe.elements));
    EXPECT_THAT(executor->notes(),
                ElementsAre(HasSubstr(
                    "the GPU has little memory left: chunks of 2.1 MB in place of 67.1 MB")));
  }
  EXPECT_EQ(fake_cuda::leaks(), "");
  fake_cuda::choose({.memory_bytes = 1000});
  const auto executor = executor_of(std::size_t{64} << 20);
  const Case one = rows_case(16, random);
  move::TensorMaker maker(one.recipe, executor.get());
  std::vector<std::byte> out(std::size_t{16} << 10U);
  const auto made = maker.make(ElementOffset(0), ElementOffset(one.recipe.elements), out.data());
  ASSERT_FALSE(made);
  EXPECT_EQ(made.error().code, Code::OutOfMemory);
}

TEST(DeviceOnHost, IsTheOneThatIsAskedFor) {
  std::mt19937_64 random(44);
  fake_cuda::choose({.devices = 3});
  EXPECT_EQ(look_around().devices.size(), 3U);
  EXPECT_THAT(look_around().devices[2], HasSubstr("GPU 2, compute 9.0, 4.2 GB"));
  const auto first = executor_of(std::size_t{1} << 20, 0);
  const auto last = executor_of(std::size_t{1} << 20, 2);  // in turns: each call chooses its device
  const Case one = rows_case(2 << 10, random);
  for (StagedExecutor* executor : {first.get(), last.get(), first.get()}) {
    EXPECT_EQ(made_by(executor, one, 0, one.recipe.elements),
              made_by(nullptr, one, 0, one.recipe.elements));
  }
  EXPECT_FALSE(open_device(3));
  fake_cuda::choose({.devices = 0});
  EXPECT_EQ(text_of(look_around()),
            "none here: no NVIDIA driver; this build could use one (CUDA 13.0)");
}

/// Each call of the runtime fails in turn, once or from then on. The device is made, works, and is
/// given back; afterwards a device that works gives the right bytes again.
void fail_at_every_call(int code, bool stays) {
  std::mt19937_64 random(45);
  const Case rows = rows_case(3 << 10, random);
  const Case turned = transposed_case(64, 40, random);
  const auto wanted_rows = made_by(nullptr, rows, 0, rows.recipe.elements);
  const auto wanted_turned = made_by(nullptr, turned, 0, turned.recipe.elements);
  long errors = 0;
  for (long call = 1;; ++call) {
    fake_cuda::choose({.failing_call = call, .failing_code = code, .stays = stays});
    {
      auto device = open_device(0);
      if (!device) {
        ++errors;
        EXPECT_EQ(device.error().code == Code::OutOfMemory || device.error().code == Code::NoGpu,
                  true);
      } else {
        StagedExecutor executor(std::move(*device), std::size_t{1} << 20);
        for (const auto& [one, wanted] :
             {std::pair(&rows, &wanted_rows), {&turned, &wanted_turned}}) {
          auto out = std::make_unique<std::vector<std::byte>>(wanted->size(), std::byte{0x5A});
          move::TensorMaker maker(one->recipe, &executor);
          const auto made =
              maker.make(ElementOffset(0), ElementOffset(one->recipe.elements), out->data());
          if (made) {
            EXPECT_EQ(*out == *wanted, true) << "call " << call;
            continue;
          }
          ++errors;
          EXPECT_THAT(made.error().message, AnyOf(HasSubstr("the GPU failed while "),
                                                  HasSubstr("the GPU has no memory left"),
                                                  HasSubstr("the host has no memory left")));
          EXPECT_FALSE(made.error().help.empty());
          EXPECT_EQ(made.error().found.empty(), made.error().code == Code::OutOfMemory);
        }
      }
    }
    const auto calls = static_cast<long>(fake_cuda::seen().calls.size());
    EXPECT_EQ(fake_cuda::leaks(), "") << "call " << call;
    if (call > calls) {
      EXPECT_GT(call, 30);
      break;
    }
  }
  EXPECT_GT(errors, 20);
}

TEST(DeviceOnHost, EveryCallThatFailsOnceIsAnErrorAndNothingIsLeft) {
  fail_at_every_call(719, false);
}
TEST(DeviceOnHost, EveryCallThatFailsForEverIsAnErrorAndNothingIsLeft) {
  fail_at_every_call(700, true);
}
TEST(DeviceOnHost, MemoryThatEndsAtAnyCallIsAnErrorOrTakesSmallerChunks) {
  fail_at_every_call(2, false);
}

/// The next task must not write where the one that failed wanted its bytes.
TEST(DeviceOnHost, ATaskThatFailedIsForgotten) {
  std::mt19937_64 random(46);
  const Case one = rows_case(1280, random);
  const auto wanted = made_by(nullptr, one, 0, one.recipe.elements);
  fake_cuda::choose({});
  {
    const auto executor = executor_of(std::size_t{1} << 20);
    EXPECT_TRUE(made_by(executor.get(), one, 0, one.recipe.elements) == wanted);
  }
  const auto calls = static_cast<long>(fake_cuda::seen().calls.size());
  long failed = 0;
  for (long call = 1; call <= calls; ++call) {
    fake_cuda::choose({.failing_call = call});
    auto device = open_device(0);
    if (!device) {
      continue;
    }
    StagedExecutor executor(std::move(*device), std::size_t{1} << 20);
    std::vector<std::byte> lost(wanted.size());
    move::TensorMaker maker(one.recipe, &executor);
    if (maker.make(ElementOffset(0), ElementOffset(one.recipe.elements), lost.data())) {
      continue;
    }
    ++failed;
    std::fill(lost.begin(), lost.end(), std::byte{0x33});
    EXPECT_TRUE(made_by(&executor, one, 0, one.recipe.elements) == wanted) << "call " << call;
    EXPECT_EQ(std::count(lost.begin(), lost.end(), std::byte{0x33}), std::ssize(lost))
        << "call " << call << " writes to memory that was given up";
  }
  EXPECT_GT(failed, 20);
}

}  // namespace
}  // namespace bv::cuda

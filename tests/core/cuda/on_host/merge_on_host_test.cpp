// Merges by the kernels of core/cuda over the stand-in for the CUDA runtime, and every call of it
// may fail.

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "core/cuda/cuda.hpp"
#include "core/cuda/staged_executor.hpp"
#include "tests/core/cuda/random_merge.hpp"
#include "tests/support/cuda/fake_cuda.hpp"

namespace bv::cuda {
namespace {

using fake_cuda::When;
using testing::expect_merge_of_the_processor;
using testing::Merge;
using testing::merge_of;
using testing::merged_by;
using testing::random_merge;

TEST(MergeOnHost, GivesTheBytesOfTheProcessorWheneverStreamsDoTheirWork) {
  std::mt19937_64 random(61);
  for (const When when : {When::Early, When::Late, When::Random}) {
    fake_cuda::choose({.when = when, .seed = static_cast<unsigned>(random())});
    {
      auto device = open_device(0);
      ASSERT_TRUE(device);
      StagedExecutor executor(std::move(*device), std::size_t{24} << 10);
      for (int round = 0; round < 12; ++round) {
        expect_merge_of_the_processor(executor, random_merge(random), std::to_string(round));
      }
      expect_merge_of_the_processor(
          executor, merge_of(300, 120, 5, DType::BF16, DType::BF16, random), "many parts");
    }
    EXPECT_GT(fake_cuda::seen().kernels, 12);
    EXPECT_EQ(fake_cuda::seen().overlapped > 1, when != When::Early);
    EXPECT_EQ(fake_cuda::seen().pageable_copies, 0);
    EXPECT_EQ(fake_cuda::leaks(), "");
  }
}

/// The flag comes back from a device whose memory the host cannot see.
TEST(MergeOnHost, SaysThatAnElementDoesNotFit) {
  std::mt19937_64 random(62);
  fake_cuda::choose({});
  auto device = open_device(0);
  ASSERT_TRUE(device);
  StagedExecutor executor(std::move(*device), std::size_t{1} << 20);
  Merge one = merge_of(70, 70, 2, DType::F32, DType::F16, random);
  one.scale = 1;
  kinds::store(60000, one.base.data(), DType::F16);
  for (int k = 0; k < 2; ++k) {
    kinds::store(200, one.left.data() + k * 4, DType::F32);
    kinds::store(200, one.right.data() + k * 70 * 4, DType::F32);
  }
  const auto found = merged_by(&executor, one);
  ASSERT_TRUE(found);
  EXPECT_EQ(found->back(), std::byte{1});
}

/// In place too: what is written is what was asked for, or an error.
TEST(MergeOnHost, EveryCallThatFailsIsAnErrorAndTheNextMergeIsRight) {
  std::mt19937_64 random(63);
  Merge one = merge_of(90, 40, 3, DType::BF16, DType::BF16, random);
  one.in_place = true;
  const auto wanted = merged_by(nullptr, one);
  ASSERT_TRUE(wanted);
  for (const auto& [code, stays] : {std::pair(719, false), {700, true}, {2, false}}) {
    long errors = 0;
    for (long call = 1;; ++call) {
      fake_cuda::choose({.failing_call = call, .failing_code = code, .stays = stays});
      if (auto device = open_device(0)) {
        StagedExecutor executor(std::move(*device), std::size_t{4} << 10);
        const auto first = merged_by(&executor, one);
        errors += first ? 0 : 1;
        EXPECT_TRUE(!first || *first == *wanted) << "call " << call;
        const auto second = merged_by(&executor, one);
        EXPECT_TRUE(stays || first || second) << "call " << call;
        EXPECT_TRUE(!second || *second == *wanted) << "call " << call;
      }
      EXPECT_EQ(fake_cuda::leaks(), "") << "call " << call;
      if (call > static_cast<long>(fake_cuda::seen().calls.size())) {
        EXPECT_GT(call, 40);
        break;
      }
    }
    EXPECT_GT(errors, 20) << code;
  }
}

}  // namespace
}  // namespace bv::cuda

// core/cuda as a machine without nvcc builds it: every function is there, and says what is not.

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "core/cuda/cuda.hpp"
#include "core/cuda/meter.hpp"
#include "core/cuda/staged_executor.hpp"
#include "tests/core/cuda/host_device.hpp"
#include "tests/core/cuda/random_merge.hpp"

namespace bv::cuda {
namespace {

using ::testing::HasSubstr;

TEST(CudaAbsent, SaysThatTheBuildHasNone) {
  const Found found = look_around();
  EXPECT_FALSE(found.compiled);
  EXPECT_TRUE(found.devices.empty());
  EXPECT_FALSE(found.problem.empty());
  EXPECT_EQ(text_of(found), "not used: this build has no CUDA (no nvcc)");
}

TEST(CudaAbsent, OpensNothingAndNamesDoctor) {
  const auto device = open_device(0);
  const auto meter = open_meter(0);
  ASSERT_FALSE(device);
  ASSERT_FALSE(meter);
  for (const Error& error : {device.error(), meter.error()}) {
    EXPECT_EQ(error.code, Code::NoGpu);
    EXPECT_EQ(error.message, "there is no GPU 0");
    EXPECT_THAT(error.found, HasSubstr("no nvcc"));
    EXPECT_THAT(error.help, HasSubstr("bridge-verify doctor"));
  }
}

/// The executor is that of every build.
TEST(CudaAbsent, RunsTheExecutorOverADeviceOfAnotherKind) {
  std::mt19937_64 random(71);
  StagedExecutor executor(std::make_unique<testing::HostDevice>(), std::size_t{16} << 10);
  for (int round = 0; round < 5; ++round) {
    testing::expect_merge_of_the_processor(executor, testing::random_merge(random), "");
  }
}

}  // namespace
}  // namespace bv::cuda

// What this machine has. Tests of a real device are in tests/properties/gpu_test.cpp.

#include <gtest/gtest.h>

#include "core/cuda/cuda.hpp"

namespace bv::cuda {
namespace {

TEST(Cuda, SaysWhatThereIs) {
  const Found found = look_around();
  EXPECT_EQ(found.devices.empty(), !found.problem.empty());
  EXPECT_FALSE(text_of(found).empty());
}

TEST(Cuda, ADeviceThatIsNotThereIsAnErrorThatSaysWhatIs) {
  const auto device = open_device(99);
  ASSERT_FALSE(device);
  EXPECT_EQ(device.error().code, Code::NoGpu);
  EXPECT_EQ(device.error().found, text_of(look_around()));
  EXPECT_FALSE(open_device(-1));
}

TEST(Cuda, TextNamesDriverAndDevices) {
  Found found{true, "13.0", "12.4", {"NVIDIA H200, compute 9.0, 143.2 GB"}, ""};
  EXPECT_EQ(text_of(found),
            "NVIDIA H200, compute 9.0, 143.2 GB, with --device cuda; this build is for CUDA 13.0, "
            "the driver for CUDA 12.4");
  EXPECT_EQ(text_of({true, "13.0", "", {}, "no NVIDIA driver"}),
            "none here: no NVIDIA driver; this build could use one (CUDA 13.0)");
  EXPECT_EQ(text_of({}), "not used: this build has no CUDA (no nvcc)");
}

}  // namespace
}  // namespace bv::cuda

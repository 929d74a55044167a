#include "golden_checkpoint.hpp"

#include <gtest/gtest.h>

#include <cstring>

#include "tagging.hpp"

namespace bv::oracle {
namespace {

std::vector<float> floats(const std::string& bytes) {
  std::vector<float> out(bytes.size() / 4);
  std::memcpy(out.data(), bytes.data(), bytes.size());
  return out;
}

TEST(GoldenCheckpoint, GathersByTagAndWidens) {
  const StoredTensor ones{"BF16", {2}, std::string("\x80\x3f\x00\x40", 4)};    // 1, 2
  const StoredTensor singles{"F32", {1}, std::string("\x00\x00\x40\x40", 4)};  // 3
  EXPECT_EQ(floats(gathered({1, 0, -1, kTensorStride}, {&ones, &singles}, "F32", false)),
            (std::vector<float>{2, 1, 0, 3}));
  EXPECT_EQ(floats(gathered({1, 0}, {&ones}, "F32", true)), (std::vector<float>{1, 0}));
}

TEST(GoldenCheckpoint, RoundsToTheNearestEvenBf16) {
  // 1 + 2^-8 lies halfway between two bf16 values and goes to the even one, 1; one bit more goes
  // up.
  StoredTensor single{"F32", {1}, std::string("\x00\x80\x80\x3f", 4)};
  EXPECT_EQ(gathered({0}, {&single}, "BF16", false), std::string("\x80\x3f", 2));
  single.bytes = std::string("\x01\x80\x80\x3f", 4);
  EXPECT_EQ(gathered({0}, {&single}, "BF16", false), std::string("\x81\x3f", 2));
}

}  // namespace
}  // namespace bv::oracle

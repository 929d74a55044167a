#include "core/cuda/copy_by_all.hpp"

#include <gtest/gtest.h>

#include <random>
#include <vector>

namespace bv::cuda {
namespace {

TEST(CopyByAll, CopiesEveryByteAndNoOther) {
  constexpr std::size_t kPart = std::size_t{8} << 20U;
  std::mt19937_64 random(7);
  for (const std::size_t size : {std::size_t{0}, std::size_t{1}, kPart - 1, kPart, kPart + 1,
                                 2 * kPart, 2 * kPart + 5, 5 * kPart - 3}) {
    std::vector<std::byte> from(size);
    for (std::size_t i = 0; i < size; i += 61) {
      from[i] = static_cast<std::byte>(random());
    }
    if (size > 0) {
      from.back() = std::byte{7};
    }
    std::vector<std::byte> to(size + 2, std::byte{9});
    copy_by_all(to.data() + 1, from);
    EXPECT_EQ(to.front(), std::byte{9}) << size;
    EXPECT_EQ(to.back(), std::byte{9}) << size;
    EXPECT_TRUE(std::equal(from.begin(), from.end(), to.begin() + 1)) << size;
  }
}

}  // namespace
}  // namespace bv::cuda

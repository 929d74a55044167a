#include "properties/claims/roundtrip.hpp"

#include <gtest/gtest.h>

#include <cstring>

namespace bv::claims {
namespace {

/// What two poisoned buffers of `count` elements say after `fill` wrote to each.
template <class Fill>
std::vector<bool> unwritten_after(std::size_t count, std::size_t size, const Fill& fill) {
  std::vector<std::byte> first(count * size, kPoison);
  std::vector<std::byte> second(count * size, kOtherPoison);
  fill(first.data());
  fill(second.data());
  return unwritten(first.data(), second.data(), count, size);
}

TEST(Roundtrip, FindsTheElementThatNobodyWrites) {
  for (const std::size_t size : {1U, 2U, 4U, 8U}) {
    const auto found = unwritten_after(4, size, [&](std::byte* window) {
      std::memset(window, 7, 2 * size);             // elements 0 and 1
      std::memset(window + 3 * size, 9, 1 * size);  // element 3
    });
    EXPECT_EQ(found, (std::vector<bool>{false, false, true, false})) << size;
  }
}

TEST(Roundtrip, DataThatLooksLikePoisonIsWritten) {
  for (const int value : {0xA5, 0x5A}) {
    EXPECT_EQ(unwritten_after(3, 2, [&](std::byte* window) { std::memset(window, value, 6); }),
              std::vector<bool>(3, false))
        << value;
  }
}

}  // namespace
}  // namespace bv::claims

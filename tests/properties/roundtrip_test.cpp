#include "properties/claims/roundtrip.hpp"

#include <gtest/gtest.h>

#include <cstring>

namespace bv::claims {
namespace {

TEST(Roundtrip, FindsTheFirstElementThatNobodyWrites) {
  for (const std::size_t size : {1U, 2U, 4U, 8U}) {
    const auto found = claims::first_unwritten(4, size, [&](std::byte* window) {
      std::memset(window, 7, 2 * size);             // elements 0 and 1
      std::memset(window + 3 * size, 9, 1 * size);  // element 3
    });
    EXPECT_EQ(found, std::optional<std::int64_t>(2)) << size;
  }
}

TEST(Roundtrip, DataThatLooksLikePoisonIsWritten) {
  for (const int value : {0xA5, 0x5A}) {
    EXPECT_EQ(
        claims::first_unwritten(3, 2, [&](std::byte* window) { std::memset(window, value, 6); }),
        std::nullopt)
        << value;
  }
}

}  // namespace
}  // namespace bv::claims

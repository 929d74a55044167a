// Every way of the sum is the definition's, bit by bit, whatever the length, the place in memory
// and the sum before.

#include "core/pickle/crc32.hpp"

#include <gtest/gtest.h>

#include <array>
#include <random>
#include <string_view>
#include <vector>

namespace bv::pickle {
namespace {

/// The definition, a byte at a time: the remainder of each of the 256 bytes by eight divisions.
std::uint32_t defined(std::span<const std::byte> bytes, std::uint32_t before) {
  static const std::array<std::uint32_t, 256> remainders = [] {
    std::array<std::uint32_t, 256> out{};
    for (std::uint32_t i = 0; i < 256; ++i) {
      out[i] = i;
      for (int bit = 0; bit < 8; ++bit) {
        out[i] = out[i] >> 1 ^ (out[i] % 2 == 1 ? 0xEDB88320U : 0);
      }
    }
    return out;
  }();
  std::uint32_t sum = ~before;
  for (const std::byte byte : bytes) {
    sum = sum >> 8 ^ remainders[(sum ^ std::to_integer<std::uint32_t>(byte)) & 0xFF];
  }
  return ~sum;
}

std::vector<std::byte> random_bytes(std::size_t count, std::mt19937& random) {
  std::vector<std::byte> out(count);
  for (std::byte& byte : out) {
    byte = static_cast<std::byte>(random());
  }
  return out;
}

void expect_defined(CrcWay way) {
  constexpr std::size_t kLongest = 4096;
  constexpr std::size_t kPlaces = 64;
  std::mt19937 random(20);
  const std::vector<std::byte> bytes = random_bytes(kLongest + kPlaces, random);
  for (std::size_t length = 0; length <= kLongest; ++length) {
    const auto part = std::span(bytes).subspan(random() % kPlaces, length);
    const auto before = static_cast<std::uint32_t>(length % 3 == 0 ? 0 : random());
    ASSERT_EQ(crc32_by(way, part, before), defined(part, before)) << length;
  }
  for (const std::byte fill : {std::byte{0}, std::byte{0xFF}}) {
    const std::vector<std::byte> same(std::size_t{1} << 20, fill);
    EXPECT_EQ(crc32_by(way, same), defined(same, 0));
  }
}

TEST(Crc32, OfTheCheckTextIsThatOfTheStandard) {
  constexpr std::string_view kText = "123456789";
  EXPECT_EQ(crc32(std::as_bytes(std::span(kText))), 0xCBF43926U);
  EXPECT_EQ(crc32({}), 0U);
}

TEST(Crc32, ByTablesIsThatOfTheDefinition) {
  ASSERT_TRUE(has_crc_way(CrcWay::Tables));
  expect_defined(CrcWay::Tables);
}

TEST(Crc32, By16BytesIsThatOfTheDefinition) {
  if (!has_crc_way(CrcWay::Multiply16)) {
    GTEST_SKIP() << "this processor does not multiply without carries";
  }
  expect_defined(CrcWay::Multiply16);
}

TEST(Crc32, By32BytesIsThatOfTheDefinition) {
  if (!has_crc_way(CrcWay::Multiply32)) {
    GTEST_SKIP() << "this processor does not multiply 32 bytes without carries";
  }
  expect_defined(CrcWay::Multiply32);
}

TEST(Crc32, OfPartsIsThatOfTheWhole) {
  std::mt19937 random(21);
  const std::vector<std::byte> bytes = random_bytes(100'000, random);
  for (int round = 0; round < 200; ++round) {
    std::uint32_t sum = 0;
    for (auto left = std::span<const std::byte>(bytes); !left.empty();) {
      const auto part = left.first(std::min<std::size_t>(left.size(), random() % 20'000));
      sum = crc32(part, sum);
      left = left.subspan(part.size());
    }
    ASSERT_EQ(sum, defined(bytes, 0)) << round;
  }
}

}  // namespace
}  // namespace bv::pickle

#include "core/base/arith.hpp"

#include <gtest/gtest.h>

#include <limits>
#include <vector>

namespace bv {
namespace {

constexpr std::int64_t kMax = std::numeric_limits<std::int64_t>::max();
constexpr std::int64_t kMin = std::numeric_limits<std::int64_t>::min();

TEST(Arith, ProductsAndSumsThatFit) {
  EXPECT_EQ(checked_mul(1 << 30, std::int64_t{1} << 32), std::int64_t{1} << 62);
  EXPECT_EQ(checked_mul(-3, 5), -15);
  EXPECT_EQ(checked_mul(kMax, 0), 0);
  EXPECT_EQ(checked_add(kMax - 1, 1), kMax);
}

TEST(Arith, OverflowIsSeen) {
  EXPECT_EQ(checked_mul(kMax, 2), std::nullopt);
  EXPECT_EQ(checked_mul(kMin, -1), std::nullopt);
  EXPECT_EQ(checked_add(kMax, 1), std::nullopt);
  EXPECT_EQ(checked_add(kMin, -1), std::nullopt);
}

TEST(Arith, CappedSumsStayAtTheTop) {
  EXPECT_EQ(capped_add(kMax - 1, 1), kMax);
  EXPECT_EQ(capped_add(kMax, kMax), kMax);
}

TEST(Arith, CountsElementsOfAShape) {
  const auto count = [](std::vector<std::int64_t> shape) { return element_count(shape); };
  EXPECT_EQ(count({}), 1);
  EXPECT_EQ(count({4, 1, 3}), 12);
  EXPECT_EQ(count({0, kMax, kMax}), 0);
  EXPECT_EQ(count({kMax, kMax, 0}), 0);
  EXPECT_EQ(count({kMax, 1, 2}), std::nullopt);
}

TEST(Arith, ExactDivisionHasNoRemainder) {
  EXPECT_EQ(div_exact(12, 4), 3);
  EXPECT_EQ(div_exact(0, 4), 0);
  EXPECT_EQ(div_exact(13, 4), std::nullopt);
  EXPECT_EQ(div_exact(13, 0), std::nullopt);
}

TEST(Arith, CeilingDivisionCoversTheRest) {
  EXPECT_EQ(div_ceil(12, 4), 3);
  EXPECT_EQ(div_ceil(13, 4), 4);
  EXPECT_EQ(div_ceil(0, 4), 0);
  EXPECT_EQ(div_ceil(kMax, kMax - 1), 2);
  EXPECT_EQ(div_ceil(kMax, 2), kMax / 2 + 1);
  EXPECT_EQ(div_ceil(-7, 4), -1);
}

TEST(Arith, IndexOfCountsRowsFirst) {
  EXPECT_EQ(index_of(0, std::vector<std::int64_t>{2, 3}), (std::vector<std::int64_t>{0, 0}));
  EXPECT_EQ(index_of(4, std::vector<std::int64_t>{2, 3}), (std::vector<std::int64_t>{1, 1}));
  EXPECT_EQ(index_of(7, std::vector<std::int64_t>{}), (std::vector<std::int64_t>{}));
  EXPECT_EQ(index_of(5, std::vector<std::int64_t>{0, 3}), (std::vector<std::int64_t>{0, 2}));
}

}  // namespace
}  // namespace bv

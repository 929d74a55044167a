#include "core/base/result.hpp"

#include <gtest/gtest.h>

#include <memory>

namespace bv {
namespace {

Result<int> half(int number) {
  if (number % 2 != 0) {
    return fail(Code::BadValue, std::to_string(number) + " is odd")
        .at("here")
        .fact("one fact")
        .pair("odd", "even")
        .advise("double it");
  }
  return number / 2;
}

Result<int> quarter(int number) {
  BV_TRY(once, half(number));
  BV_TRY(twice, half(once));
  return twice;
}

Status check_even(int number) {
  BV_CHECK(half(number));
  return Done{};
}

TEST(Result, HoldsAValue) {
  const Result<int> four = half(8);
  ASSERT_TRUE(four);
  EXPECT_TRUE(four.has_value());
  EXPECT_EQ(*four, 4);
  EXPECT_EQ(four.value(), 4);
}

TEST(Result, HoldsAnErrorWithAllItsParts) {
  const Result<int> none = half(3);
  ASSERT_FALSE(none);
  const Error& error = none.error();
  EXPECT_EQ(error.code, Code::BadValue);
  EXPECT_EQ(error.message, "3 is odd");
  EXPECT_EQ(error.where, "here");
  EXPECT_EQ(error.facts, std::vector<std::string>{"one fact"});
  EXPECT_EQ(error.found, "odd");
  EXPECT_EQ(error.wanted, "even");
  EXPECT_EQ(error.help, "double it");
}

TEST(Result, TryGivesTheValueOrLeavesWithTheFirstError) {
  EXPECT_EQ(*quarter(12), 3);
  EXPECT_EQ(quarter(11).error().message, "11 is odd");
  EXPECT_EQ(quarter(6).error().message, "3 is odd");
}

TEST(Result, CheckLeavesWithTheErrorOnly) {
  EXPECT_TRUE(check_even(2));
  EXPECT_EQ(check_even(5).error().message, "5 is odd");
}

TEST(Result, HoldsTypesThatOnlyMove) {
  Result<std::unique_ptr<int>> box = std::make_unique<int>(7);
  ASSERT_TRUE(box);
  const std::unique_ptr<int> taken = *std::move(box);
  EXPECT_EQ(*taken, 7);
}

TEST(ResultDeathTest, WrongBranchIsOurOwnFault) {
  ::testing::FLAGS_gtest_death_test_style = "threadsafe";
  EXPECT_EXIT(static_cast<void>(half(3).value()), ::testing::ExitedWithCode(4), "BV9001");
  EXPECT_EXIT(static_cast<void>(half(2).error()), ::testing::ExitedWithCode(4), "BV9001");
}

TEST(AssertDeathTest, HoldsInEveryBuildAndEndsWithExitFour) {
  ::testing::FLAGS_gtest_death_test_style = "threadsafe";
  BV_ASSERT(1 + 1 == 2);
  EXPECT_EXIT(BV_ASSERT(1 + 1 == 3), ::testing::ExitedWithCode(4),
              "BROKEN  assertion 1 \\+ 1 == 3");
}

}  // namespace
}  // namespace bv

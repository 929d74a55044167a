#include "core/kinds/value_rule.hpp"

#include <gtest/gtest.h>

#include <cstring>

#include "core/kinds/values.hpp"

namespace bv::kinds {
namespace {

TEST(ValueRule, WordsAddUp) {
  EXPECT_EQ(added_on_import(""), 0.0);
  EXPECT_EQ(added_on_import("minus_one"), -1.0);
  EXPECT_EQ(added_on_import("minus_one minus_one"), -2.0);
  EXPECT_EQ(added_on_import("minus_one plus_one"), 0.0);
}

TEST(ValueRule, OtherWordsAreNone) {
  for (const char* text : {"", "minus_one", "plus_one minus_one"}) {
    EXPECT_TRUE(is_value_rule(text)) << text;
  }
  for (const char* text : {"minus", "minus_one,plus_one", "minus_one  minus_one", " "}) {
    EXPECT_FALSE(is_value_rule(text)) << text;
  }
}

/// What was added on the way there is taken off on the way back.
TEST(ValueRule, EveryRuleComesBackWhereItIsExact) {
  const float value = 1.5F;
  std::byte bytes[sizeof value];
  std::memcpy(bytes, &value, sizeof value);
  for (const char* text : {"minus_one", "plus_one", "minus_one minus_one"}) {
    EXPECT_EQ(trace_values(bytes, DType::F32, DType::F32, text).inexact, 0) << text;
  }
}

}  // namespace
}  // namespace bv::kinds

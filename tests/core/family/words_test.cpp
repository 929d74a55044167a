#include "core/family/words.hpp"

#include <gtest/gtest.h>

namespace bv::family {
namespace {

TEST(ValueRule, StepsAddUp) {
  EXPECT_EQ(value_rule_from("")->added_on_import(), 0.0);
  EXPECT_EQ(value_rule_from("minus_one")->added_on_import(), -1.0);
  EXPECT_EQ(value_rule_from("minus_one minus_one")->added_on_import(), -2.0);
  EXPECT_EQ(value_rule_from("minus_one plus_one")->added_on_import(), 0.0);
}

TEST(ValueRule, ComesBackAsItsText) {
  for (const char* words : {"", "minus_one", "plus_one minus_one"}) {
    EXPECT_EQ(text(*value_rule_from(words)), words);
  }
}

TEST(ValueRule, OtherWordsAreNone) {
  for (const char* words :
       {"minus", "minus_one,plus_one", "minus_one  minus_one", " ", "minus_one "}) {
    EXPECT_EQ(value_rule_from(words), std::nullopt) << words;
  }
}

TEST(Divisor, IsAProductOfRankGroups) {
  EXPECT_EQ(divisor_from("tp"), Divisor{{RankGroup::Tp}});
  EXPECT_EQ(divisor_from("cp*tp"), (Divisor{{RankGroup::Cp, RankGroup::Tp}}));
  for (const char* product : {"tp", "etp", "ep", "cp", "cp*tp"}) {
    EXPECT_EQ(text(*divisor_from(product)), product);
  }
}

TEST(Divisor, OtherWordsAreNone) {
  for (const char* product : {"", "pp", "tp*", "tp*pp", "*tp", "tp cp", "TP"}) {
    EXPECT_EQ(divisor_from(product), std::nullopt) << product;
  }
}

TEST(Orientation, ComesBackAsItsText) {
  for (const Orientation one : {Orientation::ByShape, Orientation::OutIn, Orientation::InOut}) {
    EXPECT_EQ(orientation_from(text(one)), one);
  }
  EXPECT_EQ(orientation_from("sideways"), std::nullopt);
}

}  // namespace
}  // namespace bv::family

#include <gtest/gtest.h>

#include "core/family/expression.hpp"
#include "core/model/model.hpp"

namespace bv::family {
namespace {

const std::map<std::string, std::int64_t, std::less<>> kNumbers = {
    {"heads", 8}, {"groups", 4}, {"d", 16}, {"big", INT64_MAX}, {"zero", 0}};

TEST(Expression, FollowsThePrecedenceOfArithmetic) {
  EXPECT_EQ(*family::evaluate("2 + 3 * 4", kNumbers), 14);
  EXPECT_EQ(*family::evaluate("(2 + 3) * 4", kNumbers), 20);
  EXPECT_EQ(*family::evaluate("10 - 3 - 2", kNumbers), 5);
  EXPECT_EQ(*family::evaluate("24 / 4 / 2", kNumbers), 3);
}

TEST(Expression, ReadsSymbols) {
  EXPECT_EQ(*family::evaluate("heads / groups * d", kNumbers), 32);
  EXPECT_EQ(*family::evaluate("  (heads+2*groups)*d ", kNumbers), 256);
}

TEST(Expression, NamesBothOperandsOfAnInexactDivision) {
  const auto result = family::evaluate("(heads + 1) / groups", kNumbers);
  ASSERT_FALSE(result);
  EXPECT_EQ(result.error().code, Code::IndivisibleDim);
  EXPECT_EQ(result.error().message, "(heads + 1) = 9 is not divisible by groups = 4");
  EXPECT_EQ(result.error().found, "a remainder of 1");
}

TEST(Expression, TwoSlashesRoundDown) {
  EXPECT_EQ(*family::evaluate("(heads + 1) // groups", kNumbers), 2);
  EXPECT_EQ(*family::evaluate("(zero - 9) // groups", kNumbers), -3);
  EXPECT_EQ(*family::evaluate("heads//groups/2", kNumbers), 1);
  EXPECT_FALSE(family::evaluate("heads // zero", kNumbers));
  EXPECT_FALSE(family::evaluate("heads / / groups", kNumbers));
  EXPECT_FALSE(family::evaluate("heads // ", kNumbers));
}

TEST(Expression, RefusesADivisionByZero) {
  const auto result = family::evaluate("heads / zero", kNumbers);
  ASSERT_FALSE(result);
  EXPECT_EQ(result.error().code, Code::IndivisibleDim);
}

TEST(Expression, RefusesADivisionByANegativeNumber) {
  EXPECT_FALSE(family::evaluate("(zero - big - 1) / (zero - 1)", kNumbers));
}

TEST(Expression, RefusesUnknownSymbols) {
  const auto result = family::evaluate("heads * width", kNumbers);
  ASSERT_FALSE(result);
  EXPECT_EQ(result.error().code, Code::RulesInvalid);
  EXPECT_NE(result.error().message.find("unknown symbol width"), std::string::npos);
}

TEST(Expression, RefusesBadSyntaxWithItsPosition) {
  for (const char* text : {"", "2 +", "(2", "2 )", "2 3", "2 % 3", "-1", "heads groups", "*"}) {
    const auto result = family::evaluate(text, kNumbers);
    ASSERT_FALSE(result) << text;
    EXPECT_EQ(result.error().code, Code::RulesInvalid) << text;
  }
  EXPECT_EQ(family::evaluate("2 % 3", kNumbers).error().message,
            "expression \"2 % 3\" is not readable at character 3");
}

TEST(Expression, SeesOverflow) {
  for (const char* text : {"big * 2", "big + 1", "zero - big - 2"}) {
    const auto result = family::evaluate(text, kNumbers);
    ASSERT_FALSE(result) << text;
    EXPECT_EQ(result.error().code, Code::SizeOutOfBounds) << text;
  }
}

TEST(Expression, ANumberThatIsWrongWhateverTheConfigSaysIsTheFilesOwn) {
  for (const char* text : {"99999999999999999999", "4294967296 * 4294967296", "heads // 0",
                           "heads / (3 - 3)", "1 // 0", "1 / (2 - 4)"}) {
    const auto result = family::evaluate_at("a.json: symbol x", text, kNumbers);
    ASSERT_FALSE(result) << text;
    EXPECT_EQ(result.error().code, Code::RulesInvalid) << text;
    EXPECT_EQ(result.error().where, "a.json: symbol x") << text;
    EXPECT_EQ(result.error().help.find("config.json"), std::string::npos) << text;
  }
  const auto result = family::evaluate_at("a.json: symbol x", "heads // zero", kNumbers);
  ASSERT_FALSE(result);
  EXPECT_EQ(result.error().code, Code::IndivisibleDim);
  EXPECT_EQ(result.error().facts, (std::vector<std::string>{"a.json: symbol x: heads // zero"}));
}

TEST(Expression, BoundsItsDepthAndLength) {
  EXPECT_EQ(
      family::evaluate(std::string(400, '(') + "1" + std::string(400, ')'), kNumbers).error().code,
      Code::RulesInvalid);
  EXPECT_EQ(family::evaluate(std::string(5000, '1'), kNumbers).error().code, Code::RulesInvalid);
  EXPECT_EQ(*family::evaluate(std::string(30, '(') + "1" + std::string(30, ')'), kNumbers), 1);
}

TEST(Expression, ListsItsSymbolsOnce) {
  EXPECT_EQ(family::identifiers("a * (b2 + a) / 3"), (std::vector<std::string>{"a", "b2"}));
}

TEST(Template, SplitsBracesFromText) {
  const auto pieces = family::split_template("{L}mlp.{e}.weight");
  ASSERT_TRUE(pieces);
  ASSERT_EQ(pieces->size(), 4U);
  EXPECT_EQ((*pieces)[0].text, "L");
  EXPECT_TRUE((*pieces)[0].braces);
  EXPECT_EQ((*pieces)[3].text, ".weight");
}

TEST(Template, RefusesBracesThatDoNotPairUp) {
  for (const char* text : {"{L", "L}", "{}", "{a{b}}"}) {
    EXPECT_FALSE(family::split_template(text)) << text;
  }
}

}  // namespace
}  // namespace bv::family

#include "core/base/code.hpp"

#include <gtest/gtest.h>

#include <set>

namespace bv {
namespace {

TEST(Code, NumbersRiseAndNamesDiffer) {
  std::set<std::string_view> names;
  int last = -1;
  for (const CodeInfo& entry : all_codes()) {
    EXPECT_GT(static_cast<int>(entry.code), last) << entry.name;
    last = static_cast<int>(entry.code);
    EXPECT_TRUE(names.insert(entry.name).second) << entry.name;
    EXPECT_NE(entry.title, "") << entry.name;
  }
  EXPECT_GE(all_codes().size(), 50u);
}

TEST(Code, LabelHasFourDigitsAndReadsBack) {
  EXPECT_EQ(label(Code::UnknownOption), "BV0001");
  EXPECT_EQ(label(Code::WrongPlacement), "BV2006");
  for (const CodeInfo& entry : all_codes()) {
    EXPECT_EQ(code_from_text(label(entry.code)), entry.code) << entry.name;
  }
}

TEST(Code, TextIsReadWithOrWithoutItsPrefix) {
  EXPECT_EQ(code_from_text("BV2006"), Code::WrongPlacement);
  EXPECT_EQ(code_from_text("bv2006"), Code::WrongPlacement);
  EXPECT_EQ(code_from_text("2006"), Code::WrongPlacement);
  EXPECT_EQ(code_from_text("1"), Code::UnknownOption);
}

TEST(Code, TextThatIsNoCodeIsRefused) {
  for (const char* text :
       {"", "BV", "BV9999", "BV2006x", "x2006", "-1", "99999999999999999999", "BV 2006"}) {
    EXPECT_EQ(code_from_text(text), std::nullopt) << text;
  }
}

TEST(Code, InfoIsThatOfItsLine) {
  EXPECT_EQ(info(Code::DuplicateKey).name, "DuplicateKey");
  EXPECT_EQ(info(Code::DuplicateKey).severity, Severity::Error);
  EXPECT_EQ(info(Code::RuleDead).severity, Severity::Warning);
}

}  // namespace
}  // namespace bv

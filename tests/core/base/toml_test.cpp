#include "core/base/toml.hpp"

#include <gtest/gtest.h>

namespace bv::toml {
namespace {

TEST(Toml, KeepsOrderAndPlaces) {
  const auto table = parse("b = [1, \"two\"]\na = true\n\n[[waiver]]\nday = 2027-03-01\n", "f.toml",
                           Code::BadSettings);
  ASSERT_TRUE(table.has_value()) << table.error().message;
  ASSERT_EQ(table->size(), 3U);
  EXPECT_EQ((*table)[0].key, "b");
  EXPECT_EQ((*table)[0].at, (Place{1, 1}));
  const auto* list = (*table)[0].value.as<Array>();
  ASSERT_NE(list, nullptr);
  EXPECT_EQ(*(*list)[0].as<std::int64_t>(), 1);
  EXPECT_EQ(*(*list)[1].as<std::string>(), "two");
  EXPECT_EQ((*list)[1].at, (Place{1, 9}));
  EXPECT_TRUE(*(*table)[1].value.as<bool>());
  const auto* waivers = (*table)[2].value.as<Array>();
  ASSERT_NE(waivers, nullptr);
  const auto* day = (*(*waivers)[0].as<Table>())[0].value.as<Date>();
  ASSERT_NE(day, nullptr);
  EXPECT_EQ(*day, (Date{2027, 3, 1}));
}

TEST(Toml, FaultsHaveTheCodeAndThePlace) {
  for (const char* text : {"a = ", "a = 1\na = 2\n", "[a\n", "a = 1 b = 2\n", "\xff = 1\n"}) {
    const auto table = parse(text, "f.toml", Code::WaiversInvalid);
    ASSERT_FALSE(table.has_value()) << text;
    EXPECT_EQ(table.error().code, Code::WaiversInvalid);
    EXPECT_TRUE(table.error().where.starts_with("f.toml:")) << table.error().where;
    EXPECT_EQ(table.error().message.find("f.toml is not valid TOML: "), 0U);
    EXPECT_EQ(table.error().help, "correct that line");
  }
}

TEST(Toml, DeepNestingIsAFaultNotACrash) {
  const auto table = parse("a = " + std::string(100000, '['), "f.toml", Code::BadSettings);
  EXPECT_FALSE(table.has_value());
}

}  // namespace
}  // namespace bv::toml

#include "core/base/dtype.hpp"

#include <gtest/gtest.h>

#include <string>
#include <vector>

namespace bv {
namespace {

/// docs/reference/formats.md#element-types, in the order that the reference writer sorts by.
const std::vector<std::pair<std::string, int>> kTable = {
    {"BOOL", 8},        {"F4", 4},      {"F6_E2M3", 6}, {"F6_E3M2", 6}, {"U8", 8},
    {"I8", 8},          {"F8_E5M2", 8}, {"F8_E4M3", 8}, {"F8_E8M0", 8}, {"F8_E4M3FNUZ", 8},
    {"F8_E5M2FNUZ", 8}, {"I16", 16},    {"U16", 16},    {"F16", 16},    {"BF16", 16},
    {"I32", 32},        {"U32", 32},    {"F32", 32},    {"C64", 64},    {"F64", 64},
    {"I64", 64},        {"U64", 64}};

TEST(DType, NamesBitsAndOrderAreThoseOfTheFormat) {
  ASSERT_EQ(kTable.size(), static_cast<std::size_t>(DType::U64) + 1);
  for (std::size_t i = 0; i < kTable.size(); ++i) {
    const auto dtype = static_cast<DType>(i);
    EXPECT_EQ(name(dtype), kTable[i].first);
    EXPECT_EQ(bits(dtype), kTable[i].second);
    EXPECT_EQ(dtype_from_name(kTable[i].first), dtype);
  }
}

TEST(DType, NamesAreCaseSensitiveAndWhole) {
  for (const char* text : {"", "bf16", "BF", "BF16 ", "F8", "C128", "FLOAT32"}) {
    EXPECT_EQ(dtype_from_name(text), std::nullopt) << text;
  }
}

TEST(DType, BytesAreWholeBytes) {
  EXPECT_EQ(bytes(DType::Bool), 1);
  EXPECT_EQ(bytes(DType::BF16), 2);
  EXPECT_EQ(bytes(DType::F32), 4);
  EXPECT_EQ(bytes(DType::C64), 8);
}

TEST(DTypeDeathTest, BytesOfAPartOfAByteAreOurOwnFault) {
  ::testing::FLAGS_gtest_death_test_style = "threadsafe";
  EXPECT_EXIT(static_cast<void>(bytes(DType::F4)), ::testing::ExitedWithCode(4), "BV9001");
}

TEST(DType, FloatsAreTold) {
  for (const DType dtype :
       {DType::F4, DType::F8E4M3, DType::F16, DType::BF16, DType::F32, DType::F64, DType::C64}) {
    EXPECT_TRUE(is_float(dtype)) << name(dtype);
  }
  for (const DType dtype : {DType::Bool, DType::U8, DType::I16, DType::I64, DType::U64}) {
    EXPECT_FALSE(is_float(dtype)) << name(dtype);
  }
}

}  // namespace
}  // namespace bv

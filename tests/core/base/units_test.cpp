#include "core/base/units.hpp"

#include <gtest/gtest.h>

#include <array>
#include <functional>
#include <type_traits>

namespace bv {
namespace {

TEST(Units, ElementsAndBytesDoNotMix) {
  static_assert(!std::is_convertible_v<ElementOffset, ByteOffset>);
  static_assert(!std::is_convertible_v<ByteOffset, ElementOffset>);
  static_assert(!std::is_convertible_v<std::int64_t, ElementOffset>);
  static_assert(!std::is_invocable_v<std::plus<>, ElementOffset, ByteOffset>);
  static_assert(!std::is_invocable_v<std::plus<>, ElementOffset, std::int64_t>);
  static_assert(std::is_trivially_copyable_v<ByteOffset> && sizeof(ByteOffset) == 8);
}

TEST(Units, AreTurnedIntoEachOtherByTheWidthOfAnElement) {
  EXPECT_EQ(ElementWidth(DType::BF16).to_bytes(ElementOffset(3)), ByteOffset(6));
  EXPECT_EQ(ElementWidth(DType::F64).to_bytes(ElementOffset(3)), ByteOffset(24));
  EXPECT_EQ(ElementWidth(DType::F32).at_least_one_in(ByteOffset(11)), ElementOffset(2));
  EXPECT_EQ(ElementWidth(DType::F64).at_least_one_in(ByteOffset(7)), ElementOffset(1));
}

TEST(Units, ASliceHasTheBytesOfItsElements) {
  std::array<std::byte, 12> tensor = {};
  const auto part = slice(tensor, ElementOffset(3), ElementOffset(5), ElementWidth(DType::BF16));
  EXPECT_EQ(part.data(), tensor.data() + 6);
  EXPECT_EQ(part.size(), 4U);
}

TEST(Units, ASliceBeyondTheTensorIsAFaultOfOurs) {
  const std::array<std::byte, 12> tensor = {};
  EXPECT_DEATH((void)slice(tensor, ElementOffset(5), ElementOffset(7), ElementWidth(DType::BF16)),
               "");
}

}  // namespace
}  // namespace bv

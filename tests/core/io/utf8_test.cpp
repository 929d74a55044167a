#include "core/io/utf8.hpp"

#include <gtest/gtest.h>

#include <string>
#include <vector>

namespace bv::io {
namespace {

TEST(Utf8, FindsTheFirstByteThatIsNone) {
  EXPECT_EQ(first_invalid_utf8("plain ascii of some length"), std::string_view::npos);
  EXPECT_EQ(first_invalid_utf8("\u00e9\u20ac\U0001F600\U0010FFFF"), std::string_view::npos);
  const std::vector<std::pair<std::string, std::size_t>> cases = {
      {"01234567\x80", 8},     {"\xc0\xaf", 0},
      {"a\xc1\xbf", 1},        {"\xe0\x80\x80", 0},
      {"\xed\xa0\x80", 0},     {"\xf0\x80\x80\x80", 0},
      {"\xf4\x90\x80\x80", 0}, {"\xf5\x80\x80\x80", 0},
      {"ab\xe2\x82", 2},       {"\xff", 0}};
  for (const auto& [text, at] : cases) {
    EXPECT_EQ(first_invalid_utf8(text), at);
  }
}

}  // namespace
}  // namespace bv::io

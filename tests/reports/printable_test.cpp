#include "reports/printable.hpp"

#include <gtest/gtest.h>

namespace bv::reports {
namespace {

TEST(Printable, ShowsWhatATerminalWouldObey) {
  EXPECT_EQ(printable("plain \u00e9 \U0001F600", false), "plain \u00e9 \U0001F600");
  EXPECT_EQ(printable("\u00e9", true), "\\u{e9}");
  EXPECT_EQ(printable(std::string_view("a\0b\x7f\x1b", 5), false), "a\\x00b\\x7f\\x1b");
  EXPECT_EQ(printable("\xff\xc0\x80\xe2\x82", false), "\\xff\\xc0\\x80\\xe2\\x82");
  EXPECT_EQ(printable("\xed\xa0\x80", false), "\\xed\\xa0\\x80");
  EXPECT_EQ(printable("\u202e\u0085\ufeff", false), "\\u{202e}\\u{85}\\u{feff}");
}

}  // namespace
}  // namespace bv::reports

#include "core/io/json_cursor.hpp"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

namespace bv::io {
namespace {

std::string verdict(std::string_view text) {
  JsonCursor cursor(text);
  return cursor.skip_value() && cursor.end()
             ? "accepted"
             : std::to_string(cursor.fault().position) + ": " + cursor.fault().what;
}

TEST(JsonCursor, AcceptsEveryKindOfValue) {
  for (const char* text : {"null", "true", " false ", "0", "-0.5e+10", "1E9", "\"\\u00e9\\/\"",
                           "[]", "[1,[2]]", "{}", "{\"a\":{\"b\":[]}}"}) {
    EXPECT_EQ(verdict(text), "accepted") << text;
  }
}

TEST(JsonCursor, RefusesWhatIsNotJsonAndSaysWhere) {
  const std::vector<std::pair<std::string, std::string>> cases = {
      {"", "0: expected a value, the text ends"},
      {"[1,]", "3: expected a value"},
      {"{\"a\":1,}", "7: expected a string"},
      {"{\"a\" 1}", "5: expected ':'"},
      {"[1 2]", "3: expected ',' or ']'"},
      {"01", "0: a number with a leading zero"},
      {"1.", "2: expected a digit, the text ends"},
      {"+1", "0: expected a value"},
      {"nul", "0: expected a value"},
      {"\"a", "2: a string has no closing quote"},
      {"\"\\x\"", "1: an unknown escape in a string"},
      {"\"\\u12g4\"", "5: expected four hex digits"},
      {"\"\\udc00\"", "1: a lone surrogate in a string"},
      {"\"\\ud800\\u0041\"", "1: a lone surrogate in a string"},
      {"\"\n\"", "1: a raw control character in a string"},
      {"1 2", "2: text after the end of the value"},
      {"NaN", "0: expected a value"}};
  for (const auto& [text, wanted] : cases) {
    EXPECT_EQ(verdict(text), wanted) << text;
  }
}

/// Values of unknown fields are read as other readers do: they make a double of every number.
TEST(JsonCursor, NumbersThatNoDoubleHoldsAreRefusedAlsoWhenNobodyReadsThem) {
  const std::string_view fault = ": a number outside the range of a double";
  const std::string many(std::size_t{1} << 20, '1');
  const std::vector<std::string> above = {
      "1e400",   "-1e400",       "1E+309",  many,
      "0.1e400", many + ".5e-2", "1.8e308", "1e99999999999999999999"};
  for (const std::string& text : above) {
    EXPECT_EQ(verdict(text), "0" + std::string(fault)) << text.substr(0, 30);
  }
  const std::vector<std::string> fitting = {
      "1e-400",    "-0.0e999",         "0e99999999999999999999",
      "0." + many, many + "e-1048570", "1e-99999999999999999999",
      "1.7e308"};
  for (const std::string& text : fitting) {
    EXPECT_EQ(verdict(text), "accepted") << text.substr(0, 30);
  }
  EXPECT_EQ(verdict("{\"a\":[1,1e400]}"), "8" + std::string(fault));
}

TEST(JsonCursor, DepthStopsAtItsLimit) {
  const auto brackets = [](std::size_t depth) {
    return std::string(depth, '[') + std::string(depth, ']');
  };
  EXPECT_EQ(verdict(brackets(32)), "accepted");
  EXPECT_EQ(verdict(brackets(33)), "32: nested deeper than 32 levels");
  EXPECT_EQ(verdict(std::string(10'000'000, '[')), "32: nested deeper than 32 levels");
}

TEST(JsonCursor, DepthCountsNestingAndNotNumberOfValues) {
  std::string text = "[";
  for (int i = 0; i < 100; ++i) {
    text += "[{}],";
  }
  EXPECT_EQ(verdict(text + "1]"), "accepted");
}

TEST(JsonCursor, ReadsEscapesOfStrings) {
  JsonCursor cursor(R"("q\"b\\s\/n\nu\u00e9\ud83d\ude00")");
  JsonString text;
  ASSERT_TRUE(cursor.string(text));
  EXPECT_TRUE(text.has_escape);
  EXPECT_EQ(unescaped(text), "q\"b\\s/n\nu\u00e9\U0001F600");
  EXPECT_TRUE(says(text, "q\"b\\s/n\nu\u00e9\U0001F600"));
  EXPECT_FALSE(says(text, "q"));
}

/// The scan looks at eight bytes at once: the closing quote at every place of a word, with bytes
/// before it that confuse a careless test of a word.
TEST(JsonCursor, FindsTheClosingQuoteAtEveryPlace) {
  for (std::size_t length = 0; length < 40; ++length) {
    for (const char fill : {'a', '!', '#', ' ', '\x7f', '\xe9', '[', ']'}) {
      const std::string content(length, fill);
      const std::string text = "\"" + content + "\"" + "\x01\"\\";
      JsonCursor cursor(text);
      JsonString out;
      ASSERT_TRUE(cursor.string(out)) << length;
      EXPECT_EQ(out.raw, content);
      EXPECT_EQ(cursor.position(), length + 2);
    }
  }
}

TEST(JsonCursor, UnsignedIntegersReachTwoToThe64AndNoFurther) {
  std::uint64_t value = 0;
  EXPECT_TRUE(JsonCursor("18446744073709551615").unsigned_integer(value));
  EXPECT_EQ(value, ~std::uint64_t{0});
  EXPECT_FALSE(JsonCursor("18446744073709551616").unsigned_integer(value));
}

TEST(JsonCursor, FirstFaultStays) {
  JsonCursor cursor("x");
  EXPECT_FALSE(cursor.fault_at(0, "first"));
  EXPECT_FALSE(cursor.fault_at(1, "second"));
  EXPECT_EQ(cursor.fault().what, "first");
}

TEST(JsonCursor, LinesAndColumnsCountFromOne) {
  const LineColumn place = line_column("{\n  \"a\": x", 9);
  EXPECT_EQ(place.line, 2u);
  EXPECT_EQ(place.column, 8u);
}

}  // namespace
}  // namespace bv::io

#include "core/base/json_text.hpp"

#include <gtest/gtest.h>

#include <array>
#include <nlohmann/json.hpp>

#include "core/base/unicode.hpp"

namespace bv {
namespace {

std::string utf8(std::uint32_t point) {
  if (point < 0x80) {
    return std::string(1, static_cast<char>(point));
  }
  std::string out;
  const unsigned more = point < 0x800 ? 1 : point < 0x10000 ? 2 : 3;
  constexpr std::array<unsigned, 4> kLeads = {0, 0xc0, 0xe0, 0xf0};
  out += static_cast<char>(kLeads[more] | (point >> (6 * more)));
  for (unsigned i = more; i-- > 0;) {
    out += static_cast<char>(0x80U | ((point >> (6 * i)) & 0x3fU));
  }
  return out;
}

TEST(JsonText, EscapesWhatCannotBeSeenAndNothingElse) {
  const nlohmann::json value = {{"k\u202e", "a\u2066b\u00e9\U0001F600c\ufeff\u0085\x7f\x1b\n"}};
  EXPECT_EQ(json_text(value, -1), R"({"k\u202e":"a\u2066b)"
                                  "\u00e9\U0001F600"
                                  R"(c\ufeff\u0085\u007f\u001b\n"})");
  EXPECT_EQ(json_text(nlohmann::json({{"a", 1}}), 1), "{\n \"a\": 1\n}");
  EXPECT_EQ(json_text(nlohmann::json("\xff"), -1), "\"\ufffd\"");
}

TEST(JsonText, ReadsAsTheSameValueWhateverTheCharacter) {
  for (std::uint32_t point = 1; point < 0x110000;
       point += point < 0x3000 || point >= 0xe0000 ? 1 : 61) {
    if (point >= 0xd800 && point <= 0xdfff) {
      continue;
    }
    const nlohmann::json value = utf8(point) + "x";
    const std::string text = json_text(value, -1);
    ASSERT_EQ(nlohmann::json::parse(text), value) << point;
    ASSERT_EQ(text.find(utf8(point)) == std::string::npos, unicode::invisible(point))
        << point << " " << text;
  }
}

TEST(JsonText, LeavesBytesThatAreNoUtf8AsTheyAre) {
  EXPECT_EQ(visible_json("\"\xff\u202e\xe2\x80\""), "\"\xff\\u202e\xe2\x80\"");
}

}  // namespace
}  // namespace bv

#include "core/base/text.hpp"

#include <gtest/gtest.h>

#include <limits>

namespace bv {
namespace {

TEST(Text, ThousandsAreGrouped) {
  EXPECT_EQ(thousands(0), "0");
  EXPECT_EQ(thousands(999), "999");
  EXPECT_EQ(thousands(1'000), "1,000");
  EXPECT_EQ(thousands(1'234'567), "1,234,567");
  EXPECT_EQ(thousands(-1'234), "-1,234");
  EXPECT_EQ(thousands(-999), "-999");
}

TEST(Text, ThousandsReachTheEndOfTheRange) {
  EXPECT_EQ(thousands(std::numeric_limits<std::int64_t>::max()), "9,223,372,036,854,775,807");
  EXPECT_EQ(thousands(-std::numeric_limits<std::int64_t>::max()), "-9,223,372,036,854,775,807");
}

TEST(Text, BytesHaveDecimalUnits) {
  EXPECT_EQ(human_bytes(0), "0 B");
  EXPECT_EQ(human_bytes(999), "999 B");
  EXPECT_EQ(human_bytes(1'000), "1.0 kB");
  EXPECT_EQ(human_bytes(71'903'645'408), "71.9 GB");
  EXPECT_EQ(human_bytes(2'800'000'000), "2.8 GB");
  EXPECT_EQ(human_bytes(5'000'000'000'000'000), "5000.0 TB");
}

TEST(Text, ShapesAreLists) {
  EXPECT_EQ(shape_text(std::vector<std::int64_t>{4, 1, 3}), "[4, 1, 3]");
  EXPECT_EQ(shape_text(std::vector<std::int64_t>{}), "[]");
  EXPECT_EQ(shape_text(std::vector<std::int64_t>(40'000, 1)),
            "[1, 1, 1, 1, 1, 1, 1, 1, ... 40,000 dimensions]");
}

TEST(Text, ControlCharactersAreEscaped) {
  EXPECT_EQ(escaped("plain \u00e9"), "plain \u00e9");
  EXPECT_EQ(escaped("a\nb\x1b[31m\x7f"), "a\\nb\\x1b[31m\\x7f");
  EXPECT_EQ(escaped(std::string_view("\0\t", 2)), "\\x00\\t");
  EXPECT_EQ(escaped("a\xff\xc2"), "a\\xff\\xc2");
  EXPECT_EQ(escaped("\u00e9", true), "\\u{e9}");
}

/// Unicode's Cf, Zl and Zp: a name with them reads as another one, or moves what stands beside it.
TEST(Text, FormatCharactersAreEscaped) {
  EXPECT_EQ(escaped("a\u200bb"), "a\\u{200b}b");
  EXPECT_EQ(escaped("\u202egnp.exe\u202c"), "\\u{202e}gnp.exe\\u{202c}");
  EXPECT_EQ(escaped("\u2028\u2029\ufeff\u00ad\u2060\U000e0041"),
            "\\u{2028}\\u{2029}\\u{feff}\\u{ad}\\u{2060}\\u{e0041}");
  EXPECT_EQ(escaped("\u4e2d\u0410\u2026\u00ae"), "\u4e2d\u0410\u2026\u00ae");
  EXPECT_EQ(escaped(escaped("\u200b\n\x1b")), escaped("\u200b\n\x1b"));
}

TEST(Text, LongNamesLoseTheirMiddle) {
  const std::string name(1'000'000, 'n');
  EXPECT_EQ(readable("short name"), "short name");
  EXPECT_EQ(readable(name + " is read by no rule"), std::string(128, 'n') + "...(999744 bytes)..." +
                                                        std::string(128, 'n') +
                                                        " is read by no rule");
  EXPECT_EQ(bounded(name, 10), "nnnnn...(999990 bytes)...nnnnn");
  EXPECT_EQ(bounded("0123456789", 10), "0123456789");
}

TEST(Text, ATextOfManyWordsIsBoundedAsWell) {
  std::string words;
  for (int i = 0; i < 100'000; ++i) {
    words += "name ";
  }
  EXPECT_LT(readable(words).size(), kTextShownMax + 40);
  EXPECT_LT(readable(std::string(100'000, '\x1b')).size(), kTextShownMax + 40);
}

TEST(Text, ACutNeverPartsACharacter) {
  std::string name;
  for (int i = 0; i < 1'000; ++i) {
    name += "\u4e2d";
  }
  for (std::size_t width = 10; width < 40; ++width) {
    EXPECT_EQ(escaped(bounded(name, width)), bounded(name, width)) << width;
  }
}

TEST(Text, NearestIsWithinTwoEditsOrAUniquePrefix) {
  const std::vector<std::string> names = {"linear_qkv", "linear_fc1", "linear_fc2", "in_proj"};
  EXPECT_EQ(nearest("linear_qvk", names), "linear_qkv");
  EXPECT_EQ(nearest("in_prj", names), "in_proj");
  EXPECT_EQ(nearest("in_p", names), "in_proj");
  EXPECT_EQ(nearest("linear_q", names), "linear_qkv");
}

TEST(Text, NearestIsSilentWhenNothingIsClose) {
  const std::vector<std::string> names = {"linear_qkv", "linear_fc1", "linear_fc2"};
  EXPECT_EQ(nearest("router", names), std::nullopt);
  EXPECT_EQ(nearest("linear", names), std::nullopt);
  EXPECT_EQ(nearest("", names), std::nullopt);
  EXPECT_EQ(nearest("linear_qkv", {}), std::nullopt);
}

TEST(Text, NearestIsSilentForShortWords) {
  const std::vector<std::string> names = {"tp", "cp", "plain", "abc"};
  for (const char* word : {"", "x", "ci", "pla", "abd"}) {
    EXPECT_EQ(nearest(word, names), std::nullopt) << word;
  }
}

TEST(Text, AWordOfFourLettersIsNotNearOneThatSharesOnlyHalfOfIt) {
  const std::vector<std::string> names = {"like", "out", "seed"};
  EXPECT_EQ(nearest("time", names), std::nullopt);
  EXPECT_EQ(nearest("lime", names), "like");
  EXPECT_EQ(nearest("seeed", names), "seed");
}

TEST(Text, NumbersInNamesAreOrderedBySize) {
  EXPECT_TRUE(natural_less("experts.2.w", "experts.10.w"));
  EXPECT_FALSE(natural_less("experts.10.w", "experts.2.w"));
  EXPECT_FALSE(natural_less("a1", "a1"));
  EXPECT_NE(natural_less("a01", "a1"), natural_less("a1", "a01"));
  EXPECT_TRUE(natural_less("a", "ab"));
}

TEST(Text, CountedNounsHaveTheirPlural) {
  EXPECT_EQ(counted(1, "file"), "1 file");
  EXPECT_EQ(counted(0, "file"), "0 files");
  EXPECT_EQ(counted(1045, "tensor"), "1,045 tensors");
  EXPECT_EQ(counted(~std::uint64_t{0}, "byte"), "18,446,744,073,709,551,615 bytes");
  EXPECT_EQ(counted(-1, "row"), "-1 row");
  EXPECT_EQ(counted(std::int64_t{-2000}, "row"), "-2,000 rows");
  EXPECT_EQ(counted(2, "entry"), "2 entries");
  EXPECT_EQ(counted(2, "way"), "2 ways");
  EXPECT_EQ(counted(2, "branch"), "2 branches");
  EXPECT_EQ(counted(1, "more cause"), "1 more cause");
  EXPECT_EQ(counted_plural(1, "HF tensors"), "1 HF tensor");
  EXPECT_EQ(counted_plural(2048, "HF tensors"), "2,048 HF tensors");
  EXPECT_EQ(counted_plural(1, "parameters and layers"), "1 parameter or layer");
}

TEST(Text, GlobsMatchWholeTexts) {
  EXPECT_TRUE(glob_match("", ""));
  EXPECT_TRUE(glob_match("*", ""));
  EXPECT_TRUE(glob_match("*.weight", "model.layers.0.weight"));
  EXPECT_TRUE(glob_match("a*b*c", "aXbYbZc"));
  EXPECT_TRUE(glob_match("layer.?", "layer.7"));
  EXPECT_FALSE(glob_match("layer.?", "layer.17"));
  EXPECT_FALSE(glob_match("*.weight", "a.weights"));
  EXPECT_FALSE(glob_match("", "a"));
  EXPECT_FALSE(glob_match("?", ""));
}

/// A backtracking matcher takes exponential time here.
TEST(Text, GlobWithManyStarsEnds) {
  std::string pattern;
  for (int i = 0; i < 30; ++i) {
    pattern += "a*";
  }
  EXPECT_FALSE(glob_match(pattern + "b", std::string(2'000, 'a')));
  EXPECT_TRUE(glob_match(pattern, std::string(2'000, 'a')));
}

TEST(Text, JoinPutsSeparatorsBetween) {
  const std::vector<std::string> parts = {"a", "b", "c"};
  EXPECT_EQ(join(parts, ", "), "a, b, c");
  EXPECT_EQ(join({}, ", "), "");
}

TEST(Text, ShortenedKeepsBothEnds) {
  const std::string name = "model.language_model.layers.17.mlp.experts.3.down_proj.weight";
  EXPECT_EQ(shortened(name, 100, true), name);
  const std::string narrow = shortened(name, 30, true);
  EXPECT_EQ(narrow.size(), 30u);
  EXPECT_TRUE(narrow.starts_with("model.lang"));
  EXPECT_TRUE(narrow.ends_with("down_proj.weight"));
  EXPECT_NE(narrow.find("..."), std::string::npos);
  EXPECT_NE(shortened(name, 30, false).find("\u2026"), std::string::npos);
}

TEST(Text, TooNarrowWidthLeavesTheName) {
  EXPECT_EQ(shortened("abcdefghijklmnop", 5, true), "abcdefghijklmnop");
}

}  // namespace
}  // namespace bv

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "core/io/checkpoint.hpp"
#include "tests/core/io/header_texts.hpp"

namespace bv::io {
namespace {

using testing::as_bytes;
using testing::length_word;
using testing::outcome;
using testing::safetensors;
using testing::two_with;

TEST(SafetensorsHeader, ReadsSpecsOffsetsAndMetadata) {
  const std::string file = safetensors(
      R"({ "__metadata__" : {"format":"pt"}, "b\u00e9\ud83d\ude00" : {"shape":[1, 2],"data_offsets":[8,12],"dtype":"BF16"},)"
      R"( "a":{"dtype":"F32","shape":[2],"data_offsets":[0,8]} })",
      12);
  const auto header = parse_safetensors_header(as_bytes(file), file.size(), "X");
  ASSERT_TRUE(header) << testing::shown(header.error());
  ASSERT_EQ(header->tensors.size(), 2u);
  EXPECT_EQ(header->tensors[0].spec, (TensorSpec{"a", DType::F32, {2}}));
  EXPECT_EQ(header->tensors[1].spec, (TensorSpec{"b\u00e9\U0001F600", DType::BF16, {1, 2}}));
  EXPECT_EQ(header->data_begin, file.size() - 12);
  EXPECT_EQ(header->tensors[1].begin, header->data_begin + 8);
  EXPECT_EQ(header->tensors[1].end, header->data_begin + 12);
  EXPECT_EQ(header->metadata, (std::map<std::string, std::string>{{"format", "pt"}}));
  EXPECT_TRUE(header->findings.empty());
}

Error error_of(const std::string& file) {
  const auto header = parse_safetensors_header(as_bytes(file), file.size(), "X");
  EXPECT_FALSE(header);
  return header ? fail(Code::Assertion, "accepted") : header.error();
}

TEST(SafetensorsHeader, TruncationNamesBothLengths) {
  std::string file = length_word(81'920) + std::string(40'112, ' ');
  EXPECT_EQ(error_of(file).message, "X ends inside its header");
  EXPECT_THAT(error_of(file).facts,
              ::testing::ElementsAre(
                  "length word says 81,920 bytes, 40,112 are there (file 40,120 bytes)"));
}

TEST(SafetensorsHeader, HugeLengthNamesTheLimit) {
  EXPECT_EQ(error_of(length_word(std::uint64_t{1} << 60)).message,
            "header length 1,152,921,504,606,846,976 exceeds the 100 MB limit of the format");
}

TEST(SafetensorsHeader, OverlapNamesBothTensorsAndTheSharedBytes) {
  EXPECT_THAT(error_of(safetensors(two_with("[0,4]", "[2,6]"), 6)).message,
              ::testing::HasSubstr("tensors \"q\" and \"k\" share bytes 2..3 of the data of X"));
}

TEST(SafetensorsHeader, HoleNamesItsSize) {
  EXPECT_THAT(error_of(safetensors(two_with("[0,4]", "[68,72]"), 72)).message,
              ::testing::HasSubstr("64 bytes of X belong to no tensor"));
}

TEST(SafetensorsHeader, DuplicateNamesBothPositions) {
  const std::string entry = R"("a":{"dtype":"U8","shape":[0],"data_offsets":[0,0]})";
  const Error error = error_of(safetensors("{" + entry + "," + entry + "}", 0));
  EXPECT_EQ(error.message, "tensor \"a\" appears twice in the header of X");
  EXPECT_THAT(error.facts, ::testing::ElementsAre("at byte 9 and at byte " +
                                                  std::to_string(9 + entry.size() + 1)));
}

TEST(SafetensorsHeader, GitLfsPointerIsNamed) {
  EXPECT_THAT(error_of("version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 1\n").help,
              ::testing::HasSubstr("git lfs pull"));
}

TEST(SafetensorsHeader, LongHostileNameStaysShortInTheMessage) {
  const std::string name(1'000'000, 'n');
  const Error error = error_of(safetensors("{\"" + name + R"(":{"dtype":"X"}})", 0));
  EXPECT_LT(testing::shown(error).size(), 2'000u);
}

TEST(SafetensorsHeader, FindingOfOneKindIsReportedOnceWithItsCount) {
  std::string header = "{";
  for (int i = 0; i < 500; ++i) {
    header += (i == 0 ? "\"t" : ",\"t") + std::to_string(i) +
              R"(":{"dtype":"U8","shape":[0],"data_offsets":[0,0],"x":1})";
  }
  const std::string file = safetensors(header + "}", 0);
  const auto parsed = parse_safetensors_header(as_bytes(file), file.size(), "X");
  ASSERT_TRUE(parsed);
  ASSERT_EQ(parsed->findings.size(), 1u);
  EXPECT_EQ(parsed->findings[0].what,
            "tensor \"t0\" has the unknown field \"x\", and 499 more like it");
}

/// A header of the size of a model with 71,248 tensors; a reader that compares all pairs of names
/// would not end.
TEST(SafetensorsHeader, ManyTensorsAreReadAndALateDuplicateIsFound) {
  std::string header = "{";
  for (int i = 0; i < 70'000; ++i) {
    header += "\"model.layers." + std::to_string(i) +
              R"(.weight":{"dtype":"U8","shape":[0],"data_offsets":[0,0]},)";
  }
  const std::string good =
      safetensors(header + R"("last":{"dtype":"U8","shape":[0],"data_offsets":[0,0]}})", 0);
  const auto parsed = parse_safetensors_header(as_bytes(good), good.size(), "X");
  ASSERT_TRUE(parsed);
  EXPECT_EQ(parsed->tensors.size(), 70'001u);
  EXPECT_EQ(
      error_of(
          safetensors(
              header +
                  R"("model.layers.0.weight":{"dtype":"U8","shape":[0],"data_offsets":[0,0]}})",
              0))
          .code,
      Code::DuplicateKey);
}

const std::string kSmall = safetensors(
    R"({"__metadata__":{"format":"pt","k\n":"\u00e9"},"a":{"dtype":"F32","shape":[2],"data_offsets":[0,8]},"b":{"dtype":"BF16","shape":[1,2],"data_offsets":[8,12]}})",
    12);

TEST(SafetensorsHeader, EveryPrefixOfAFileIsRefused) {
  ASSERT_EQ(outcome(parse_safetensors_header(as_bytes(kSmall), kSmall.size(), "X")), "accepted");
  for (std::size_t length = 0; length < kSmall.size(); ++length) {
    const std::string cut = kSmall.substr(0, length);
    EXPECT_EQ(outcome(parse_safetensors_header(as_bytes(cut), cut.size(), "X")), "BV7004")
        << length;
  }
}

/// With a length word that fits the cut header, the text itself ends early.
TEST(SafetensorsHeader, EveryPrefixOfAHeaderIsRefused) {
  const std::string header = kSmall.substr(8, kSmall.size() - 20);
  for (std::size_t length = 0; length < header.size(); ++length) {
    const std::string cut = safetensors(header.substr(0, length), 12);
    EXPECT_EQ(outcome(parse_safetensors_header(as_bytes(cut), cut.size(), "X")), "BV7005")
        << length;
  }
}

/// Each byte replaced by each of a few dangerous ones: some verdict, and what is accepted still
/// tiles the data.
TEST(SafetensorsHeader, EveryDamagedByteGetsAVerdict) {
  std::size_t refused = 0;
  for (std::size_t at = 0; at < kSmall.size() - 12; ++at) {
    for (const char replacement :
         {'\0', '"', '\\', '{', '}', '[', ']', ',', '0', '9', '-', 'e', '\xff', ' '}) {
      std::string damaged = kSmall;
      damaged[at] = replacement;
      const auto header = parse_safetensors_header(as_bytes(damaged), damaged.size(), "X");
      refused += header ? 0u : 1u;
      for (std::size_t i = 0; header && i < header->tensors.size(); ++i) {
        EXPECT_LE(header->tensors[i].end, damaged.size());
      }
    }
  }
  EXPECT_GT(refused, 1000u);
}

}  // namespace
}  // namespace bv::io

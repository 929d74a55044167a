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

/// One input of docs/reference/formats.md#edge-cases: what a permissive and a strict reader say of
/// it.
struct HostileInput {
  std::string_view name;
  std::string file;
  std::string permissive;
  std::string strict;
};

HostileInput rejected(std::string_view name, std::string file, std::string code) {
  return {name, std::move(file), code, code};
}
HostileInput accepted(std::string_view name, std::string file) {
  return {name, std::move(file), "accepted", "accepted"};
}
HostileInput warned(std::string_view name, std::string file, std::string strict = "BV7005") {
  return {name, std::move(file), "accepted", std::move(strict)};
}

const std::string kOne = R"({"a":{"dtype":"F32","shape":[2],"data_offsets":[0,8]}})";

std::string one_with(std::string_view dtype, std::string_view shape, std::string_view offsets) {
  return R"({"a":{"dtype":")" + std::string(dtype) + R"(","shape":)" + std::string(shape) +
         R"(,"data_offsets":)" + std::string(offsets) + "}}";
}

std::string nested(int levels) {
  return R"({"a":{"dtype":"F32","shape":[2],"data_offsets":[0,8],"x":)" +
         std::string(static_cast<std::size_t>(levels), '[') +
         std::string(static_cast<std::size_t>(levels), ']') + "}}";
}

std::vector<HostileInput> framing_inputs() {
  const std::string empty = "{}";
  return {
      rejected("EmptyFile", "", "BV7004"),
      rejected("SevenBytes", std::string(7, '\0'), "BV7004"),
      rejected("LengthZero", length_word(0), "BV7005"),
      accepted("EmptyObject", safetensors("{}", 0)),
      accepted("EmptyObjectAndSpaces", safetensors("{}      ", 0)),
      accepted("PaddingOfCarriageReturns", safetensors("{}\r\r", 0)),
      accepted("PaddingOfNewlines", safetensors("{}\n\n", 0)),
      accepted("PaddingOfTabs", safetensors("{}\t\t", 0)),
      warned("WhiteSpaceBeforeTheBrace", safetensors("  {}", 0)),
      rejected("PaddingOfNul", safetensors(std::string("{}\0\0", 4), 0), "BV7005"),
      rejected("ByteOrderMark", safetensors("\xef\xbb\xbf{}", 0), "BV7005"),
      rejected("TrailingComma", safetensors(kOne.substr(0, kOne.size() - 1) + ",}", 8), "BV7005"),
      rejected("LineComment", safetensors("{}//", 0), "BV7005"),
      rejected("BlockComment", safetensors("{/**/}", 0), "BV7005"),
      rejected("TextAfterTheObject", safetensors("{}{}", 0), "BV7005"),
      rejected("TopLevelArray", safetensors("[]", 0), "BV7005"),
      rejected("TopLevelNull", safetensors("null", 0), "BV7005"),
      rejected("LengthOfTwoToThe64", length_word(~std::uint64_t{0}) + empty, "BV7004"),
      rejected("LengthAboveTheLimit", length_word(100'000'001) + empty, "BV7004"),
      rejected("LengthAtTheLimitInAShortFile", length_word(100'000'000) + empty, "BV7004"),
      rejected("OneByteMoreAtTheEnd", safetensors(kOne, 9), "BV7004"),
      rejected("OneByteLessAtTheEnd", safetensors(kOne, 7), "BV7004"),
  };
}

std::vector<HostileInput> text_inputs() {
  const auto named = [](std::string_view name) {
    return safetensors(
        "{\"" + std::string(name) + R"(":{"dtype":"F32","shape":[2],"data_offsets":[0,8]}})", 8);
  };
  const auto with_metadata = [](std::string_view value) {
    return safetensors(R"({"__metadata__":)" + std::string(value) + "}", 0);
  };
  return {
      rejected("InvalidUtf8InAName", named("\xff"), "BV7005"),
      rejected("OverlongUtf8InAName", named("\xc0\x80"), "BV7005"),
      rejected("LoneSurrogateEscape", named(R"(\ud800)"), "BV7005"),
      rejected("RawControlCharacter", named("\x01"), "BV7005"),
      warned("NulEscapeInAName", named(R"(a\u0000b)")),
      warned("EmptyName", named("")),
      rejected("NestingOf129", safetensors(nested(129), 8), "BV7005"),
      rejected("NestingBeyondOurOwnLimit", safetensors(nested(31), 8), "BV7005"),
      warned("NestingAtOurOwnLimit", safetensors(nested(30), 8)),
      rejected(
          "NameTwiceWithEqualInfo",
          safetensors(
              R"({"a":{"dtype":"U8","shape":[4],"data_offsets":[0,4]},"a":{"dtype":"U8","shape":[4],"data_offsets":[0,4]}})",
              4),
          "BV7009"),
      rejected(
          "NameTwiceWithOtherInfo",
          safetensors(
              R"({"a":{"dtype":"U8","shape":[4],"data_offsets":[0,4]},"\u0061":{"dtype":"U8","shape":[2],"data_offsets":[4,6]}})",
              6),
          "BV7009"),
      rejected("MetadataTwice", safetensors(R"({"__metadata__":{},"__metadata__":{}})", 0),
               "BV7009"),
      warned("KeyTwiceInMetadata", with_metadata(R"({"k":"1","k":"2"})"), "BV7009"),
      warned("MetadataNull", with_metadata("null")),
      rejected("MetadataList", with_metadata("[]"), "BV7005"),
      rejected("MetadataNumberValue", with_metadata(R"({"k":1})"), "BV7005"),
      rejected("MetadataNestedObject", with_metadata(R"({"k":{}})"), "BV7005"),
      rejected(
          "DtypeTwiceInAnEntry",
          safetensors(R"({"a":{"dtype":"F32","dtype":"F32","shape":[2],"data_offsets":[0,8]}})", 8),
          "BV7009"),
      warned(
          "UnknownFieldInAnEntry",
          safetensors(
              R"({"a":{"dtype":"F32","shape":[2],"data_offsets":[0,8],"x":{"y":[1.5,null]}}})", 8)),
      rejected("EntryAsArray", safetensors(R"({"a":["F32",[2],[0,8]]})", 8), "BV7005"),
      rejected("UnknownDtype", safetensors(one_with("F33", "[2]", "[0,8]"), 8), "BV7008"),
      rejected("LowerCaseDtype", safetensors(one_with("f32", "[2]", "[0,8]"), 8), "BV7008"),
  };
}

std::vector<HostileInput> number_inputs() {
  const auto shaped = [](std::string_view shape) {
    return safetensors(one_with("F32", shape, "[0,8]"), 8);
  };
  const auto placed = [](std::string_view offsets) {
    return safetensors(one_with("F32", "[2]", offsets), 8);
  };
  return {
      rejected("DimensionWithFraction", shaped("[2.0]"), "BV7005"),
      rejected("DimensionWithExponent", shaped("[2e0]"), "BV7005"),
      rejected("DimensionNegative", shaped("[-2]"), "BV7005"),
      rejected("DimensionMinusZero", shaped("[-0]"), "BV7005"),
      rejected("DimensionWithLeadingZero", shaped("[02]"), "BV7005"),
      rejected("DimensionAsString", shaped(R"(["2"])"), "BV7005"),
      rejected("OffsetNegative", placed("[-1,7]"), "BV7005"),
      rejected("OffsetOfTwoToThe64", placed("[0,18446744073709551616]"), "BV7005"),
      rejected("ShapeMissing", safetensors(R"({"a":{"dtype":"F32","data_offsets":[0,8]}})", 8),
               "BV7005"),
      rejected("OneOffset", placed("[0]"), "BV7005"),
      rejected("ThreeOffsets", placed("[0,8,8]"), "BV7005"),
      rejected("OffsetsSwapped", placed("[8,0]"), "BV7006"),
      rejected("Hole", safetensors(two_with("[0,4]", "[5,9]"), 9), "BV7006"),
      rejected("Overlap", safetensors(two_with("[0,4]", "[2,6]"), 6), "BV7006"),
      rejected("FirstTensorNotAtZero", safetensors(one_with("F32", "[2]", "[4,12]"), 12), "BV7006"),
      rejected("ShapeNeedsOtherSize", shaped("[3]"), "BV7015"),
      rejected("DtypeNeedsOtherSize", safetensors(one_with("F64", "[2]", "[0,8]"), 8), "BV7015"),
      rejected("ElementsOfTwoToThe64",
               safetensors(one_with("U8", "[18446744073709551615]", "[0,8]"), 8), "BV7015"),
      rejected("BitsOverflow", safetensors(one_with("U8", "[2305843009213693952]", "[0,8]"), 8),
               "BV7015"),
      rejected("FourBitElementsOverflow",
               safetensors(one_with("F4", "[18446744073709551614]", "[0,8]"), 8), "BV7015"),
      warned(
          "ZeroBeforeHugeDimensions",
          safetensors(one_with("U8", "[0,18446744073709551615,18446744073709551615]", "[0,0]"), 0)),
      rejected(
          "ZeroAfterHugeDimensions",
          safetensors(one_with("U8", "[18446744073709551615,18446744073709551615,0]", "[0,0]"), 0),
          "BV7015"),
      rejected("HugeTimesTwoBeforeZero",
               safetensors(one_with("U8", "[2,9223372036854775808,0]", "[0,0]"), 0), "BV7015"),
  };
}

std::vector<HostileInput> placing_inputs() {
  const auto three = [](std::string_view zero_offsets) {
    return R"({"z":{"dtype":"U8","shape":[0],"data_offsets":)" + std::string(zero_offsets) +
           R"(},"q":{"dtype":"U8","shape":[4],"data_offsets":[0,4]},"k":{"dtype":"U8","shape":[4],"data_offsets":[4,8]}})";
  };
  return {
      accepted("EmptyTensorAtTheStart", safetensors(three("[0,0]"), 8)),
      accepted("EmptyTensorAtTheEnd", safetensors(three("[8,8]"), 8)),
      accepted(
          "EmptyTensorsAtOneOffset",
          safetensors(
              R"({"y":{"dtype":"F32","shape":[0,4],"data_offsets":[0,0]},"z":{"dtype":"U8","shape":[0],"data_offsets":[0,0]}})",
              0)),
      rejected("EmptyTensorInsideAnother", safetensors(three("[2,2]"), 8), "BV7006"),
      accepted("ScalarOfShapeNothing", safetensors(one_with("F32", "[]", "[0,4]"), 4)),
      rejected("OddCountOfFourBits", safetensors(one_with("F4", "[3]", "[0,2]"), 2), "BV7015"),
      accepted("EvenCountOfFourBits", safetensors(one_with("F4", "[4]", "[0,2]"), 2)),
      accepted("SixBitsInWholeBytes", safetensors(one_with("F6_E2M3", "[4]", "[0,3]"), 3)),
      accepted("HeaderOrderIsNotOffsetOrder", safetensors(two_with("[4,8]", "[0,4]"), 8)),
      accepted(
          "UnalignedF32",
          safetensors(
              R"({"u":{"dtype":"U8","shape":[1],"data_offsets":[0,1]},"f":{"dtype":"F32","shape":[1],"data_offsets":[1,5]}})",
              5)),
  };
}

void PrintTo(const HostileInput& input, std::ostream* out) {
  *out << input.name;
}

class HostileHeader : public ::testing::TestWithParam<HostileInput> {};

TEST_P(HostileHeader, GetsItsVerdict) {
  const HostileInput& input = GetParam();
  const auto header = parse_safetensors_header(as_bytes(input.file), input.file.size(), "X");
  EXPECT_EQ(outcome(header), input.permissive) << (header ? "" : testing::shown(header.error()));
  const auto strict = header ? refuse_findings(header->findings) : Status(header.error());
  EXPECT_EQ(outcome(strict), input.strict);
}

/// The same bytes as a file, by the road of the command.
TEST_P(HostileHeader, GetsItsVerdictAsAFile) {
  const HostileInput& input = GetParam();
  const testing::ScratchFolder folder;
  const auto path = folder.write("model.safetensors", input.file);
  EXPECT_EQ(outcome(Checkpoint::open(path)), input.permissive);
  EXPECT_EQ(outcome(Checkpoint::open(path, true)), input.strict);
}

/// Every message says what to do next, and shows nothing raw.
TEST_P(HostileHeader, ErrorIsPrintableAndEndsInAFix) {
  const HostileInput& input = GetParam();
  const auto header = parse_safetensors_header(as_bytes(input.file), input.file.size(), "X");
  const auto strict = header ? refuse_findings(header->findings) : Status(header.error());
  if (!strict) {
    EXPECT_THAT(testing::shown(strict.error()), ::testing::HasSubstr("X"));
    EXPECT_NE(strict.error().help, "");
    const std::string text = testing::shown(strict.error());
    EXPECT_EQ(
        std::count_if(text.begin(), text.end(),
                      [](char c) { return c != '\n' && static_cast<unsigned char>(c) < 0x20; }),
        0)
        << text;
  } else {
    EXPECT_EQ(input.strict, "accepted");
  }
}

std::string test_name(const ::testing::TestParamInfo<HostileInput>& input) {
  return std::string(input.param.name);
}

INSTANTIATE_TEST_SUITE_P(Framing, HostileHeader, ::testing::ValuesIn(framing_inputs()), test_name);
INSTANTIATE_TEST_SUITE_P(Text, HostileHeader, ::testing::ValuesIn(text_inputs()), test_name);
INSTANTIATE_TEST_SUITE_P(Numbers, HostileHeader, ::testing::ValuesIn(number_inputs()), test_name);
INSTANTIATE_TEST_SUITE_P(Placing, HostileHeader, ::testing::ValuesIn(placing_inputs()), test_name);

TEST(SafetensorsHeader, TableHoldsAllInputsOfTheReferenceRun) {
  EXPECT_GE(framing_inputs().size() + text_inputs().size() + number_inputs().size() +
                placing_inputs().size(),
            72u);
}

}  // namespace
}  // namespace bv::io

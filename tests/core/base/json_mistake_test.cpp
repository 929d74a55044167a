#include "core/base/json_mistake.hpp"

#include <gtest/gtest.h>

#include <nlohmann/json.hpp>

namespace bv {
namespace {

/// The mistake at which nlohmann's parser stops.
JsonMistake mistake_of(const std::string& text) {
  try {
    const auto json = nlohmann::json::parse(text);
    ADD_FAILURE() << "is JSON: " << json;
  } catch (const nlohmann::json::parse_error& error) {
    return json_mistake(text, error.byte == 0 ? 0 : error.byte - 1, json_reason(error.what()));
  }
  return {};
}

TEST(JsonMistake, NamesTheUsualOnesInPlainWords) {
  struct Row {
    std::string text, what, place;
  };
  for (const Row& row : std::vector<Row>{
           {"{\"a\": 1,\n \"b\": [2],\n}\n", "a comma stands after the last entry", "f:2:10"},
           {"[1, 2, ]", "a comma stands after the last entry", "f:1:6"},
           {"[1,, 2]", "two commas follow each other", "f:1:4"},
           {"{\"a\": 1 \"b\": 2}", "a comma is missing before this entry", "f:1:9"},
           {"{\"a\": \"x\"\n\"b\": 2}", "a comma is missing before this entry", "f:2:1"},
           {"{'a': 1}", "single quotes, where JSON has double quotes", "f:1:2"},
           {"{\n# note\n\"a\": 1}", "a comment, which JSON does not have", "f:2:1"},
           {"{ // note\n\"a\": 1}", "a comment, which JSON does not have", "f:1:3"},
           {"{\"a\": True}", "True is Python: JSON writes true", "f:1:7"},
           {"{\"a\": None}", "None is Python: JSON writes null", "f:1:7"},
           {"{\"a\": 1", "the file ends before its last bracket", "f:1:8"},
           {" \n", "the file is empty", "f:2:1"}}) {
    const JsonMistake mistake = mistake_of(row.text);
    EXPECT_EQ(mistake.what, row.what) << row.text;
    EXPECT_EQ(mistake.place("f"), row.place) << row.text;
  }
}

TEST(JsonMistake, ShowsTheLineWithAMarkBelowThePlace) {
  const JsonMistake mistake = mistake_of("{\n  \"a\": 1,\n}");
  EXPECT_EQ(mistake.facts, (std::vector<std::string>{"  \"a\": 1,", "        ^"}));
}

/// A file of one line: the place stays in what is shown.
TEST(JsonMistake, ShowsTheEndOfALongLine) {
  std::string text = "{";
  for (int i = 0; i < 500; ++i) {
    text += "\"key" + std::to_string(i) + "\": 1,";
  }
  const JsonMistake mistake = mistake_of(text + "}");
  ASSERT_EQ(mistake.facts.size(), 2U);
  EXPECT_LE(mistake.facts[0].size(), 70U);
  EXPECT_EQ(mistake.facts[0][mistake.facts[1].size() - 1], ',');
  EXPECT_EQ(mistake.facts[0].substr(mistake.facts[1].size() - 1), ",}");
}

TEST(JsonMistake, KeepsTheReasonOfTheParserElsewhere) {
  EXPECT_EQ(json_mistake("{\"a\": x}", 6, "an odd letter").what, "an odd letter");
}

}  // namespace
}  // namespace bv

#include "core/checkpoint/config_text.hpp"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>
#include <nlohmann/json.hpp>

namespace bv::checkpoint {
namespace {

using ::testing::HasSubstr;

Error refusal(std::string_view text) {
  const auto parsed = parse_config(text, "folder/config.json");
  if (parsed) {
    ADD_FAILURE() << "accepted " << text;
    return {};
  }
  EXPECT_EQ(parsed.error().code, Code::ConfigField);
  return parsed.error();
}

TEST(ConfigText, HoldsTheConstantsOfPython) {
  const auto config = parse_config(
      R"({"limits": [0.0, Infinity], "low": -Infinity, "none": NaN, "text": "say Infinity, NaN"})",
      "config.json");
  ASSERT_TRUE(config) << config.error().message;
  EXPECT_EQ((*config)["limits"][1].get<double>(), std::numeric_limits<double>::infinity());
  EXPECT_EQ((*config)["low"].get<double>(), -std::numeric_limits<double>::infinity());
  EXPECT_TRUE(std::isnan((*config)["none"].get<double>()));
  EXPECT_EQ((*config)["text"], "say Infinity, NaN");
}

TEST(ConfigText, IsWrittenAsItIsRead) {
  const std::string text =
      R"({"limits": [0.5, Infinity], "low": -Infinity, "none": NaN, "text": "NaN \"constant\""})";
  const auto config = parse_config(text, "config.json");
  ASSERT_TRUE(config);
  const std::string written = config_text(*config);
  const auto again = parse_config(written, "config.json");
  ASSERT_TRUE(again) << written;
  EXPECT_EQ(config_text(*again), written);
  EXPECT_THAT(written, HasSubstr("-Infinity"));
  EXPECT_THAT(written, HasSubstr("\"none\": NaN"));
  EXPECT_EQ((*again)["text"], "NaN \"constant\"");
}

TEST(ConfigText, IsStrictOtherwise) {
  for (const char* text :
       {"{\"a\": infinity}", "{\"a\": +Infinity}", "{\"a\": Inf}", "{\"a\": nan}", "{\"a\": NaNs}",
        "{\"a\": -NaN}", "{\"a\": Infinity Infinity}", "{NaN: 1}", "{\"a\": 1,}", "{'a': 1}",
        "{\"a\": 01}", "{\"a\": .5}", "{\"a\": 1} // x", "[Infinity]", "Infinity", "",
        "{\"a\": \"\x01\"}", "{\"a\": \"\xff\"}", "{\"a\": - Infinity}"}) {
    refusal(text);
  }
}

TEST(ConfigText, AByteOrderMarkIsRefusedAsTransformersDoes) {
  EXPECT_EQ(refusal("\xef\xbb\xbf{}").message, "folder/config.json begins with a byte order mark");
}

TEST(ConfigText, FaultsHaveLineAndColumnBehindConstantsToo) {
  const Error error = refusal("{\"a\": -Infinity,\n \"b\": NaN, \"c\": tru}");
  EXPECT_THAT(error.message, HasSubstr("config.json is not JSON: line 2, column"));
  EXPECT_EQ(error.where.substr(0, 20), "folder/config.json:2");
  EXPECT_THAT(error.facts.at(0), HasSubstr("NaN"));
}

TEST(ConfigText, OfAbsurdSizeOrDepthIsRefused) {
  refusal(std::string(kConfigBytesMax + 1, ' '));
  refusal(std::string(100, '[') + std::string(100, ']'));
}

TEST(Setting, MayBeAConstant) {
  nlohmann::json config = {{"a", 1}, {"b", nlohmann::json::object()}};
  ASSERT_TRUE(apply_setting(config, "a", "-Infinity"));
  EXPECT_EQ(config["a"].get<double>(), -std::numeric_limits<double>::infinity());
  ASSERT_TRUE(apply_setting(config, "b.c", "[1, 2]"));
  EXPECT_EQ(config["b"]["c"], (nlohmann::json{1, 2}));
  EXPECT_FALSE(apply_setting(config, "a.x", "1"));
}

}  // namespace
}  // namespace bv::checkpoint

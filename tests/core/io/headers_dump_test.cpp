#include "core/io/headers_dump.hpp"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "core/io/gzip.hpp"
#include "core/io/writer.hpp"
#include "tests/core/io/scratch.hpp"

namespace bv::io {
namespace {

namespace fs = std::filesystem;
using support::file_text;
using ::testing::HasSubstr;
using testing::outcome;
using testing::ScratchFolder;
using testing::shown;

const std::string kDump =
    R"({"schema":"bridge-headers/1","config":{"hidden_size": 8},"tensors":{"a":["BF16",[2,3],"model.safetensors",0,12],"b\n":["U8",[],"model.safetensors",12,13]}})";

std::string replaced(std::string text, const std::string& from, const std::string& to) {
  const std::size_t at = text.find(from);
  EXPECT_NE(at, std::string::npos) << from;
  return text.replace(at, from.size(), to);
}

TEST(HeadersDump, ReadsConfigNamesAndShapes) {
  const auto dump = parse_headers_dump(kDump, "X");
  ASSERT_TRUE(dump) << shown(dump.error());
  EXPECT_EQ(dump->config, "{\"hidden_size\": 8}");
  EXPECT_EQ(dump->headers(),
            (Headers{{"a", {"a", DType::BF16, {2, 3}}}, {"b\n", {"b\n", DType::U8, {}}}}));
  EXPECT_EQ(dump->total_bytes(), 13u);
  EXPECT_EQ(dump->tensors.at("b\n"),
            (DumpedTensor{{"b\n", DType::U8, {}}, "model.safetensors", 12, 13}));
}

TEST(HeadersDump, TextRoundTrips) {
  const auto dump = parse_headers_dump(kDump, "X");
  ASSERT_TRUE(dump);
  const auto again = parse_headers_dump(headers_dump_text(*dump), "X");
  ASSERT_TRUE(again) << shown(again.error());
  EXPECT_EQ(*again, *dump);
  EXPECT_EQ(outcome(parse_headers_dump(headers_dump_text({"{}", {}}), "X")), "accepted");
}

TEST(HeadersDump, MayHoldTheConstantsOfPythonInItsConfigAlone) {
  const std::string config = R"({"limits": [0.0, Infinity], "low": -Infinity, "none": NaN})";
  const auto dump = parse_headers_dump(replaced(kDump, "{\"hidden_size\": 8}", config), "X");
  ASSERT_TRUE(dump) << shown(dump.error());
  EXPECT_EQ(dump->config, config);
  EXPECT_FALSE(parse_headers_dump(replaced(kDump, "[2,3]", "[2,Infinity]"), "X"));
  EXPECT_FALSE(parse_headers_dump(replaced(kDump, "{\"hidden_size\": 8}", "{\"a\": nan}"), "X"));
}

TEST(HeadersDump, FilesRoundTripPlainAndGzipped) {
  const ScratchFolder folder;
  const auto dump = parse_headers_dump(kDump, "X");
  ASSERT_TRUE(dump);
  for (const char* name : {"m.headers.json", "m.headers.json.gz"}) {
    const fs::path path = folder.path() / name;
    ASSERT_TRUE(write_headers_dump(path, *dump));
    const std::string first = file_text(path);
    EXPECT_EQ(is_gzip(first), path.extension() == ".gz");
    const auto again = read_headers_dump(path);
    ASSERT_TRUE(again) << shown(again.error());
    EXPECT_EQ(*again, *dump);
    ASSERT_TRUE(write_headers_dump(path, *again));
    EXPECT_EQ(file_text(path), first);
  }
}

TEST(HeadersDump, HoldsWhatTheGoldenCheckpointsHold) {
  std::size_t cases = 0;
  for (const auto& entry : fs::directory_iterator(fs::path(BV_FIXTURES) / "golden" / "hf")) {
    if (!entry.is_directory()) {
      continue;
    }
    ++cases;
    const auto checkpoint = Checkpoint::open(entry.path());
    ASSERT_TRUE(checkpoint);
    const auto config = read_file(entry.path() / "config.json", 1 << 20);
    const auto dump = dump_of(*checkpoint, *config);
    ASSERT_TRUE(dump) << shown(dump.error());
    const auto again = parse_headers_dump(headers_dump_text(*dump), "X");
    ASSERT_TRUE(again) << shown(again.error());
    EXPECT_EQ(*again, *dump);
    EXPECT_EQ(again->headers(), checkpoint->headers());
    EXPECT_EQ(again->total_bytes(), checkpoint->total_bytes());
  }
  EXPECT_EQ(cases, 49u);
}

TEST(HeadersDump, RefusesDamageWithItsCode) {
  const std::vector<std::pair<std::string, std::string>> cases = {
      {"", "BV7018"},
      {"[]", "BV7018"},
      {"{}", "BV7018"},
      {kDump + "x", "BV7018"},
      {replaced(kDump, "bridge-headers/1", "bridge-headers/2"), "BV7018"},
      {replaced(kDump, "\"schema\":\"bridge-headers/1\",", ""), "BV7018"},
      {replaced(kDump, "{\"hidden_size\": 8}", "[]"), "BV7018"},
      {replaced(kDump, "\"config\":", "\"tensors\":{},\"config\":"), "BV7009"},
      {replaced(kDump, "\"b\\n\"", "\"a\""), "BV7009"},
      {replaced(kDump, "BF16", "BF17"), "BV7008"},
      {replaced(kDump, "[2,3]", "[2,4]"), "BV7015"},
      {replaced(kDump, "[2,3]", "[4611686018427387904,4]"), "BV7015"},
      {replaced(kDump, "[2,3]", "[18446744073709551615]"), "BV7018"},
      {replaced(kDump, "[2,3]", "[-2,3]"), "BV7018"},
      {replaced(kDump, "0,12]", "12,0]"), "BV7015"},
      {replaced(kDump, "0,12]", "0,12,1]"), "BV7018"},
      {replaced(kDump, "\"a\"", "\"\xff\""), "BV7018"},
  };
  for (const auto& [text, code] : cases) {
    const auto dump = parse_headers_dump(text, "X");
    EXPECT_EQ(outcome(dump), code) << text;
    if (!dump) {
      EXPECT_NE(dump.error().help, "") << text;
    }
  }
}

TEST(HeadersDump, EveryPrefixIsRefused) {
  for (std::size_t length = 0; length < kDump.size(); ++length) {
    EXPECT_EQ(outcome(parse_headers_dump(kDump.substr(0, length), "X")), "BV7018") << length;
  }
}

TEST(HeadersDump, ConfigThatIsNoObjectIsRefused) {
  const ScratchFolder folder;
  folder.write("model.safetensors", testing::safetensors("{}", 0));
  const auto checkpoint = Checkpoint::open(folder.path());
  ASSERT_TRUE(checkpoint);
  EXPECT_EQ(outcome(dump_of(*checkpoint, " {\"a\":1}\n")), "accepted");
  for (const char* config : {"", "[]", "{\"a\":}", "{} {}", "\xff"}) {
    EXPECT_EQ(outcome(dump_of(*checkpoint, config)), "BV7018") << config;
  }
}

TEST(Gzip, RoundTripsAndIsDeterministic) {
  std::string text;
  for (int i = 0; i < 200'000; ++i) {
    text += std::to_string(i * 7919 % 1000);
  }
  for (const std::string& whole : {std::string(), std::string("a"), text}) {
    const auto packed = gzip(whole);
    ASSERT_TRUE(packed);
    EXPECT_EQ(*packed, *gzip(whole));
    const auto out = gunzip(*packed, whole.size(), "X");
    ASSERT_TRUE(out) << shown(out.error());
    EXPECT_EQ(*out, whole);
  }
}

TEST(Gzip, StopsAtItsLimit) {
  const auto bomb = gzip(std::string(50'000'000, '\0'));
  ASSERT_TRUE(bomb);
  EXPECT_LT(bomb->size(), 100'000u);
  const auto out = gunzip(*bomb, 1'000'000, "X");
  ASSERT_EQ(outcome(out), "BV7018");
  EXPECT_THAT(out.error().message, HasSubstr("holds more than the 1,000,000 bytes"));
  EXPECT_EQ(outcome(gunzip(*bomb, 49'999'999, "X")), "BV7018");
  EXPECT_EQ(outcome(gunzip(*bomb, 50'000'000, "X")), "accepted");
}

TEST(Gzip, RefusesCutDamagedAndJoinedStreams) {
  const std::string packed = *gzip(kDump);
  for (std::size_t length = 0; length < packed.size(); ++length) {
    EXPECT_EQ(outcome(gunzip(packed.substr(0, length), 1 << 20, "X")), "BV7018") << length;
  }
  EXPECT_EQ(outcome(gunzip(packed + packed, 1 << 20, "X")), "BV7018");
  std::string damaged = packed;
  damaged[packed.size() - 6] = static_cast<char>(damaged[packed.size() - 6] ^ 1);
  EXPECT_EQ(outcome(gunzip(damaged, 1 << 20, "X")), "BV7018");
}

}  // namespace
}  // namespace bv::io

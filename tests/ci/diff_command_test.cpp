#include <gtest/gtest.h>

#include <regex>

#include "tests/ci/run_command.hpp"

namespace bv::cli::testing {
namespace {

namespace fs = std::filesystem;

/// A copy of a golden HF case whose weights can be changed.
fs::path copy_of(const std::string& name, const TempFolder& folder) {
  const fs::path out = folder.path() / name;
  fs::copy(hf_case(name), out, fs::copy_options::recursive);
  return out;
}

/// Changes the last byte of the file: the last element of its last tensor.
void damage(const fs::path& file) {
  std::fstream stream(file, std::ios::binary | std::ios::in | std::ios::out);
  stream.seekg(-1, std::ios::end);
  const char old = static_cast<char>(stream.get());
  stream.seekp(-1, std::ios::end);
  stream.put(static_cast<char>(old ^ 1));
}

/// The text without its line ends, as the width of the screen has put them.
std::string one_line(const std::string& text) {
  return std::regex_replace(text, std::regex(R"(\s+)"), " ");
}

TEST(DiffCommand, EqualDirectoriesExitZero) {
  const Ended ended = run_line({"diff", hf_case("qwen3"), hf_case("qwen3")});
  EXPECT_EQ(ended.code, 0) << ended.out << ended.err;
  EXPECT_NE(ended.out.find("bridge-verify: PASS"), std::string::npos) << ended.out;
}

TEST(DiffCommand, AWrongElementExitsOneWithItsTensorAndCode) {
  const TempFolder folder;
  const fs::path b = copy_of("gemma3_text", folder);
  damage(b / "model.safetensors");
  const std::string report = (folder.path() / "report").string();
  const Ended ended = run_line({"diff", hf_case("gemma3_text"), b.string(), "--out", report});
  EXPECT_TRUE(fs::exists(fs::path(report) / "verdicts.json"));
  EXPECT_EQ(ended.code, 1) << ended.out << ended.err;
  EXPECT_NE(ended.out.find("BV3001"), std::string::npos) << ended.out;
  EXPECT_NE(ended.out.find("model.norm.weight"), std::string::npos) << ended.out;
}

TEST(DiffCommand, ShardsOfAConversionEqualTheirModelAndDamageIsFound) {
  const TempFolder folder;
  const std::string m = (folder.path() / "m").string();
  const std::vector<std::string> pad = {"--make-vocab-size-divisible-by", "1"};
  std::vector<std::string> convert = {"convert", "--to", "megatron", "--model", hf_case("qwen3"),
                                      "--out",   m,      "--tp",     "2"};
  convert.insert(convert.end(), pad.begin(), pad.end());
  ASSERT_EQ(run_line(convert).code, 0);
  fs::remove(fs::path(m) / "manifest.json");
  std::vector<std::string> line = {"diff", hf_case("qwen3"), m, pad[0], pad[1]};
  const Ended equal = run_line(line);
  EXPECT_EQ(equal.code, 0) << equal.out << equal.err;
  damage(fs::path(m) / "pp0_tp1_ep0_etp0.safetensors");
  const Ended wrong = run_line(line);
  EXPECT_EQ(wrong.code, 1) << wrong.out;
  EXPECT_NE(wrong.out.find("pp0_tp1_ep0_etp0"), std::string::npos) << wrong.out;
  line.insert(line.end(), {"--tp", "4"});
  EXPECT_EQ(run_line(line).code, 2);  // the names say 2
}

TEST(DiffCommand, AnUnevenVocabularyIsPaddedAsTheShardsAre) {
  const TempFolder folder;
  for (const char* divisor : {"1", "40"}) {
    const std::string m = (folder.path() / divisor).string();
    ASSERT_EQ(run_line({"convert", "--to", "megatron", "--model", hf_case("qwen3"), "--out", m,
                        "--tp", "2", "--make-vocab-size-divisible-by", divisor})
                  .code,
              0);
    fs::remove(m + "/manifest.json");  // as shards of others, which say nothing of it
    const Ended equal = run_line({"diff", hf_case("qwen3"), m});
    EXPECT_EQ(equal.code, 0) << equal.out << equal.err;
    EXPECT_NE(equal.out.find("vocabulary padded to"), std::string::npos) << equal.out;
  }
  // A vocabulary that needs no padding must have none.
  const std::string m = (folder.path() / "tp1").string();
  ASSERT_EQ(run_line({"convert", "--to", "megatron", "--model", hf_case("qwen3"), "--out", m,
                      "--make-vocab-size-divisible-by", "40"})
                .code,
            0);
  EXPECT_EQ(run_line({"diff", hf_case("qwen3"), m}).code, 0);
  fs::remove(m + "/manifest.json");
  const Ended padded = run_line({"diff", hf_case("qwen3"), m});
  EXPECT_EQ(padded.code, 1) << padded.out;
  EXPECT_NE(one_line(padded.out).find(": explains 160 of 160 wrong rows examined (100 %)"),
            std::string::npos)
      << padded.out;
  EXPECT_NE(padded.out.find("160 rows over 1 rank, wanted 131"), std::string::npos) << padded.out;
}

/// A conversion to TP 4 without the file of its last rank.
fs::path without_last_rank(const TempFolder& folder) {
  fs::path m = folder.path() / "m";
  EXPECT_EQ(run_line({"convert", "--to", "megatron", "--model", hf_case("llama"), "--out",
                      m.string(), "--tp", "4", "-q"})
                .code,
            0);
  fs::remove(m / "pp0_tp3_ep0_etp0.safetensors");
  return m;
}

TEST(DiffCommand, AShardThatTheManifestListsAndThatIsAbsentIsNamed) {
  const TempFolder folder;
  const fs::path m = without_last_rank(folder);
  for (const std::vector<std::string>& line :
       {std::vector<std::string>{"diff", hf_case("llama"), m.string()},
        {"convert", "--to", "hf", "--model", m.string(), "--out",
         (folder.path() / "b").string()}}) {
    const Ended ended = run_line(line);
    EXPECT_EQ(ended.code, 5) << ended.out << ended.err;
    EXPECT_NE(ended.err.find("error[BV7002]: 1 of 4 shards is missing from the folder"),
              std::string::npos)
        << ended.err;
    EXPECT_NE(ended.err.find("\"pp0_tp3_ep0_etp0.safetensors\""), std::string::npos) << ended.err;
    EXPECT_NE(ended.err.find("manifest.json lists it"), std::string::npos) << ended.err;
  }
  const Ended seen = run_line({"inspect", "--model", m.string(), "-q"});
  EXPECT_EQ(seen.code, 5) << seen.out << seen.err;
  EXPECT_NE(seen.err.find("pp0_tp3_ep0_etp0.safetensors"), std::string::npos) << seen.err;
}

/// Without a manifest the names show three ranks, and the sizes four.
TEST(DiffCommand, ALastRankThatIsAbsentIsSeenByTheSizesOfTheOthers) {
  const TempFolder folder;
  const fs::path m = without_last_rank(folder);
  fs::remove(m / "manifest.json");
  const Ended ended = run_line({"diff", hf_case("llama"), m.string()});
  EXPECT_EQ(ended.code, 5) << ended.out << ended.err;
  EXPECT_NE(one_line(ended.err).find("the shards are those of tp 4, and only tp0 to tp2 are there"),
            std::string::npos)
      << ended.err;
  fs::remove(m / "pp0_tp1_ep0_etp0.safetensors");
  fs::remove(m / "pp0_tp2_ep0_etp0.safetensors");
  const Ended one = run_line({"diff", hf_case("llama"), m.string()});
  EXPECT_EQ(one.code, 5) << one.out << one.err;
  EXPECT_NE(one_line(one.err).find("the shards are those of tp 4, and tp0 alone is there"),
            std::string::npos)
      << one.err;
}

TEST(DiffCommand, TwoCheckpointsInOneFolderAreAWarningOnEitherSide) {
  const TempFolder folder;
  const fs::path two = copy_of("llama", folder);
  const fs::path other = folder.path() / "gemma";
  fs::copy(two / "model-00001-of-00002.safetensors", two / "old-00001-of-00002.safetensors");
  fs::copy(two / "model-00002-of-00002.safetensors", two / "old-00002-of-00002.safetensors");
  for (const std::vector<std::string>& line :
       {std::vector<std::string>{"diff", two.string(), hf_case("llama")},
        {"diff", hf_case("llama"), two.string()},
        {"check", "--model", two.string()},
        {"roundtrip", "--model", two.string(), "--tp", "2"},
        {"convert", "--to", "megatron", "--model", two.string(), "--out", other.string()}}) {
    std::vector<std::string> gated = line;
    gated.insert(gated.end(), {"--fail-on", "warning"});
    const Ended stopped = run_line(gated);
    EXPECT_EQ(stopped.code, 1) << line[0] << stopped.out << stopped.err;
    EXPECT_FALSE(fs::exists(other));
    const Ended ended = run_line(line);
    EXPECT_EQ(ended.code, 0) << line[0] << ended.out << ended.err;
    EXPECT_NE(
        one_line(ended.out).find("warning[BV7040]: model.safetensors.index.json was read, and "
                                 "old-*-of-00002.safetensors (2 files) lies beside it"),
        std::string::npos)
        << line[0] << ended.out;
    std::vector<std::string> strict = line;
    strict.emplace_back("--strict");
    EXPECT_EQ(run_line(strict).code, 5) << line[0];
  }
}

TEST(DiffCommand, WrongOperandsAreRefused) {
  EXPECT_EQ(run_line({"diff", hf_case("qwen3")}).code, 2);
  EXPECT_EQ(run_line({"diff", hf_case("qwen3"), "/nowhere/at/all"}).code, 5);
}

}  // namespace
}  // namespace bv::cli::testing

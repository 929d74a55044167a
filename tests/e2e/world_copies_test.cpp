// Processes of a world that do not read the same: another copy of a checkpoint, another config,
// other options. They are named, and nothing is made of a mixture.

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <fstream>
#include <regex>

#include "tests/e2e/world.hpp"

namespace bv::e2e {
namespace {

namespace fs = std::filesystem;
using ::testing::HasSubstr;

/// A copy of a golden model on "another host", one bit of it another one.
void copy_changed(const std::string& name, const fs::path& to, std::size_t odd_file) {
  fs::copy(golden_hf(name), to, fs::copy_options::recursive);
  std::size_t number = 0;
  for (const std::string& file : files_below(to)) {
    if (!file.ends_with(".safetensors") || file.starts_with("forward") || number++ != odd_file) {
      continue;
    }
    fs::permissions(to / file, fs::perms::owner_write, fs::perm_options::add);
    std::string text = file_text(to / file);
    text.back() = static_cast<char>(text.back() ^ 1);
    std::ofstream(to / file, std::ios::binary) << text;
  }
}

TEST(WorldCopies, CopiesThatDifferAreNeverMixedIntoOneOutput) {
  const TempFolder temp;
  const auto line = [&](const std::string& model, const std::string& out) {
    return std::vector<std::string>{"convert", "--to",     "megatron", "--model", model,
                                    "--out",   temp / out, "--tp",     "2"};
  };
  const std::string right = golden_hf("qwen3_moe").string();
  ASSERT_EQ(run(line(right, "alone")).code, 0);
  const auto wanted = contents(temp / "alone");
  int refused = 0;
  for (std::size_t file = 0; file < 5; ++file) {  // the last one is an equal copy
    const std::string copy = temp / ("copy" + std::to_string(file));
    copy_changed("qwen3_moe", copy, file);
    const std::string out = "out" + std::to_string(file);
    const auto ends = run_world(2, line(right, out), {{1, {{}, line(copy, out)}}});
    EXPECT_EQ(ends[0].code, ends[1].code);
    if (fs::exists(temp / out)) {
      EXPECT_EQ(ends[0].code, 0) << ends[0].all();
      EXPECT_TRUE(contents(temp / out) == wanted) << file;
      continue;
    }
    ++refused;
    EXPECT_EQ(ends[0].code, 5) << ends[0].all();
    EXPECT_THAT(ends[0].all(), HasSubstr("BV8017"));
    EXPECT_THAT(ends[0].flat(), HasSubstr("rank 1"));
    EXPECT_THAT(ends[0].flat(), HasSubstr(copy));
    const auto judged = run_world(2, {"roundtrip", "--model", right, "--tp", "2"},
                                  {{1, {{}, {"roundtrip", "--model", copy, "--tp", "2"}}}});
    EXPECT_EQ(judged[0].code, judged[1].code);
  }
  EXPECT_GE(refused, 2);
  EXPECT_TRUE(fs::exists(temp / "out4")) << "an equal copy is the same model";
}

TEST(WorldCopies, ShardsThatDifferAreNeverMixedIntoOneModel) {
  const TempFolder temp;
  const std::vector<std::string> there = {
      "convert", "--to",          "megatron", "--model", golden_hf("llama").string(),
      "--out",   temp / "shards", "--tp",     "2"};
  ASSERT_EQ(run(there).code, 0);
  const auto back = [&](const std::string& shards, const std::string& out) {
    return std::vector<std::string>{"convert",     "--to",  "hf",      "--model",
                                    temp / shards, "--out", temp / out};
  };
  ASSERT_EQ(run(back("shards", "alone")).code, 0);
  fs::copy(temp / "shards", temp / "equal", fs::copy_options::recursive);
  fs::copy(temp / "shards", temp / "odd", fs::copy_options::recursive);
  for (const std::string& file : files_below(temp / "odd")) {
    if (file.ends_with(".safetensors")) {
      std::string text = file_text(fs::path(temp / "odd") / file);
      for (std::size_t i = text.size() / 2; i < text.size(); i += 64) {
        text[i] = static_cast<char>(text[i] ^ 1);
      }
      std::ofstream(fs::path(temp / "odd") / file, std::ios::binary) << text;
    }
  }
  for (const Ended& end :
       run_world(2, back("shards", "equal_hf"), {{1, {{}, back("equal", "equal_hf")}}})) {
    EXPECT_EQ(end.code, 0) << end.all();
  }
  EXPECT_TRUE(contents(temp / "equal_hf") == contents(temp / "alone"));
  const auto ends = run_world(2, back("shards", "mixed"), {{1, {{}, back("odd", "mixed")}}});
  EXPECT_EQ(ends[0].code, 5) << ends[0].all();
  EXPECT_EQ(ends[1].code, 5);
  EXPECT_THAT(ends[0].all(), HasSubstr("BV8017"));
  EXPECT_FALSE(fs::exists(temp / "mixed"));
}

TEST(WorldCopies, AProcessThatWasToldSomethingElseIsNamed) {
  const TempFolder temp;
  const std::string model = golden_hf("llama").string();
  fs::copy(model, temp / "other", fs::copy_options::recursive);
  std::string config = file_text(temp / "other/config.json");
  config = std::regex_replace(config, std::regex("\\{"), "{\"more\": 1, ",
                              std::regex_constants::format_first_only);
  fs::permissions(temp / "other/config.json", fs::perms::owner_write, fs::perm_options::add);
  std::ofstream(temp / "other/config.json") << config;
  const std::vector<std::string> common = {"convert", "--to",       "megatron", "--model", model,
                                           "--out",   temp / "out", "--tp",     "2"};
  const auto with = [&](std::vector<std::string> more) {
    std::vector<std::string> out = common;
    out.insert(out.end(), more.begin(), more.end());
    return out;
  };
  std::vector<std::string> elsewhere = common;
  elsewhere[4] = temp / "other";
  const std::vector<std::pair<std::vector<std::string>, std::string>> cases = {
      {with({"--dtype", "float32"}), "rank 1 has another --dtype than rank 0"},
      {with({"--no-verify"}), "rank 1 has another --no-verify than rank 0"},
      {with({"--set", "rms_norm_eps=1"}), "rank 1 has another --set than rank 0"},
      {elsewhere, "rank 1 has another config.json than rank 0"}};
  for (const auto& [line, wanted] : cases) {
    const auto ends = run_world(2, common, {{1, {{}, line}}});
    EXPECT_EQ(ends[0].code, 5) << ends[0].all();
    EXPECT_EQ(ends[1].code, 5);
    EXPECT_THAT(ends[0].flat(), HasSubstr(wanted));
    EXPECT_FALSE(fs::exists(temp / "out"));
  }
}

}  // namespace
}  // namespace bv::e2e

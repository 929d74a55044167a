// Adapters in a world of processes: the folders and verdicts of one process, whichever command.

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <fstream>
#include <regex>

#include "tests/e2e/world.hpp"

namespace bv::e2e {
namespace {

namespace fs = std::filesystem;
using ::testing::HasSubstr;

std::string base_of(const std::string& name) {
  return fixture("golden/peft/" + name + "/base");
}
std::string adapter_of(const std::string& name) {
  return fixture("golden/peft/" + name + "/adapter");
}

/// Every way that writes an adapter, or with one; `ranks` is a folder that `lora convert` wrote.
std::vector<Words> writing_lines(const std::string& name, const std::string& ranks) {
  const Words of = {"--model", base_of(name), "--adapter"};
  std::vector<Words> out = {
      {"lora", "convert", "--to", "megatron", "--tp", "2"},
      {"lora", "merge"},
      {"lora", "convert", "--to", "hf"},
      {"convert", "--to", "megatron", "--tp", "2"},
  };
  for (std::size_t i = 0; i < out.size(); ++i) {
    out[i].insert(out[i].end(), of.begin(), of.end());
    out[i].push_back(i == 2 ? ranks : adapter_of(name));
  }
  return out;
}

Words with_out(Words line, const std::string& out) {
  line.insert(line.end(), {"--out", out});
  return line;
}

TEST(WorldOfAdapters, WritesTheFoldersOfOneProcess) {
  for (const char* name : {"llama_all", "qwen3_moe_per_expert_legacy"}) {
    if (!fs::exists(base_of(name))) {
      ADD_FAILURE() << name;
      continue;
    }
    const TempFolder temp;
    const auto lines = writing_lines(name, temp / "alone0");
    for (std::size_t i = 0; i < lines.size(); ++i) {
      const std::string number = std::to_string(i);
      const Ended alone = run(with_out(lines[i], temp / ("alone" + number)));
      ASSERT_EQ(alone.code, 0) << alone.all();
      for (const int size : {2, 5}) {
        const std::string out = temp / ("world" + number + "by" + std::to_string(size));
        const auto ends = run_world(size, with_out(lines[i], out));
        for (std::size_t rank = 0; rank < ends.size(); ++rank) {
          EXPECT_EQ(ends[rank].code, 0) << number << ends[rank].all();
          EXPECT_EQ(rank == 0, !ends[rank].all().empty()) << "rank 0 alone speaks";
        }
        EXPECT_TRUE(contents(out) == contents(temp / ("alone" + number))) << name << number << size;
      }
    }
  }
}

/// The document of --json without what differs from run to run.
std::string judged(const Ended& end) {
  auto out = nlohmann::ordered_json::parse(end.out);
  out.erase("run");
  return out.dump(1);
}

TEST(WorldOfAdapters, GivesTheVerdictsOfOneProcess) {
  const std::string name = "llama_all";
  const TempFolder temp;
  const std::string right = adapter_of(name);
  fs::copy(right, temp / "wrong", fs::copy_options::recursive);
  std::string config = file_text(temp / "wrong/adapter_config.json");
  config = std::regex_replace(config, std::regex("\"r\": [0-9]+"), "\"r\": 3");
  std::ofstream(temp / "wrong/adapter_config.json") << config;
  for (const std::string& adapter : {right, temp / "wrong"}) {
    for (const Words& command : {Words{"lora", "check"}, Words{"check", "--level", "data"}}) {
      Words line = command;
      line.insert(line.end(),
                  {"--model", base_of(name), "--adapter", adapter, "--tp", "2", "--json"});
      const Ended alone = run(line);
      EXPECT_EQ(alone.code == 0, adapter == right) << alone.all();
      for (const int size : {2, 4}) {
        const auto ends = run_world(size, line);
        for (const Ended& end : ends) {
          EXPECT_EQ(end.code, alone.code) << end.all();
        }
        ASSERT_FALSE(ends[0].out.empty());
        EXPECT_EQ(judged(ends[0]), judged(alone)) << command[0] << size;
      }
    }
  }
}

TEST(WorldOfAdapters, ProcessesWithDifferentAdaptersAreToldBeforeAnythingIsWritten) {
  const std::string name = "llama_all";
  const TempFolder temp;
  fs::copy(adapter_of(name), temp / "other", fs::copy_options::recursive);
  std::string config = file_text(temp / "other/adapter_config.json");
  config = std::regex_replace(config, std::regex("\"lora_alpha\": [0-9]+"), "\"lora_alpha\": 7");
  std::ofstream(temp / "other/adapter_config.json") << config;
  for (const Words& way : {Words{"lora", "merge"}, {"lora", "convert", "--to", "megatron"}}) {
    Words line = with_out(way, temp / "out");
    line.insert(line.end(), {"--model", base_of(name), "--adapter"});
    Words other = line;
    line.push_back(adapter_of(name));
    other.push_back(temp / "other");
    const auto ends = run_world(3, line, {{1, {{}, other}}});
    for (const Ended& end : ends) {
      EXPECT_EQ(end.code, 5) << end.all();
      EXPECT_THAT(end.flat(), ::testing::ContainsRegex("BV8017.?: rank 1 ")) << way[1];
    }
    EXPECT_FALSE(fs::exists(temp / "out"));
  }
}

}  // namespace
}  // namespace bv::e2e

// What is left to go wrong in a world: a process that hangs in the system, that has no thread, no
// stdout or no room, and copies that are described or cut otherwise. All end alike, and soon.

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <chrono>
#include <fstream>
#include <regex>

#include "tests/e2e/world.hpp"

namespace bv::e2e {
namespace {

namespace fs = std::filesystem;
using ::testing::ContainsRegex;
using ::testing::HasSubstr;

/// Two processes; rank `odd` does `first` in a shell before it becomes the command.
std::vector<Ended> two(std::size_t odd, const std::string& first, const Words& line,
                       const std::string& first_of_other = ":", const Variables& more = {}) {
  std::vector<Ended> out(2);
  std::vector<std::thread> threads;
  const int port = free_port();
  for (int rank = 0; rank < 2; ++rank) {
    threads.emplace_back([&, rank] {
      const auto at = static_cast<std::size_t>(rank);
      Setting setting;
      setting.variables = torchrun(rank, 2, port);
      setting.variables.insert(more.begin(), more.end());
      setting.program = "/bin/bash";
      out[at] = run_in(
          setting,
          Words{"-c", (at == odd ? first : first_of_other) + "; exec \"$0\" \"$@\"", BV_BINARY} +
              line);
    });
  }
  for (std::thread& thread : threads) {
    thread.join();
  }
  return out;
}

Words check_llama(const Words& more) {
  return Words{"check", "--model", golden_hf("llama").string(), "--tp", "2"} + more;
}

TEST(WorldManners, RefutedRulesAreTheVerdictOfAllAndAreReadBack) {
  const TempFolder temp;
  for (const auto& entry : fs::directory_iterator(fixture("broken"))) {
    const Words line = check_llama({"--rules", entry.path().string(), "--patience", "20"});
    const Ended alone = run(line + Words{"--out", temp / "alone"});
    const auto ends = run_world(2, line + Words{"--out", temp / "world"});
    EXPECT_EQ(ends[0].code, alone.code) << entry.path() << ends[0].all();
    EXPECT_EQ(ends[1].code, alone.code) << entry.path() << ends[1].all();
    if (alone.code == 1) {
      EXPECT_EQ(run({"report", "csv", temp / "alone/verdicts.json"}).code, 0) << entry.path();
    }
  }
}

/// The pipe of `--rules -` gives nothing, and is not closed.
TEST(WorldManners, AProcessThatHangsInTheSystemEndsAll) {
  const std::string rules = fixture("broken/swapped_gate_up.rules.json");
  const auto begin = std::chrono::steady_clock::now();
  const auto ends = two(1, "exec < <(sleep 30 2>/dev/null)",
                        check_llama({"--patience", "2", "--rules", "-"}), "exec <'" + rules + "'");
  EXPECT_LT(std::chrono::steady_clock::now() - begin, std::chrono::seconds(40));
  EXPECT_EQ(ends[0].code, 5) << ends[0].all();
  EXPECT_EQ(ends[1].code, 5) << ends[1].all();
  EXPECT_THAT(ends[0].flat(), ContainsRegex("rank 1 .*does not move for 2 s"));
  EXPECT_THAT(ends[1].flat(), HasSubstr("stuck in a call of the system"));
}

TEST(WorldManners, AResultThatCannotBeWrittenIsTheEndOfAll) {
  const TempFolder temp;
  const Words convert = {"convert", "--to", "megatron", "--model",   golden_hf("llama").string(),
                         "--tp",    "2",    "--out",    temp / "out"};
  for (const Words& line : {check_llama({}), check_llama({"--json"}), convert}) {
    const auto ends = two(0, "exec >/dev/full", line);
    EXPECT_EQ(ends[0].code, 5) << ends[0].all();
    EXPECT_EQ(ends[1].code, 5) << ends[1].all();
  }
}

TEST(WorldManners, SettingsAreNotedOnce) {
  const auto ends = two(1, ":", check_llama({}), ":", {{"BRIDGE_VERIFY_PP", "1"}});
  EXPECT_THAT(ends[0].err, HasSubstr("BRIDGE_VERIFY_PP"));
  EXPECT_EQ(ends[1].all(), "");
}

TEST(WorldManners, ADeviceOfOneProcessAloneIsRefused) {
  const Words line = check_llama({"--level", "data", "--patience", "20"});
  for (const int odd : {0, 1}) {
    const auto ends = run_world(
        2, line, {{odd, {{}, line + Words{"--device", "cuda"}}}},
        [](int rank, int size, int port) {
          Variables out = torchrun(rank, size, port);
          out["FAKE_CUDA"] = "devices=2";
          return out;
        },
        BV_COMMAND_ON_HOST);
    EXPECT_EQ(ends[0].code, 5) << ends[0].all();
    EXPECT_EQ(ends[1].code, 5) << ends[1].all();
    EXPECT_THAT(ends[0].flat(), HasSubstr("--device"));
  }
}

/// Another text beside the tensors, in every file of the copy.
void describe_otherwise(const fs::path& copy) {
  int changed = 0;
  for (const std::string& file : files_below(copy)) {
    if (file.ends_with(".safetensors")) {
      fs::permissions(copy / file, fs::perms::owner_write, fs::perm_options::add);
      const std::string text = file_text(copy / file);
      const std::string other =
          std::regex_replace(text.substr(0, 65536), std::regex("\"format\": ?\"pt\""),
                             "\"format\":\"np\"", std::regex_constants::format_first_only);
      std::string whole = other + text.substr(std::min<std::size_t>(text.size(), 65536));
      changed += whole != text ? 1 : 0;
      ASSERT_EQ(whole.size(), text.size());
      std::ofstream(copy / file, std::ios::binary) << whole;
    }
  }
  ASSERT_GT(changed, 0);
}

TEST(WorldManners, MergesOfCopiesThatAreDescribedOtherwiseAreNotMixed) {
  const TempFolder temp;
  const std::string base = fixture("golden/peft/dora/base");
  fs::copy(base, temp / "copy", fs::copy_options::recursive);
  describe_otherwise(temp / "copy");
  const auto line = [&](const std::string& model) {
    return Words{"lora",  "merge",      "--model",
                 model,   "--adapter",  fixture("golden/peft/dora/adapter"),
                 "--out", temp / "out", "--patience",
                 "20"};
  };
  const auto ends = run_world(2, line(base), {{1, {{}, line(temp / "copy")}}});
  EXPECT_EQ(ends[0].code, 5) << ends[0].all();
  EXPECT_EQ(ends[1].code, 5) << ends[1].all();
  EXPECT_THAT(ends[0].flat(), HasSubstr("text in the headers"));
  EXPECT_FALSE(fs::exists(temp / "out"));
}

TEST(WorldManners, MemoryOrThreadsThatOneProcessDoesNotGetAreToldByRankZero) {
#ifdef BV_SANITIZED
  GTEST_SKIP() << "a sanitizer has an allocator of its own";
#endif
  const TempFolder temp;
  const std::vector<Words> lines = {
      check_llama({"--level", "data"}),
      {"lora", "merge", "--model", fixture("golden/peft/dora/base"), "--adapter",
       fixture("golden/peft/dora/adapter"), "--out", temp / "out"}};
  int refused = 0;
  for (const Words& line : lines) {
    for (const auto& [what, number] : {std::pair("REFUSE_ALLOCATION", "4000"),
                                       {"REFUSE_ALLOCATION", "20000"},
                                       {"REFUSE_THREADS", "0"}}) {
      for (const int odd : {0, 1}) {
        fs::remove_all(temp / "out");
        const auto ends =
            run_world(2, line + Words{"--patience", "10"},
                      {{odd, {{}, {}, {{"LD_PRELOAD", BV_REFUSALS}, {what, number}}}}});
        EXPECT_EQ(ends[0].code, ends[1].code) << what << number << ends[0].all() << ends[1].all();
        EXPECT_EQ(ends[1].out, "") << what << number;
        if (ends[0].code != 0) {
          ++refused;
          EXPECT_EQ(ends[0].code, 5) << ends[0].all();
          EXPECT_THAT(ends[0].all() + ends[1].all(), ContainsRegex("memory|thread")) << what;
        }
      }
    }
  }
  EXPECT_GT(refused, 3);
}

}  // namespace
}  // namespace bv::e2e

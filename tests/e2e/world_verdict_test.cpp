// What one process of a world finds is the verdict of all: told once, with its rank, and all end
// with one exit code.

#include <fmt/format.h>
#include <gmock/gmock.h>
#include <signal.h>
#include <sys/resource.h>

#include <chrono>
#include <regex>

#include "tests/e2e/world.hpp"

namespace bv::e2e {
namespace {

namespace fs = std::filesystem;
using ::testing::HasSubstr;
using ::testing::Not;

/// Calls `act` once when the process has mapped a file of the folder: its headers are read then.
std::function<void(pid_t)> once_mapped(const fs::path& folder, std::function<void(pid_t)> act) {
  return [folder, act = std::move(act), done = false](pid_t process) mutable {
    if (!done && file_text(fmt::format("/proc/{}/maps", process)).find(folder.string()) !=
                     std::string::npos) {
      done = true;
      act(process);
    }
  };
}

std::size_t errors_told(const std::vector<Ended>& ends) {
  std::size_t out = 0;
  for (const Ended& end : ends) {
    const std::string text = end.all();
    for (std::size_t at = text.find("error["); at != std::string::npos;
         at = text.find("error[", at + 1)) {
      ++out;
    }
  }
  return out;
}

TEST(WorldVerdict, ACopyThatChangesUnderOneProcessIsToldWithItsRank) {
  for (const bool converts : {false, true}) {
    const TempFolder temp;
    EditedCheckpoint model = large_llama(512, 12);
    model.write(temp.path() / "a/m");
    model.write(temp.path() / "b/m");
    const Words line = converts
                           ? Words{"convert", "--to", "megatron", "--model", "m",         "--tp",
                                   "2",       "-j",   "1",        "--out",   temp / "out"}
                           : Words{"roundtrip", "--model", "m", "--tp", "2", "-j", "1"};
    const std::string file = temp / "b/m/model.safetensors";
    const auto touch = [&](pid_t) {
      fs::last_write_time(file, fs::file_time_type::clock::now() + std::chrono::seconds(2));
    };
    const auto ends = run_world(
        2, line,
        {{0, {.folder = temp.path() / "a"}},
         {1, {.watch = once_mapped(temp.path() / "b", touch), .folder = temp.path() / "b"}}});
    EXPECT_EQ(ends[0].code, 5) << ends[0].all();
    EXPECT_EQ(ends[1].code, 5) << ends[1].all();
    EXPECT_THAT(ends[0].all(), HasSubstr("BV7007"));
    EXPECT_THAT(ends[0].flat(), HasSubstr("rank 1"));
    EXPECT_THAT(ends[0].all(), Not(HasSubstr("PASS")));
    EXPECT_EQ(errors_told(ends), 1U) << ends[1].all();
    EXPECT_FALSE(fs::exists(temp / "out"));
  }
}

/// Of all that is judged on a GPU: each claim alone, and all of them.
TEST(WorldVerdict, AGpuThatFailsIsNamedWhoseverItIs) {
  for (const char* only : {"gpu", "bytes", "bytes,gpu"}) {
    for (const int odd : {0, 2}) {
      std::map<int, Special> special;
      for (int rank = 0; rank < 3; ++rank) {
        special[rank].variables["FAKE_CUDA"] =
            rank == odd ? "devices=3 fail=60 code=700 stays" : "devices=3";
      }
      const auto ends =
          run_world(3,
                    {"check", "--level", "data", "--only", only, "--model",
                     golden_hf("llama").string(), "--tp", "2", "--device", "cuda", "-j", "1"},
                    special, torchrun, BV_COMMAND_ON_HOST);
      EXPECT_THAT(ends[0].flat(), HasSubstr("rank " + std::to_string(odd))) << only;
      for (const Ended& end : ends) {
        EXPECT_EQ(end.code, 3) << only << odd << end.all();
      }
      EXPECT_EQ(ends[1].all() + ends[2].all(), "");
    }
  }
}

TEST(WorldVerdict, AProcessThatIsToldToStopIsNamed) {
  const TempFolder temp;
  large_llama(512, 12).write(temp.path() / "m");
  const auto ends = run_world(
      3, {"roundtrip", "--model", temp / "m", "--tp", "2", "-j", "1"},
      {{1, {.watch = once_mapped(temp.path() / "m", [](pid_t p) { ::kill(p, SIGTERM); })}}});
  EXPECT_EQ(ends[1].code, 143) << ends[1].all();
  EXPECT_THAT(ends[0].flat(), HasSubstr("rank 1")) << ends[0].all();
  EXPECT_NE(ends[0].code, 0);
  EXPECT_EQ(ends[0].code, ends[2].code);
}

TEST(WorldVerdict, AMistakeThatAllFindEndsAllAlikeWhoeverIsFirst) {
  for (int round = 0; round < 5; ++round) {
    const auto slow = [done = false](pid_t process) mutable {
      done = done || ::setpriority(PRIO_PROCESS, static_cast<id_t>(process), 19) == 0;
    };
    const auto ends = run_world(7,
                                {"check", "--model", golden_hf("qwen3_5_dense").string(), "--tp",
                                 "2", "--pp", "2", "--ep", "2"},
                                {{round % 2 == 0 ? 0 : 3, {.watch = slow}}});
    for (const Ended& end : ends) {
      EXPECT_EQ(end.code, 2) << end.all();
    }
    EXPECT_EQ(errors_told(ends), 1U);
  }
}

TEST(WorldVerdict, AnErrorOfRankZeroIsToldByItAlone) {
  const TempFolder temp;
  write_text(temp.path() / "out/mine", "x");
  const auto ends = run_world(5, {"convert", "--to", "megatron", "--model",
                                  golden_hf("qwen3").string(), "--tp", "2", "--out", temp / "out"});
  EXPECT_EQ(errors_told(ends), 1U);
  for (std::size_t rank = 0; rank < ends.size(); ++rank) {
    EXPECT_EQ(ends[rank].code, ends[0].code) << rank;
    EXPECT_EQ(ends[rank].all().empty(), rank != 0) << ends[rank].all();
  }
  EXPECT_NE(ends[0].code, 0);
}

TEST(WorldVerdict, ARankZeroThatIsKilledIsToldByEachInOneLine) {
  const TempFolder temp;
  large_llama(512, 12).write(temp.path() / "m");
  const auto ends = run_world(
      3, {"roundtrip", "--model", temp / "m", "--tp", "2", "-j", "1"},
      {{0, {.watch = once_mapped(temp.path() / "m", [](pid_t p) { ::kill(p, SIGKILL); })}}});
  for (const std::size_t rank : {1U, 2U}) {
    EXPECT_EQ(ends[rank].code, 5);
    EXPECT_TRUE(std::regex_match(
        ends[rank].all(), std::regex(fmt::format("rank {} ends with BV8004: rank 0 .*\n", rank))))
        << ends[rank].all();
  }
}

}  // namespace
}  // namespace bv::e2e

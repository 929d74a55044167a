// One process of a world is killed or stopped at a random moment of everything that a world does,
// on a machine that is busy: every other one names it, all end alike, nobody waits for ever, and
// what is written is whole or not there.

#include <gmock/gmock.h>
#include <signal.h>
#include <sys/resource.h>

#include <array>
#include <atomic>
#include <chrono>
#include <random>
#include <regex>

#include "tests/e2e/world.hpp"

namespace bv::e2e {
namespace {

namespace fs = std::filesystem;
using ::testing::HasSubstr;

/// Sends a signal some milliseconds after the start, and ends what was stopped when the others have
/// had their time.
std::function<void(pid_t)> lost_after(int milliseconds, int signal) {
  const auto at = std::chrono::steady_clock::now() + std::chrono::milliseconds(milliseconds);
  return [at, signal, sent = false, ended = false](pid_t process) mutable {
    const auto now = std::chrono::steady_clock::now();
    if (!sent && now >= at) {
      sent = true;
      ::kill(process, signal);
    }
    if (!ended && now >= at + std::chrono::seconds(8)) {
      ended = true;
      ::kill(process, SIGKILL);
    }
  };
}

struct LostWay {
  const char* name;
  Words line;   // without --out
  bool writes;  // a folder
};

class LostProcess : public ::testing::TestWithParam<std::tuple<int, int>> {};

LostWay way_of(int number, const TempFolder& temp) {
  const std::string peft = fixture("golden/peft/llama_all/");
  switch (number) {
    case 0:
      return {"to hf", {"convert", "--to", "hf", "--model", temp / "shards"}, true};
    case 1:
      return {"to megatron, merged",
              {"convert", "--to", "megatron", "--model", peft + "base", "--adapter",
               peft + "adapter", "--tp", "2", "--pp", "2"},
              true};
    case 2:
      return {"lora merge",
              {"lora", "merge", "--model", peft + "base", "--adapter", peft + "adapter"},
              true};
    default:
      return {"check",
              {"check", "--model", golden_hf("qwen3_moe").string(), "--level", "data", "--tp", "2"},
              false};
  }
}

/// Others work on this machine while it lives, and give way a little.
class Load {
 public:
  Load() {
    for (std::thread& one : threads_) {
      one = std::thread([this] {
        ::setpriority(PRIO_PROCESS, static_cast<id_t>(::gettid()), 5);
        while (!over_) {
        }
      });
    }
  }
  Load(const Load&) = delete;
  Load& operator=(const Load&) = delete;
  Load(Load&&) = delete;
  Load& operator=(Load&&) = delete;
  ~Load() {
    over_ = true;
    for (std::thread& one : threads_) {
      one.join();
    }
  }

 private:
  std::atomic<bool> over_{false};
  std::array<std::thread, 2> threads_;
};

constexpr int kSize = 3;

/// What is wrong with how the others ended: "" for nothing.
std::string wrong_in(const std::vector<Ended>& ends, int odd) {
  const std::regex named("(BV8004.*|error.*): rank " + std::to_string(odd) + "\\b");
  int failed = 0;
  for (int rank = 0; rank < kSize; ++rank) {
    const Ended& end = ends[static_cast<std::size_t>(rank)];
    if (rank == odd || end.code == 0) {
      continue;
    }
    ++failed;
    if (end.code != 5) {
      return "the exit code of rank " + std::to_string(rank);
    }
    const bool names = std::regex_search(end.flat(), named);
    if (!names) {
      return "rank " + std::to_string(rank) + " does not name who was lost";
    }
  }
  if (odd != 0 && failed > 0 && ends[0].out.find("bridge-verify: PASS") != std::string::npos) {
    return "PASS is said, and the world failed";
  }
  return failed == 0 || failed == kSize - 1 ? "" : "some end well and some do not";
}

TEST_P(LostProcess, IsNamedByAllOthersAndNothingIsHalf) {
  const auto [number, signal] = GetParam();
  const TempFolder temp;
  ASSERT_EQ(run({"convert", "--to", "megatron", "--model", golden_hf("qwen3_moe").string(), "--tp",
                 "2", "--pp", "2", "--out", temp / "shards"})
                .code,
            0);
  const LostWay way = way_of(number, temp);
  const auto with_out = [&](const std::string& out) {
    return way.line + Words{"--patience", "2", "--out", out};
  };
  const Ended alone = run(with_out(temp / "alone"));
  ASSERT_EQ(alone.code, 0) << alone.all();
  const auto wanted = contents(temp / "alone");
  const Load load;
  const auto began = std::chrono::steady_clock::now();
  for (const Ended& end : run_world(kSize, with_out(temp / "whole"))) {
    ASSERT_EQ(end.code, 0) << end.all();
  }
  const auto whole = std::chrono::duration_cast<std::chrono::milliseconds>(
      std::chrono::steady_clock::now() - began);
  std::mt19937 random(static_cast<unsigned>(number * 100 + signal));
  int lost = 0;
  for (int round = 0; round < 5; ++round) {
    const std::string out = temp / ("out" + std::to_string(round));
    const int odd = static_cast<int>(random() % kSize);
    const int after = static_cast<int>(random() % static_cast<unsigned>(whole.count() + 1));
    const auto ends = run_world(kSize, with_out(out), {{odd, {lost_after(after, signal), {}}}});
    const std::string where = std::string(way.name) + ": rank " + std::to_string(odd) + " after " +
                              std::to_string(after) + " ms: " + ends[0].all() + ends[1].all() +
                              ends[2].all();
    if (way.writes && fs::exists(out)) {
      EXPECT_TRUE(contents(out) == wanted) << where;
    }
    EXPECT_EQ(wrong_in(ends, odd), "") << where;
    lost += ends[odd == 0 ? 1 : 0].code != 0 ? 1 : 0;
  }
  EXPECT_GT(lost, 0) << "no process was lost early enough";
}

INSTANTIATE_TEST_SUITE_P(Ways, LostProcess,
                         ::testing::Combine(::testing::Values(0, 1, 2, 3),
                                            ::testing::Values(SIGKILL, SIGSTOP)));

}  // namespace
}  // namespace bv::e2e

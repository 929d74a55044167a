// One process of a world is killed or stopped at a random moment of everything that a world does:
// it is named, nobody waits for ever, and what is written is whole or not there.

#include <gmock/gmock.h>
#include <signal.h>

#include <chrono>
#include <random>

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
    if (!ended && now >= at + std::chrono::seconds(12)) {
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
    default:
      return {"check",
              {"check", "--model", golden_hf("qwen3_moe").string(), "--level", "data", "--tp", "2"},
              false};
  }
}

TEST_P(LostProcess, IsNamedAndNothingIsHalf) {
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
  std::mt19937 random(static_cast<unsigned>(number * 100 + signal));
  int lost = 0;
  for (int round = 0; round < 6; ++round) {
    const std::string out = temp / ("out" + std::to_string(round));
    const int odd = static_cast<int>(random() % 3);
    const int after = static_cast<int>(random() % 120);
    const auto ends = run_world(3, with_out(out), {{odd, {lost_after(after, signal), {}}}});
    const std::string where = std::string(way.name) + ": rank " + std::to_string(odd) + " after " +
                              std::to_string(after) + " ms: " + ends[0].all() + ends[1].all();
    if (way.writes && fs::exists(out)) {
      EXPECT_TRUE(contents(out) == wanted) << where;
    }
    bool named = false;
    bool failed = false;
    for (int rank = 0; rank < 3; ++rank) {
      const Ended& end = ends[static_cast<std::size_t>(rank)];
      if (rank != odd && end.code != 0) {
        EXPECT_EQ(end.code, 5) << where;
        failed = true;
        named = named || end.flat().find("rank " + std::to_string(odd)) != std::string::npos;
      }
    }
    // Rank 0 has said that all is well and is gone: who waits for its last word names it.
    const bool over =
        odd != 0 && ends[0].code == 0 &&
        ends[static_cast<std::size_t>(3 - odd)].flat().find("rank 0") != std::string::npos;
    EXPECT_TRUE(named || !failed || over) << where << ends[2].all();
    EXPECT_TRUE(failed || !named) << where;
    lost += failed ? 1 : 0;
  }
  EXPECT_GT(lost, 0) << "no process was lost early enough";
}

INSTANTIATE_TEST_SUITE_P(Ways, LostProcess,
                         ::testing::Combine(::testing::Values(0, 1, 2),
                                            ::testing::Values(SIGKILL, SIGSTOP)));

}  // namespace
}  // namespace bv::e2e

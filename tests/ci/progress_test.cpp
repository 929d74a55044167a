#include "ci/cli/session/progress.hpp"

#include <gtest/gtest.h>

#include <csignal>
#include <nlohmann/json.hpp>
#include <thread>

#include "ci/cli/session/signals.hpp"

namespace bv::cli {
namespace {

struct Screen {
  double now = 0;
  std::vector<std::string> shown;
  Progress progress;
  explicit Screen(ProgressMode mode)
      : progress(
            {.mode = mode, .width = [] { return 120; }}, [this] { return now; },
            [this](std::string_view text) { shown.emplace_back(text); }) {}
};

TEST(ProgressLine, LooksLikeTheManual) {
  const ProgressState state{.phase = "bytes",
                            .done_bytes = 34'500'000'000,
                            .total_bytes = 71'900'000'000,
                            .done = 502,
                            .total = 1045,
                            .bytes_per_second = 1.4e9,
                            .eta_seconds = 26.0,
                            .current = "layers.17.mlp.experts.gate_up_proj"};
  EXPECT_EQ(progress_line(state, 160, false),
            "bytes     [=============>              ] 47 %  34.5/71.9 GB  502/1,045 tensors  1.4 "
            "GB/s  ETA 0:26  "
            "layers.17.mlp.experts.gate_up_proj");
}

TEST(ProgressLine, FitsEveryWidth) {
  const ProgressState state{.phase = "bytes",
                            .done_bytes = 1,
                            .total_bytes = 3,
                            .done = 1,
                            .total = 3,
                            .bytes_per_second = 1,
                            .eta_seconds = 2.0,
                            .current = std::string(500, 'x')};
  for (const int width : {20, 40, 80, 200}) {
    EXPECT_LE(progress_line(state, width, true).size(), static_cast<std::size_t>(width));
  }
}

TEST(ProgressLine, NamesWhatItCounts) {
  ProgressState state;
  state.phase = "mutants";
  state.done = 3;
  state.total = 79;
  EXPECT_NE(progress_line(state, 160, false).find("3/79 places"), std::string::npos);
  state.phase = "forward";
  EXPECT_NE(progress_line(state, 160, false).find("3/79 layouts"), std::string::npos);
}

TEST(EtaText, RoundsToFiveSecondsAboveAMinute) {
  EXPECT_EQ(eta_text(0), "0:00");
  EXPECT_EQ(eta_text(25.2), "0:26");
  EXPECT_EQ(eta_text(60), "1:00");
  EXPECT_EQ(eta_text(61), "1:05");
  EXPECT_EQ(eta_text(3901), "1:05:05");
  EXPECT_EQ(eta_text(-4), "0:00");
  EXPECT_EQ(eta_text(1e300), "100:00:00");
}

TEST(ProgressMode, FollowsFlagAndTerminal) {
  EXPECT_EQ(progress_mode("auto", true, 0), ProgressMode::Line);
  EXPECT_EQ(progress_mode("auto", false, 0), ProgressMode::Plain);
  EXPECT_EQ(progress_mode("auto", true, -1), ProgressMode::Off);
  EXPECT_EQ(progress_mode("always", false, -1), ProgressMode::Line);
  EXPECT_EQ(progress_mode("never", true, 0), ProgressMode::Off);
  EXPECT_EQ(progress_mode("json", true, -2), ProgressMode::Json);
}

TEST(Progress, RedrawsAtMostTenTimesASecondAndErasesItself) {
  Screen screen(ProgressMode::Line);
  screen.progress.start("bytes", 1000, 1000);
  for (int i = 0; i < 1000; ++i) {
    screen.now += 0.001;
    screen.progress.add(1, 1, "x");
  }
  EXPECT_GE(screen.shown.size(), 9U);
  EXPECT_LE(screen.shown.size(), 11U);
  screen.progress.finish();
  EXPECT_EQ(screen.shown.back(), "\r\x1b[K");
}

TEST(Progress, OffTheTerminalPrintsPlainLinesEveryThirtySeconds) {
  Screen screen(ProgressMode::Plain);
  screen.progress.start("bytes", 100, 100);
  for (int second = 1; second <= 65; ++second) {
    screen.now = second;
    screen.progress.add(1, 1, "x");
  }
  screen.progress.finish();
  EXPECT_EQ(screen.shown.size(), 4U);  // 2 s, 32 s, 62 s, end
  for (const std::string& line : screen.shown) {
    EXPECT_EQ(line.find('\x1b'), std::string::npos);
    EXPECT_TRUE(line.ends_with("\n"));
  }
}

TEST(Progress, ALogDoesNotHearOfAShortPhase) {
  Screen screen(ProgressMode::Plain);
  screen.progress.start("bytes", 100, 100);
  screen.now = 1.5;
  screen.progress.add(100, 100, "x");
  screen.progress.finish();
  EXPECT_TRUE(screen.shown.empty());
}

TEST(ProgressWords, HaveNoBar) {
  const ProgressState state{.phase = "bytes",
                            .done_bytes = 34'500'000'000,
                            .total_bytes = 71'900'000'000,
                            .done = 502,
                            .total = 1045,
                            .bytes_per_second = 1.4e9,
                            .eta_seconds = 26.0,
                            .current = ""};
  EXPECT_EQ(progress_words(state),
            "bytes: 34.5 of 71.9 GB, 502 of 1,045 tensors, 1.4 GB/s, 0:26 left");
}

TEST(ProgressLine, TheBarGivesWayBeforeTheNumbers) {
  const ProgressState state{.phase = "bytes",
                            .done_bytes = 34'500'000'000,
                            .total_bytes = 71'900'000'000,
                            .done = 502,
                            .total = 1045,
                            .bytes_per_second = 1.4e9,
                            .eta_seconds = 26.0,
                            .current = "layers.17"};
  const std::string line = progress_line(state, 80, true);
  EXPECT_NE(line.find("  ETA 0:26"), std::string::npos) << line;
  EXPECT_NE(line.find("1.4 GB/s"), std::string::npos) << line;
  EXPECT_LE(line.size(), 80U);
}

TEST(Progress, ReadsTheWidthAgain) {
  double now = 0;
  int width = 120;
  std::vector<std::string> shown;
  Progress progress(
      {.mode = ProgressMode::Line, .width = [&width] { return width; }}, [&now] { return now; },
      [&shown](std::string_view text) { shown.emplace_back(text); });
  progress.start("bytes", 100'000'000, 100);
  width = 40;
  now = 1;
  progress.add(1000, 1, "x");
  EXPECT_GT(shown.front().size(), 60U);
  EXPECT_LE(shown.back().size(), 40U + std::string_view("\r\x1b[K").size());
}

TEST(Progress, RateIsThatOfTheLastFiveSeconds) {
  Screen screen(ProgressMode::Off);
  screen.progress.start("bytes", 100'000, 100);
  for (int second = 1; second <= 10; ++second) {
    screen.now = second;
    screen.progress.add(second <= 5 ? 10'000 : 1'000, 1, "x");
  }
  const ProgressState state = screen.progress.state();
  EXPECT_DOUBLE_EQ(state.bytes_per_second, 1000.0);
  ASSERT_TRUE(state.eta_seconds.has_value());
  EXPECT_DOUBLE_EQ(*state.eta_seconds, 45.0);
}

TEST(Progress, EtaWaitsThreeSeconds) {
  Screen screen(ProgressMode::Off);
  screen.progress.start("bytes", 100, 100);
  screen.now = 2.9;
  screen.progress.add(10, 1, "x");
  EXPECT_FALSE(screen.progress.state().eta_seconds.has_value());
  screen.now = 3.0;
  EXPECT_TRUE(screen.progress.state().eta_seconds.has_value());
}

TEST(Progress, JsonIsOneObjectASecond) {
  Screen screen(ProgressMode::Json);
  screen.progress.start("bytes", 100, 10);
  for (int i = 1; i <= 20; ++i) {
    screen.now = i * 0.1;
    screen.progress.add(1, 1, "bad\xff");
  }
  ASSERT_GE(screen.shown.size(), 2U);
  ASSERT_LE(screen.shown.size(), 3U);
  const auto object = nlohmann::ordered_json::parse(screen.shown.back());
  std::vector<std::string> keys;
  for (const auto& [key, value] : object.items()) {
    keys.push_back(key);
  }
  EXPECT_EQ(keys, (std::vector<std::string>{"phase", "done_bytes", "total_bytes", "done", "total",
                                            "bytes_per_s", "eta_s", "current"}));
}

TEST(Progress, CountsFromManyThreads) {
  Screen screen(ProgressMode::Off);
  screen.progress.start("bytes", 4000, 4000);
  {
    std::vector<std::jthread> threads;
    for (int t = 0; t < 4; ++t) {
      threads.emplace_back([&screen] {
        for (int i = 0; i < 1000; ++i) {
          screen.progress.add(1, 1, "x");
        }
      });
    }
  }
  EXPECT_EQ(screen.progress.state().done, 4000);
  EXPECT_EQ(screen.progress.state().done_bytes, 4000U);
}

TEST(Signals, AskForOneStatusLine) {
  install_signal_handlers();
  EXPECT_EQ(stop_requested(), 0);
  EXPECT_FALSE(status_requested());
  ASSERT_EQ(std::raise(SIGUSR1), 0);
  EXPECT_TRUE(status_requested());
  EXPECT_FALSE(status_requested());
  ASSERT_EQ(std::raise(SIGPIPE), 0);
}

TEST(Signals, FirstTerminationOnlySetsTheFlag) {
  EXPECT_EXIT(
      {
        install_signal_handlers();
        std::raise(SIGTERM);
        std::_Exit(stop_requested() == SIGTERM ? 7 : 8);
      },
      ::testing::ExitedWithCode(7), "");
  EXPECT_EXIT(
      {
        install_signal_handlers();
        std::raise(SIGINT);
        std::raise(SIGINT);
        std::_Exit(8);
      },
      ::testing::KilledBySignal(SIGINT), "stopping, press again to quit now");
}

}  // namespace
}  // namespace bv::cli

#pragma once
// Ratios that survive a busy machine: anchor and candidate run in turns, and each pair gives one
// ratio. 1.0 means as fast as the anchor.

#include <benchmark/benchmark.h>
#include <sys/resource.h>

#include <algorithm>
#include <chrono>
#include <cstdint>
#include <ctime>
#include <filesystem>
#include <functional>
#include <vector>

namespace bv::bench {

/// Work of one thread is timed by its processor time (and that of programs that it waits for): on a
/// machine that others use, wall time counts their work as well. Work of several threads can only
/// be timed by the wall.
enum class Clock { Processor, Wall };

inline double now(Clock clock) {
  if (clock == Clock::Wall) {
    return std::chrono::duration<double>(std::chrono::steady_clock::now().time_since_epoch())
        .count();
  }
  timespec own{};
  ::clock_gettime(CLOCK_THREAD_CPUTIME_ID, &own);
  rusage children{};
  ::getrusage(RUSAGE_CHILDREN, &children);
  const auto seconds = [](const timeval& time) {
    return static_cast<double>(time.tv_sec) + static_cast<double>(time.tv_usec) * 1e-6;
  };
  return static_cast<double>(own.tv_sec) + static_cast<double>(own.tv_nsec) * 1e-9 +
         seconds(children.ru_utime) + seconds(children.ru_stime);
}

inline double at_share(std::vector<double> sorted, double share) {
  std::sort(sorted.begin(), sorted.end());
  return sorted[static_cast<std::size_t>(share * static_cast<double>(sorted.size() - 1) + 0.5)];
}

/// One of two things that move or read `bytes` bytes.
struct Side {
  std::function<void()> run;
  double bytes = 0;
  std::function<void()> before = {};  // each run, not timed
};

inline double seconds_of(const Side& side, Clock clock) {
  if (side.before) {
    side.before();
  }
  const double begin = now(clock);
  side.run();
  return now(clock) - begin;
}

/// Counters: ratio (median), p10, p90, GBps of the candidate, anchor_GBps.
inline void paired(benchmark::State& state, const Side& anchor, const Side& candidate,
                   Clock clock = Clock::Processor) {
  static_cast<void>(seconds_of(anchor, clock));
  static_cast<void>(seconds_of(candidate, clock));
  std::vector<double> ratios;
  std::vector<double> speeds;
  std::vector<double> anchor_speeds;
  for (auto _ : state) {
    const double a = anchor.bytes / seconds_of(anchor, clock);
    const double seconds = seconds_of(candidate, clock);
    const double c = candidate.bytes / seconds;
    state.SetIterationTime(seconds);
    ratios.push_back(c / a);
    speeds.push_back(c);
    anchor_speeds.push_back(a);
  }
  state.counters["ratio"] = at_share(ratios, 0.5);
  state.counters["p10"] = at_share(ratios, 0.1);
  state.counters["p90"] = at_share(ratios, 0.9);
  state.counters["GBps"] = at_share(speeds, 0.5) / 1e9;
  state.counters["anchor_GBps"] = at_share(anchor_speeds, 0.5) / 1e9;
}

/// What main() was told.
struct Settings {
  std::int64_t bytes = std::int64_t{256} << 20;  // payload of a data benchmark
  std::int64_t pairs = 9;
  std::filesystem::path folder;  // for files
  bool smoke = false;
};

void add_exec_benchmarks(const Settings& settings);
void add_file_benchmarks(const Settings& settings);
void add_proof_benchmarks(const Settings& settings);
void add_memory_benchmarks(const Settings& settings);
void add_lora_benchmarks(const Settings& settings);
void add_adapter_benchmarks(const Settings& settings);

/// Runs one step of add_memory_benchmarks in this process: `step` and the folder of a checkpoint.
int run_memory_step(const char* step, const char* folder);

}  // namespace bv::bench

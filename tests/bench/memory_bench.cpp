// Memory/STEP/size:N: peak memory of one command's work in a process of its own, while the model
// grows. Counters: MiB of ru_maxrss, and of anonymous memory, which is what the program itself
// holds.

#include <fmt/format.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

#include <atomic>
#include <cstdio>
#include <fstream>
#include <string_view>
#include <thread>

#include "properties/claims/roundtrip.hpp"
#include "tests/bench/judging.hpp"
#include "tests/bench/model_maker.hpp"
#include "tests/bench/paired.hpp"

namespace bv::bench {
namespace fs = std::filesystem;

namespace {

/// "RssAnon" of this process now, in KiB.
std::int64_t anonymous_kib() {
  std::ifstream in("/proc/self/status");
  for (std::string line; std::getline(in, line);) {
    if (line.starts_with("RssAnon:")) {
      return std::stoll(line.substr(8));
    }
  }
  return 0;
}

int convert_step(const fs::path& folder) {
  const auto kinds = kinds::load_catalogue().value();
  const checkpoint::HfModel source = open_checkpoint(folder).value();
  parallel::Layout layout;
  layout.tp = layout.etp = 4;
  convert::ConvertOptions options;
  options.jobs = 2;
  options.overwrite = true;
  const fs::path out = folder.parent_path() / "shards";
  const bool done = convert::to_megatron(source, kinds, layout, out, options).has_value();
  fs::remove_all(out);
  return done ? 0 : 1;
}

int write_dist_step(const fs::path& folder) {
  const auto kinds = kinds::load_catalogue().value();
  const checkpoint::HfModel source = open_checkpoint(folder).value();
  convert::ConvertOptions options;
  options.jobs = 2;
  options.overwrite = true;
  const fs::path out = folder.parent_path() / "dist";
  return convert::to_torch_dist(source, kinds, {}, out, options).has_value() ? 0 : 1;
}

/// Of what write_dist_step left, which goes.
int judge_step(const fs::path& folder) {
  const auto kinds = kinds::load_catalogue().value();
  const checkpoint::HfModel source = open_checkpoint(folder).value();
  const fs::path dist = folder.parent_path() / "dist";
  const bool equal = is_judged_equal(source, kinds, dist / "iter_0000000", 2);
  fs::remove_all(dist);
  return equal ? 0 : 1;
}

int round_trip_step(const fs::path& folder) {
  const auto kinds = kinds::load_catalogue().value();
  const checkpoint::HfModel source = open_checkpoint(folder).value();
  parallel::Layout layout;
  layout.tp = layout.etp = 4;
  const auto plan = plan::Plan::make(source.model, kinds, layout).value();
  claims::MoveCount count;
  for (std::size_t i = 0; i < source.model.mappings.size(); ++i) {
    const auto fault =
        claims::check_round_trip(plan, i, *source.checkpoint, std::int64_t{4} << 20, count);
    if (!fault || *fault) {
      return 1;
    }
  }
  return 0;
}

/// The work of a step; `folder` holds the HF model.
int run_step(std::string_view step, const fs::path& folder) {
  return step == "convert"      ? convert_step(folder)
         : step == "torch_dist" ? write_dist_step(folder)
         : step == "judge"      ? judge_step(folder)
                                : round_trip_step(folder);
}

struct Peaks {
  double resident_mib = 0;
  double anonymous_mib = 0;
};

/// Starts this program again for one step, so that its peak is its own.
Peaks measure(const std::string& step, const fs::path& folder) {
  const fs::path report = folder.parent_path() / "peaks";
  const std::string self = fs::read_symlink("/proc/self/exe").string();
  const pid_t child = ::fork();
  if (child == 0) {
    BV_ASSERT(std::freopen(report.c_str(), "w", stdout) != nullptr);
    ::execl(self.c_str(), self.c_str(), "--memory-step", step.c_str(), folder.c_str(), nullptr);
    ::_exit(127);
  }
  int status = 0;
  struct rusage usage {};
  ::wait4(child, &status, 0, &usage);
  BV_ASSERT(WIFEXITED(status) && WEXITSTATUS(status) == 0);
  std::int64_t anonymous = 0;
  std::ifstream(report) >> anonymous;
  return {static_cast<double>(usage.ru_maxrss) / 1024, static_cast<double>(anonymous) / 1024};
}

void memory_bench(benchmark::State& state, const Settings& settings, const std::string& step,
                  std::int64_t bytes) {
  const Scratch scratch(settings.folder, "memory");
  fs::create_directories(scratch.path() / "hf");
  BV_ASSERT(make_checkpoint(scratch.path() / "hf", config_for_bytes(bytes)).has_value());
  if (step == "judge") {
    measure("torch_dist", scratch.path() / "hf");
  }
  for (auto _ : state) {
    const Peaks peaks = measure(step, scratch.path() / "hf");
    state.counters["maxrss_MiB"] = peaks.resident_mib;
    state.counters["anon_MiB"] = peaks.anonymous_mib;
  }
  state.counters["model_MiB"] = static_cast<double>(bytes) / (1 << 20);
}

}  // namespace

void add_memory_benchmarks(const Settings& settings) {
  const std::int64_t first = settings.smoke ? settings.bytes : std::int64_t{256} << 20;
  for (const std::string step : {"roundtrip", "convert", "torch_dist", "judge"}) {
    // 16 times is 4 GiB, and as much again for what convert writes: give a folder on a disk.
    for (const std::int64_t factor : {1, 4, 16}) {
      benchmark::RegisterBenchmark(
          fmt::format("Memory/{}/x{}", step, factor).c_str(),
          [=](benchmark::State& state) { memory_bench(state, settings, step, factor * first); })
          ->Iterations(1)
          ->Unit(benchmark::kMillisecond);
    }
  }
}

int run_memory_step(const char* step, const char* folder) {
  std::atomic<bool> done{false};
  std::atomic<std::int64_t> peak{0};
  std::thread watch([&] {
    while (!done) {
      peak = std::max(peak.load(), anonymous_kib());
      ::usleep(2000);
    }
  });
  const int status = run_step(step, folder);
  done = true;
  watch.join();
  std::printf("%lld\n", static_cast<long long>(std::max(peak.load(), anonymous_kib())));
  return status;
}

}  // namespace bv::bench

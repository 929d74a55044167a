// bv_bench [--size-mib=N] [--pairs=N] [--folder=DIR] [Google Benchmark options]: ratios to anchors
// of the same run.

#include <algorithm>
#include <cstdlib>
#include <string_view>
#include <vector>

#include "tests/bench/model_maker.hpp"
#include "tests/bench/paired.hpp"

int main(int argc, char** argv) {
  bv::bench::Settings settings;
  settings.folder = bv::bench::default_folder();
  std::vector<char*> rest;
  for (int i = 0; i < argc; ++i) {
    const std::string_view word = argv[i];
    if (word.starts_with("--size-mib=")) {
      settings.bytes = std::max<std::int64_t>(1, std::atoll(word.substr(11).data())) << 20;
    } else if (word.starts_with("--pairs=")) {
      settings.pairs = std::max<std::int64_t>(1, std::atoll(word.substr(8).data()));
    } else if (word.starts_with("--folder=")) {
      settings.folder = word.substr(9);
    } else if (word == "--memory-step" && i + 2 < argc) {
      return bv::bench::run_memory_step(argv[i + 1], argv[i + 2]);
    } else {
      rest.push_back(argv[i]);
    }
  }
  settings.smoke = settings.bytes < (std::int64_t{64} << 20);
  settings.pairs = settings.smoke ? 1 : settings.pairs;
  bv::bench::add_exec_benchmarks(settings);
  bv::bench::add_file_benchmarks(settings);
  bv::bench::add_proof_benchmarks(settings);
  bv::bench::add_memory_benchmarks(settings);
  bv::bench::add_lora_benchmarks(settings);
  bv::bench::add_adapter_benchmarks(settings);
  int count = static_cast<int>(rest.size());
  benchmark::Initialize(&count, rest.data());
  if (benchmark::ReportUnrecognizedArguments(count, rest.data())) {
    return 2;
  }
  benchmark::RunSpecifiedBenchmarks();
  return 0;
}

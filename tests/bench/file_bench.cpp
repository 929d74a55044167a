// Verify/...: checks of stored checkpoints against a read-only sum and cmp. Io/...: conversions
// against a copy of the same files by pread and pwrite, and by cp.

#include <fcntl.h>
#include <fmt/format.h>
#include <sys/wait.h>
#include <unistd.h>

#include <memory>
#include <numeric>

#include "core/compare/diff.hpp"
#include "core/convert/convert.hpp"
#include "core/io/mapped_file.hpp"
#include "core/io/writer.hpp"
#include "core/torch_dist/store.hpp"
#include "properties/claims/roundtrip.hpp"
#include "tests/bench/buffers.hpp"
#include "tests/bench/judging.hpp"
#include "tests/bench/model_maker.hpp"
#include "tests/bench/paired.hpp"

namespace bv::bench {
namespace fs = std::filesystem;

namespace {

constexpr std::size_t kReadBytes = std::size_t{256} << 10;
constexpr std::size_t kReleaseBytes = std::size_t{16} << 20;

/// One checkpoint for all file benchmarks of a run, made when the first one starts.
struct Stage {
  explicit Stage(const Settings& settings) : scratch(settings.folder, "files") {
    fs::create_directories(scratch.path() / "hf");
    auto made = make_checkpoint(scratch.path() / "hf", config_for_bytes(settings.bytes));
    BV_ASSERT(made.has_value());
    source = std::make_unique<checkpoint::HfModel>(open_checkpoint(scratch.path() / "hf").value());
    BV_ASSERT(source->model.faults.empty() && source->checkpoint.has_value());
  }
  Scratch scratch;
  std::unique_ptr<checkpoint::HfModel> source;
  kinds::Catalogue kinds = kinds::load_catalogue().value();
  [[nodiscard]] double bytes() const {
    return static_cast<double>(source->checkpoint->total_bytes());
  }
};

Stage& stage(const Settings& settings) {
  static Stage one(settings);
  return one;
}

parallel::Layout ranks(std::int64_t tp) {
  parallel::Layout out;
  out.tp = out.etp = tp;
  return out;
}

std::uint64_t sum_of(std::span<const std::byte> part) {
  std::uint64_t lanes[8] = {};
  std::size_t k = 0;
  for (; k + 64 <= part.size(); k += 64) {
    std::uint64_t words[8];
    std::memcpy(words, part.data() + k, 64);
    for (std::size_t lane = 0; lane < 8; ++lane) {
      lanes[lane] += words[lane];
    }
  }
  for (; k < part.size(); ++k) {
    lanes[0] += std::to_integer<std::uint64_t>(part[k]);
  }
  return std::accumulate(lanes, lanes + 8, std::uint64_t{0});
}

/// Reads every tensor through the map, once, and gives its pages back.
void sum_all(const io::TensorStore& store) {
  std::uint64_t total = 0;
  const Headers headers = store.headers();
  for (const auto& [name, spec] : headers) {
    for (const io::Chunk& chunk : store.chunks(spec)) {
      for (std::size_t at = 0; at < chunk.bytes.size(); at += kReleaseBytes) {
        const auto part = chunk.bytes.subspan(at, std::min(kReleaseBytes, chunk.bytes.size() - at));
        total += sum_of(part);
        store.release(part);
      }
    }
  }
  benchmark::DoNotOptimize(total);
}

void verify_bench(benchmark::State& state, const Settings& settings, std::int64_t tp) {
  Stage& at = stage(settings);
  const auto plan = plan::Plan::make(at.source->model, at.kinds, ranks(tp)).value();
  const auto check = [&] {
    claims::MoveCount count;
    for (std::size_t i = 0; i < at.source->model.mappings.size(); ++i) {
      const auto fault =
          claims::check_round_trip(plan, i, *at.source->checkpoint, std::int64_t{4} << 20, count);
      BV_ASSERT(fault.has_value() && !fault->has_value());
    }
  };
  paired(state, {[&] { sum_all(*at.source->checkpoint); }, at.bytes()}, {check, at.bytes()});
}

/// Runs a program of the machine and waits for it.
int run_program(const std::vector<std::string>& words) {
  const pid_t child = ::fork();
  if (child == 0) {
    std::vector<char*> arguments;
    for (const std::string& word : words) {
      arguments.push_back(const_cast<char*>(word.c_str()));
    }
    arguments.push_back(nullptr);
    ::execvp(arguments[0], arguments.data());
    ::_exit(127);
  }
  int status = 0;
  ::waitpid(child, &status, 0);
  return WIFEXITED(status) ? WEXITSTATUS(status) : -1;
}

/// A torch_dist checkpoint of the stage's model, and the model of it on one rank.
struct DistStage {
  explicit DistStage(Stage& at) : folder(at.scratch.path() / "dist") {
    fs::remove_all(folder);
    BV_ASSERT(convert::to_torch_dist(*at.source, at.kinds, ranks(1), folder, {}).has_value());
  }
  DistStage(const DistStage&) = delete;
  DistStage& operator=(const DistStage&) = delete;
  ~DistStage() { fs::remove_all(folder); }
  fs::path folder;
};

/// Both sides are read: the model and the checkpoint.
void judge_bench(benchmark::State& state, const Settings& settings, int jobs) {
  Stage& at = stage(settings);
  const DistStage made(at);
  const io::Checkpoint& hf = *at.source->checkpoint;
  const fs::path iteration = made.folder / "iter_0000000";
  const auto judge = [&] { BV_ASSERT(is_judged_equal(*at.source, at.kinds, iteration, jobs)); };
  const auto store = torch_dist::DistCheckpoint::open(iteration).value();
  const auto read = [&] {
    sum_all(hf);
    sum_all(store);
  };
  const double bytes = at.bytes() + static_cast<double>(store.total_bytes());
  paired(state, {read, bytes}, {judge, bytes}, jobs > 1 ? Clock::Wall : Clock::Processor);
}

/// Against the work of `cp`, and against the time until what `cp` wrote is on the disk, as what we
/// write is.
void write_dist_bench(benchmark::State& state, const Settings& settings, int jobs, bool synced) {
  Stage& at = stage(settings);
  const fs::path copy = at.scratch.path() / "copy";
  const fs::path dist = at.scratch.path() / "dist";
  convert::ConvertOptions options;
  options.jobs = jobs;
  options.verify = false;
  const auto write = [&] {
    BV_ASSERT(convert::to_torch_dist(*at.source, at.kinds, ranks(1), dist, options).has_value());
  };
  const auto cp = [&] {
    BV_ASSERT(run_program({"cp", "-r", at.source->folder.string(), copy.string()}) == 0);
    std::vector<std::string> sync = {"sync"};
    for (const fs::path& file : at.source->checkpoint->files()) {
      sync.push_back((copy / file.filename()).string());
    }
    BV_ASSERT(!synced || run_program(sync) == 0);
  };
  paired(state, {cp, at.bytes(), [&] { fs::remove_all(copy); }},
         {write, at.bytes(), [&] { fs::remove_all(dist); }},
         jobs > 1 || synced ? Clock::Wall : Clock::Processor);
  fs::remove_all(copy);
  fs::remove_all(dist);
}

/// A plain copy of one file, pread and pwrite through a buffer of the second-level cache's size.
void copy_plainly(const fs::path& from, const fs::path& to) {
  const io::Descriptor in(::open(from.c_str(), O_RDONLY | O_CLOEXEC));
  const io::Descriptor out(::open(to.c_str(), O_RDWR | O_CREAT | O_TRUNC | O_CLOEXEC, 0644));
  std::vector<std::byte> buffer(kReadBytes);
  off_t at = 0;
  for (;;) {
    const ssize_t count = ::pread(in.number(), buffer.data(), buffer.size(), at);
    if (count <= 0) {
      break;
    }
    BV_ASSERT(::pwrite(out.number(), buffer.data(), static_cast<std::size_t>(count), at) == count);
    at += count;
  }
}

void copy_folder(const fs::path& from, const fs::path& to) {
  fs::remove_all(to);
  fs::create_directories(to);
  for (const auto& entry : fs::directory_iterator(from)) {
    copy_plainly(entry.path(), to / entry.path().filename());
  }
}

enum class Copier { Pread, Cp };

struct ConvertCase {
  std::int64_t tp = 1;
  int jobs = 1;
  bool verify = false;
  bool back = false;
  Copier anchor = Copier::Pread;
};

void convert_bench(benchmark::State& state, const Settings& settings, const ConvertCase& one) {
  Stage& at = stage(settings);
  const fs::path hf = at.source->folder;
  const fs::path copy = at.scratch.path() / "copy";
  const fs::path shards = at.scratch.path() / "shards";
  const fs::path back = at.scratch.path() / "back";
  convert::ConvertOptions options;
  options.jobs = one.jobs;
  options.verify = one.verify;
  options.overwrite = true;
  const auto there = [&](const fs::path& out) {
    fs::remove_all(out);
    auto report = convert::to_megatron(*at.source, at.kinds, ranks(one.tp), out, options);
    BV_ASSERT(report.has_value());
  };
  std::function<void()> run = [&] { there(shards); };
  std::optional<checkpoint::MegatronFolder> opened;
  if (one.back) {
    there(shards);
    opened =
        checkpoint::open_megatron(shards, family::builtin_families().value(), at.kinds).value();
    run = [&] {
      fs::remove_all(back);
      BV_ASSERT(convert::to_hf(*opened, at.kinds, back, options).has_value());
    };
  }
  const auto anchor = [&] {
    if (one.anchor == Copier::Pread) {
      copy_folder(hf, copy);
    } else {
      fs::remove_all(copy);
      BV_ASSERT(run_program({"cp", "-r", hf.string(), copy.string()}) == 0);
    }
  };
  paired(state, {anchor, at.bytes()}, {run, at.bytes()},
         one.jobs > 1 ? Clock::Wall : Clock::Processor);
  for (const fs::path& made : {copy, shards, back}) {
    fs::remove_all(made);
  }
}

void compare_bench(benchmark::State& state, const Settings& settings, int jobs) {
  Stage& at = stage(settings);
  const fs::path copy = at.scratch.path() / "copy";
  copy_folder(at.source->folder, copy);
  {
    const checkpoint::HfModel other = open_checkpoint(copy).value();
    const auto pairs = compare::compare_hf(*at.source->checkpoint, *other.checkpoint);
    const auto cmp = [&] {
      for (const fs::path& file : at.source->checkpoint->files()) {
        BV_ASSERT(run_program({"cmp", file.string(), (copy / file.filename()).string()}) == 0);
      }
    };
    const auto ours = [&] {
      const auto found = compare::diff(pairs, {.jobs = jobs});
      BV_ASSERT(found.has_value() && found->differences.empty());
    };
    paired(state, {cmp, at.bytes()}, {ours, at.bytes()}, jobs > 1 ? Clock::Wall : Clock::Processor);
  }
  fs::remove_all(copy);
}

}  // namespace

void add_file_benchmarks(const Settings& settings) {
  const auto add = [&](const std::string& name, std::function<void(benchmark::State&)> run) {
    benchmark::RegisterBenchmark(name.c_str(), [run](benchmark::State& state) { run(state); })
        ->UseManualTime()
        ->Iterations(settings.pairs)
        ->Unit(benchmark::kMillisecond);
  };
  for (const std::int64_t tp : {1, 8}) {
    add(fmt::format("Verify/round_trip/tp:{}/vs:read", tp),
        [=](benchmark::State& state) { verify_bench(state, settings, tp); });
  }
  for (const int jobs : {1, 2}) {
    add(fmt::format("Verify/compare/jobs:{}/vs:cmp", jobs),
        [=](benchmark::State& state) { compare_bench(state, settings, jobs); });
  }
  const auto convert = [&](const std::string& name, ConvertCase one) {
    add(name, [=](benchmark::State& state) { convert_bench(state, settings, one); });
  };
  for (const int jobs : {1, 2}) {
    for (const std::int64_t tp : {1, 8}) {
      convert(fmt::format("Io/convert/tp:{}/jobs:{}/vs:pread_pwrite", tp, jobs), {tp, jobs});
    }
  }
  for (const int jobs : {1, 2}) {
    add(fmt::format("Verify/torch_dist/jobs:{}/vs:read", jobs),
        [=](benchmark::State& state) { judge_bench(state, settings, jobs); });
    for (const bool synced : {false, true}) {
      add(fmt::format("Io/torch_dist/jobs:{}/vs:cp{}", jobs, synced ? "_sync" : ""),
          [=](benchmark::State& state) { write_dist_bench(state, settings, jobs, synced); });
    }
  }
  convert("Io/convert/tp:8/jobs:2/vs:cp", {8, 2, false, false, Copier::Cp});
  convert("Io/convert_verified/tp:8/jobs:2/vs:pread_pwrite", {8, 2, true, false});
  convert("Io/convert_back/tp:8/jobs:1/vs:pread_pwrite", {8, 1, false, true});
  convert("Io/convert_back/tp:8/jobs:2/vs:pread_pwrite", {8, 2, false, true});
}

}  // namespace bv::bench

// Benchmarks of a GPU, as one JSON: bytes a second of each kind beside a device-to-device copy of
// as many bytes, streaming through the executor beside a copy from pinned memory, merges beside
// cuBLAS, collectives by NCCL beside sockets. Usage: bv_gpu_bench [MIB]. Exit 3 without a GPU.
// bv_gpu_bench --device says which GPU there is, and tries it; bv_gpu_bench --dry makes every
// workload on the host and times nothing; bv_gpu_bench --adapter MODEL OUT RANK writes an adapter.

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <nlohmann/json.hpp>
#include <span>
#include <string_view>

#include "core/cuda/cuda.hpp"
#include "core/cuda/meter.hpp"
#include "core/cuda/staged_executor.hpp"
#include "core/kinds/catalogue.hpp"
#include "core/layout/box.hpp"
#include "tests/bench/gpu/collectives.hpp"
#include "tests/bench/gpu/slice_adapter.hpp"

namespace bv::cuda {
namespace {

using nlohmann::ordered_json;

constexpr int kRounds = 10;
constexpr std::size_t kLargeBytes = std::size_t{64} << 20;  // merges are small below
constexpr std::size_t kLayersMax = 2048;  // of tensors so small that they are nowhere the limit
/// Elements of BF16: rows of 512 bytes, of 128, of one element.
constexpr std::array<std::int64_t, 3> kRuns = {256, 64, 1};

/// Sizes of one layer of a large mixture of experts on eight ranks: the same axis letters mean the
/// same in every kind. `run`: elements that a rank has of each row of a row-parallel tensor.
layout::Binding sizes_of(const layout::Rule& rule, std::int64_t run) {
  layout::Binding out;
  out.axes = {
      {"t", 8}, {"o", 131072 / run}, {"i", run}, {"v", 16384}, {"p", 256}, {"one", 1}, {"g", 8},
      {"n", 4}, {"d", 128},          {"f", 512}, {"a", 2},     {"b", 4},   {"c", 128}, {"e", 128},
      {"r", 2}, {"s", 128},          {"m", 8},   {"E", 8},     {"h", 2048}};
  const auto& last = rule.sources[0].dims;
  out.rest = {2048};
  if (last.size() == 1 && last.back().rest) {
    out.rest = {2048, 2048};
  }
  const auto& grid = rule.targets[0].grid;
  if (std::none_of(grid.begin(), grid.end(), [](const auto& one) { return one.axis == "E"; })) {
    out.axes["E"] = 1;
  }
  return out;
}

/// No device: every move and merge is run by the host, so that a workload that does not fit is
/// seen.
class DryMeter : public Meter {
 public:
  Result<std::byte*> allocate(std::size_t bytes) override {
    memory_.emplace_back(bytes + 64);
    auto* first = memory_.back().data();
    return first + (64 - reinterpret_cast<std::uintptr_t>(first) % 64) % 64;
  }
  void release() override { memory_.clear(); }
  Result<double> moves(const MoveList& list, int /*rounds*/) override {
    for (const Move& one : list.moves) {
      for (std::int64_t i = 0; i < one.box.elements(); ++i) {
        run_one(one, i);
      }
    }
    TileBuffer buffer{};
    for (const TileMove& one : list.transposes) {
      for (std::int64_t n = 0; n < tile_count(one); ++n) {
        const TilePlace place = tile_place(one, n);
        read_tile(one, place, buffer, 0, 1);
        write_tile(one, place, buffer, 0, 1);
      }
    }
    return 0.0;
  }
  Result<double> merge(const MergeBlock& /*block*/, int /*rounds*/) override { return 0.0; }
  Result<double> copy(std::byte* to, const std::byte* from, std::size_t bytes,
                      int /*rounds*/) override {
    std::copy(from, from + bytes, to);
    return 0.0;
  }
  Result<double> upload(std::byte* /*to*/, std::size_t /*bytes*/, int /*rounds*/) override {
    return 0.0;
  }
  Result<double> sgemm(std::int64_t /*rows*/, std::int64_t /*columns*/, std::int64_t /*rank*/,
                       int /*rounds*/) override {
    return fail(Code::NoGpu, "nothing is compared in a dry run").advise("run it on a GPU");
  }

 private:
  std::vector<std::vector<std::byte>> memory_;
};

double gigabytes(std::size_t bytes, double seconds) {
  return seconds > 0 ? static_cast<double>(bytes) / seconds / 1e9 : 0;
}

/// The boxes of one shard as moves on the device, repeated until `wanted` bytes are written.
Result<ordered_json> kind_row(Meter& meter, const layout::Rule& rule, std::int64_t run,
                              std::size_t wanted) {
  constexpr DType kType = DType::BF16;
  BV_TRY(bound, layout::BoundRule::bind(rule, sizes_of(rule, run)));
  const layout::Shard shard = bound.shard(0, {{"t", 1}, {"E", 0}});
  std::int64_t elements = 1;
  for (const std::int64_t extent : shard.shape) {
    elements *= extent;
  }
  const auto bytes_once = static_cast<std::size_t>(elements) * 2;
  const std::size_t layers = std::clamp<std::size_t>(wanted / bytes_once, 1, kLayersMax);
  std::vector<layout::BoxPiece> pieces;
  for (const layout::Box& box : shard.boxes) {
    pieces.push_back(layout::whole(box));
  }
  std::vector<move::SourceBytes> sources(bound.source_shapes().size(), {nullptr, kType});
  MoveList list;
  for (std::size_t layer = 0; layer < layers; ++layer) {
    std::vector<Staged> staged = reads_of(pieces, sources.size());
    for (Staged& one : staged) {
      BV_TRY(memory,
             meter.allocate(
                 static_cast<std::size_t>(std::max<std::int64_t>(1, one.end - one.begin)) * 2));
      one.first = memory;
    }
    BV_TRY(target, meter.allocate(bytes_once));
    const move::MoveTask task{pieces, sources, nullptr, 0, elements, kType, 0};
    moves_of(task, staged, target, list);
  }
  BV_TRY(from, meter.allocate(layers * bytes_once));
  BV_TRY(to, meter.allocate(layers * bytes_once));
  BV_TRY(seconds, meter.moves(list, kRounds));
  BV_TRY(copy, meter.copy(to, from, layers * bytes_once, kRounds));
  meter.release();
  return ordered_json{{"kind", rule.name},
                      {"run_bytes", run * 2},
                      {"bytes", layers * bytes_once},
                      {"pieces", list.moves.size()},
                      {"transposes", list.transposes.size()},
                      {"gb_per_s", gigabytes(layers * bytes_once, seconds)},
                      {"copy_gb_per_s", gigabytes(layers * bytes_once, copy)},
                      {"ratio", seconds > 0 ? copy / seconds : 0}};
}

/// Rows cut out of a host tensor, there and back, beside a copy from pinned memory of what goes
/// there.
Result<ordered_json> streaming_row(Meter& meter, move::Executor& executor, std::size_t bytes) {
  const std::int64_t columns = 4096;
  const std::int64_t rows = static_cast<std::int64_t>(bytes) / (columns * 2);
  std::vector<std::byte> source(static_cast<std::size_t>(rows * columns) * 2, std::byte{1});
  std::vector<std::byte> out(source.size() / 2);
  const layout::Box box{0, 0, 0, {{rows, columns, columns / 2}, {columns / 2, 1, 1}}};
  const layout::BoxPiece piece = layout::whole(box);
  const move::SourceBytes from{source.data(), DType::BF16};
  const move::MoveTask task{{&piece, 1},        {&from, 1},  out.data(), 0,
                            rows * columns / 2, DType::BF16, 0};
  double best = 0;
  for (int round = 0; round < 4; ++round) {
    const auto began = std::chrono::steady_clock::now();
    BV_CHECK(executor.run({&task, 1}));
    const double seconds =
        std::chrono::duration<double>(std::chrono::steady_clock::now() - began).count();
    best = round == 1 || (round > 1 && seconds < best) ? seconds : best;
  }
  BV_TRY(target, meter.allocate(source.size()));
  BV_TRY(pinned, meter.upload(target, source.size(), 4));
  meter.release();
  return ordered_json{{"bytes_there", source.size()},
                      {"bytes_back", out.size()},
                      {"seconds", best},
                      {"gb_per_s_there", gigabytes(source.size(), best)},
                      {"pinned_gb_per_s", gigabytes(source.size(), pinned)},
                      {"ratio", best > 0 ? pinned / best : 0}};
}

Result<ordered_json> merge_row(Meter& meter, DType dtype, std::int64_t rank, std::int64_t rows) {
  const std::int64_t columns = rows;
  MergeBlock block;
  block.rows = rows;
  block.columns = columns;
  block.rank = rank;
  block.factor_dtype = block.base_dtype = dtype;
  block.scale = 0.5F;
  const auto size = static_cast<std::size_t>(bytes(dtype));
  BV_TRY(left, meter.allocate(static_cast<std::size_t>(rows * rank) * size));
  BV_TRY(right, meter.allocate(static_cast<std::size_t>(rank * columns) * size));
  BV_TRY(base, meter.allocate(static_cast<std::size_t>(rows * columns) * size));
  BV_TRY(out, meter.allocate(static_cast<std::size_t>(rows * columns) * size));
  block.left = left;
  block.right = right;
  block.base = base;
  block.out = out;
  BV_TRY(seconds, meter.merge(block, kRounds));
  ordered_json row{
      {"dtype", name(dtype)},
      {"rank", rank},
      {"rows", rows},
      {"columns", columns},
      {"seconds", seconds},
      {"tflops", seconds > 0 ? 2e-12 * static_cast<double>(rows * columns * rank) / seconds : 0}};
  const auto blas = meter.sgemm(rows, columns, rank, kRounds);
  meter.release();
  if (blas) {
    row["sgemm_seconds"] = *blas;
    row["ratio"] = *blas / seconds;
  } else {
    row["sgemm"] = blas.error().message;
  }
  return row;
}

int told(const Error& error) {
  fmt::print(stderr, "{}: {}\n", error.message, error.found);
  return 1;
}

/// Exit code of a machine without a GPU. One that is listed and fails is another thing.
int told_none(const Found& found) {
  fmt::print(stderr, "there is no GPU: {}\n", text_of(found));
  return 3;
}

Result<ordered_json> measured(Meter& meter, move::Executor& executor, const std::string& gpu,
                              std::size_t bytes) {
  BV_TRY(catalogue, kinds::Catalogue::parse(kinds::builtin_text(), "kinds.layout"));
  ordered_json out{{"schema", "bridge-gpu-bench/1"}, {"gpu", gpu}};
  for (const layout::Rule& rule : catalogue.rules()) {
    const bool has_rows = rule.name == "row";
    for (const std::int64_t run : std::span(kRuns).first(has_rows ? kRuns.size() : 1)) {
      BV_TRY(row, kind_row(meter, rule, run, bytes));
      out["kinds"].push_back(std::move(row));
    }
  }
  BV_TRY(streaming, streaming_row(meter, executor, bytes));
  out["streaming"] = std::move(streaming);
  for (const DType dtype : {DType::BF16, DType::F32}) {
    for (const std::int64_t rank : {16, 64, 256}) {
      BV_TRY(row, merge_row(meter, dtype, rank, bytes >= kLargeBytes ? 8192 : 128));
      out["merge"].push_back(std::move(row));
    }
  }
  return out;
}

/// `devices` are not none.
Result<ordered_json> measured_here(const std::vector<std::string>& devices, std::size_t bytes) {
  BV_TRY(meter, open_meter(0));
  BV_TRY(device, open_device(0));
  StagedExecutor executor(std::move(device));
  BV_TRY(out, measured(*meter, executor, devices.front(), bytes));
  BV_TRY(rows, collective_rows(static_cast<int>(devices.size()), bytes / 16, true));
  out["collectives"] = std::move(rows);
  return std::move(out);
}

Result<ordered_json> measured_dry() {
  constexpr std::size_t kDryBytes = std::size_t{1} << 20;
  DryMeter meter;
  move::CpuExecutor executor;
  BV_TRY(out, measured(meter, executor, "none: a dry run, without times", kDryBytes));
  BV_TRY(rows, collective_rows(2, kDryBytes / 16, false));
  out["collectives"] = std::move(rows);
  return std::move(out);
}

/// Does the first GPU do what it is asked?
Status try_here() {
  BV_TRY(meter, open_meter(0));
  BV_TRY(memory, meter->allocate(1024));
  BV_CHECK(meter->copy(memory + 512, memory, 512, 1));
  return Done{};
}

}  // namespace
}  // namespace bv::cuda

int main(int argc, char** argv) {
  constexpr std::size_t kMib = std::size_t{1} << 20;
  const long mib = argc > 1 ? std::atol(argv[1]) : 1024;
  if (argc > 1 && std::string_view(argv[1]) == "--device") {
    const auto found = bv::cuda::look_around();
    if (found.devices.empty()) {
      return bv::cuda::told_none(found);
    }
    const auto tried = bv::cuda::try_here();
    if (!tried) {
      return bv::cuda::told(tried.error());
    }
    fmt::print("{}\n", found.devices.front());
    return 0;
  }
  if (argc == 5 && std::string_view(argv[1]) == "--adapter") {
    const auto factors =
        bv::cuda::write_adapter(argv[2], argv[3], std::max(1L, std::atol(argv[4])));
    return factors ? 0 : bv::cuda::told(factors.error());
  }
  const bool dry = argc > 1 && std::string_view(argv[1]) == "--dry";
  const auto found = bv::cuda::look_around();
  if (!dry && found.devices.empty()) {
    return bv::cuda::told_none(found);
  }
  const auto out = dry ? bv::cuda::measured_dry()
                       : bv::cuda::measured_here(
                             found.devices, static_cast<std::size_t>(std::max(1L, mib)) * kMib);
  if (!out) {
    return bv::cuda::told(out.error());
  }
  fmt::print("{}\n", out->dump(1));
  return 0;
}

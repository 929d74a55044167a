// Exec/KIND/to_megatron and Exec/KIND/to_hf: every kind of the catalogue on large sizes, made
// window by window, as convert makes them before it writes: for all ranks in step, or one after
// another where axes change places, into windows that stay in the cache. The anchor is one
// streaming copy of the same bytes. Exec/rows/N: row-parallel cuts with runs of N bytes.

#include <fmt/format.h>

#include <algorithm>
#include <memory>
#include <span>

#include "core/base/arith.hpp"
#include "core/kinds/catalogue.hpp"
#include "core/move/tensor_maker.hpp"
#include "tests/bench/buffers.hpp"
#include "tests/bench/paired.hpp"

namespace bv::bench {
namespace {

constexpr std::size_t kElement = 2;  // bf16
constexpr std::size_t kLine = 64;
constexpr std::int64_t kRanks = 8;

std::int64_t bytes_of(const Shape& shape) {
  return element_count(shape).value() * static_cast<std::int64_t>(kElement);
}

/// One kind on one set of sizes, repeated over the buffers as layers of a model would be.
class Workload {
 public:
  Workload(const layout::Rule& rule, layout::Binding binding, std::int64_t bytes, bool back)
      : bound_(layout::BoundRule::bind(rule, std::move(binding)).value()) {
    std::vector<std::map<std::string, std::int64_t, std::less<>>> grid;
    for (std::int64_t e = 0; e < bound_.size("E"); ++e) {
      for (std::int64_t t = 0; t < kRanks; ++t) {
        grid.push_back({{"t", t}, {"E", e}});
      }
    }
    for (const auto& at : grid) {
      shards_.push_back(bound_.shard(0, at));
    }
    for (const Shape& shape : bound_.source_shapes()) {
      hf_bytes_ += bytes_of(shape);
    }
    shard_bytes_ = bytes_of(bound_.target_shapes()[0]);
    const std::int64_t megatron = shard_bytes_ * static_cast<std::int64_t>(shards_.size());
    copies_ = std::max<std::int64_t>(1, bytes / std::max(hf_bytes_, megatron));
    source_ = std::make_unique<Buffer>(copies_ * (back ? megatron : hf_bytes_));
    target_ = std::make_unique<Buffer>(copies_ * (back ? hf_bytes_ : megatron));
    back ? plan_back() : plan_there();
  }

  void run() {
    for (std::int64_t copy = 0; copy < copies_; ++copy) {
      for (const Step& step : steps_) {
        std::vector<move::SourceBytes> sources;
        sources.reserve(step.sources.size());
        for (const std::int64_t at : step.sources) {
          sources.push_back({source_->data() + copy * source_->size() / copies_ + at, DType::BF16});
        }
        std::vector<move::TensorMaker> targets;
        targets.reserve(step.targets.size());
        for (const Part& part : step.targets) {
          targets.emplace_back(move::Recipe{DType::BF16, part.elements, part.boxes, sources},
                               nullptr, &window_);
        }
        if (targets.front().is_transposed()) {
          for (move::TensorMaker& one : targets) {
            make_in_step({&one, 1});
          }
          continue;
        }
        if (targets.size() > 1) {
          targets.front().lead();
        }
        make_in_step(targets);
      }
    }
  }

  void copy_once() const {
    streaming_copy(source_->data(), target_->data(),
                   static_cast<std::size_t>(std::min(source_->size(), target_->size())));
  }
  [[nodiscard]] double anchor_bytes() const {
    return static_cast<double>(std::min(source_->size(), target_->size()));
  }
  [[nodiscard]] double bytes() const { return static_cast<double>(target_->size()); }

 private:
  /// Windows as convert has them: those of all tensors in step share the second-level cache.
  void make_in_step(std::span<move::TensorMaker> targets) {
    constexpr std::int64_t kCacheBytes = std::int64_t{256} << 10;
    constexpr std::int64_t kWindowMin = std::int64_t{64} << 10;
    const auto ways = static_cast<std::int64_t>(targets.size());
    const std::int64_t bytes = targets.front().is_transposed()
                                   ? targets.front().window_bytes(kCacheBytes)
                                   : std::max(kWindowMin, kCacheBytes * 2 / (ways + 1));
    const std::int64_t step = bytes / static_cast<std::int64_t>(kElement);
    std::int64_t longest = 0;
    for (const move::TensorMaker& one : targets) {
      longest = std::max(longest, one.elements());
    }
    for (std::int64_t begin = 0; begin < longest; begin += step) {
      for (move::TensorMaker& one : targets) {
        const std::int64_t end = std::min(begin + step, one.elements());
        if (begin < end) {
          // Begins at a cache line, as the windows of a maker do.
          std::size_t space = static_cast<std::size_t>(end - begin) * kElement + kLine;
          void* room = window_.of(space).data();
          auto* const window =
              static_cast<std::byte*>(std::align(kLine, space - kLine, room, space));
          const auto made = one.make(ElementOffset(begin), ElementOffset(end), window);
          benchmark::DoNotOptimize(window);
          BV_ASSERT(made.has_value());
        }
      }
    }
  }

  struct Part {
    std::vector<layout::Box> boxes;
    std::int64_t elements = 0;
  };
  struct Step {
    std::vector<std::int64_t> sources;  // bytes from the start of a copy
    std::vector<Part> targets;
  };

  void plan_there() {
    std::vector<std::int64_t> sources;
    std::int64_t at = 0;
    for (const Shape& shape : bound_.source_shapes()) {
      sources.push_back(at);
      at += bytes_of(shape);
    }
    for (std::size_t i = 0; i < shards_.size(); ++i) {
      if (i % kRanks == 0) {
        steps_.push_back({sources, {}});
      }
      steps_.back().targets.push_back(
          {shards_[i].boxes, shard_bytes_ / static_cast<std::int64_t>(kElement)});
    }
  }

  void plan_back() {
    Step step;
    const auto& grid = bound_.rule().targets[0].grid;
    const bool cuts = bound_.rule().cut ||
                      std::any_of(grid.begin(), grid.end(),
                                  [](const auto& one) { return one.axis == "t" && !one.replica; });
    for (std::size_t i = 0; i < shards_.size(); ++i) {
      step.sources.push_back(static_cast<std::int64_t>(i) * shard_bytes_);
    }
    for (std::size_t hf = 0; hf < bound_.source_shapes().size(); ++hf) {
      Part part;
      for (std::size_t i = 0; i < shards_.size(); ++i) {
        for (const layout::Box& box : shards_[i].boxes) {
          if (box.source == static_cast<int>(hf) && (cuts || i % kRanks == 0)) {
            part.boxes.push_back(layout::inverse(box, static_cast<int>(i)));
          }
        }
      }
      part.elements = element_count(bound_.source_shapes()[hf]).value();
      step.targets.push_back(std::move(part));
    }
    steps_.push_back(std::move(step));
  }

  layout::BoundRule bound_;
  std::vector<layout::Shard> shards_;
  std::int64_t hf_bytes_ = 0;
  std::int64_t shard_bytes_ = 0;
  std::int64_t copies_ = 1;
  std::unique_ptr<Buffer> source_;
  std::unique_ptr<Buffer> target_;
  std::vector<Step> steps_;
  move::WindowBuffer window_;
};

/// Sizes of a 35B mixture of experts on eight ranks; the same axis letters mean the same in every
/// kind.
layout::Binding sizes_of(const layout::Rule& rule, std::int64_t run_elements) {
  layout::Binding out;
  out.axes = {{"t", kRanks}, {"o", 512}, {"i", run_elements},
              {"v", 16384},  {"p", 256}, {"one", 1},
              {"g", 8},      {"n", 4},   {"d", 128},
              {"f", 512},    {"a", 2},   {"b", 4},
              {"c", 128},    {"e", 128}, {"r", 2},
              {"s", 128},    {"m", 8},   {"E", 8},
              {"h", 2048}};
  out.rest = {2048};
  const auto& grid = rule.targets[0].grid;
  if (std::none_of(grid.begin(), grid.end(), [](const auto& one) { return one.axis == "E"; })) {
    out.axes["E"] = 1;
  }
  return out;
}

void run_workload(benchmark::State& state, const layout::Rule& rule, layout::Binding binding,
                  std::int64_t bytes, bool back) {
  Workload work(rule, std::move(binding), bytes, back);
  paired(state, {[&] { work.copy_once(); }, work.anchor_bytes()},
         {[&] { work.run(); }, work.bytes()});
}

void add(const Settings& settings, const std::string& name, const layout::Rule& rule,
         const layout::Binding& binding, bool back) {
  benchmark::RegisterBenchmark(name.c_str(),
                               [&rule, binding, settings, back](benchmark::State& state) {
                                 run_workload(state, rule, binding, settings.bytes, back);
                               })
      ->UseManualTime()
      ->Iterations(settings.pairs)
      ->Unit(benchmark::kMillisecond);
}

}  // namespace

void add_exec_benchmarks(const Settings& settings) {
  static const auto catalogue = kinds::load_catalogue().value();
  for (const layout::Rule& rule : catalogue.rules()) {
    const bool one_axis = rule.sources[0].dims.back().rest && rule.sources[0].dims.size() == 1;
    layout::Binding binding = sizes_of(rule, 256);
    if (one_axis) {
      binding.rest = {2048, 2048};
    }
    add(settings, "Exec/" + rule.name + "/to_megatron", rule, binding, false);
    add(settings, "Exec/" + rule.name + "/to_hf", rule, binding, true);
  }
  for (const std::int64_t run : {64, 128, 512, 2048, 8192}) {
    for (const bool back : {false, true}) {
      add(settings, fmt::format("Exec/rows/run:{}/{}", run, back ? "to_hf" : "to_megatron"),
          *catalogue.find("row"),
          sizes_of(*catalogue.find("row"), run / static_cast<std::int64_t>(kElement)), back);
    }
  }
}

}  // namespace bv::bench

// Proof/...: header work on a model of 397B parameters, in milliseconds. Proof/growth shows how
// cost grows with layers, experts and the largest parallel size.

#include <fmt/format.h>

#include "core/plan/all_layouts.hpp"
#include "core/plan/legality.hpp"
#include "properties/claims/catalogue.hpp"
#include "tests/bench/model_maker.hpp"
#include "tests/bench/paired.hpp"

namespace bv::bench {
namespace {

constexpr std::int64_t kBound = 64;

/// Layers, experts and widths of a mixture of experts of 397B parameters.
std::string config_397b(std::int64_t layers, std::int64_t experts) {
  return moe_config(layers, experts, 4096, 1024);
}

void prove_bench(benchmark::State& state, std::int64_t layers, std::int64_t experts,
                 std::int64_t bound = kBound) {
  const auto kinds = kinds::load_catalogue().value();
  const checkpoint::HfModel source = model_of(config_397b(layers, experts)).value();
  for (auto _ : state) {
    auto proof = plan::prove_all_layouts(source.model, kinds, {}, bound);
    BV_ASSERT(proof.has_value());
    state.counters["layouts"] = static_cast<double>(proof->layouts);
    state.counters["bindings"] = static_cast<double>(proof->bindings);
  }
}

void legal_bench(benchmark::State& state, std::int64_t max_ranks) {
  const checkpoint::HfModel source = model_of(config_397b(60, 512)).value();
  for (auto _ : state) {
    const auto legal = plan::legal_layouts(source.model, {}, max_ranks);
    state.counters["layouts"] = static_cast<double>(legal.size());
  }
}

void claim_bench(benchmark::State& state, std::size_t layouts,
                 std::vector<Verdict> (*claim)(const claims::Subject&)) {
  const auto kinds = kinds::load_catalogue().value();
  const checkpoint::HfModel source = model_of(config_397b(60, 512)).value();
  claims::Subject subject;
  subject.parts = {{&source}};
  subject.kinds = &kinds;
  subject.layouts = plan::choose_layouts(plan::legal_layouts(source.model, {}, kBound), layouts);
  subject.replay = "bridge-verify check --model DIR";
  for (auto _ : state) {
    state.counters["verdicts"] = static_cast<double>(claim(subject).size());
  }
}

}  // namespace

void add_proof_benchmarks(const Settings& settings) {
  const auto add = [&](const std::string& name, std::function<void(benchmark::State&)> run) {
    benchmark::RegisterBenchmark(name.c_str(), [run](benchmark::State& state) { run(state); })
        ->Iterations(settings.pairs)
        ->Unit(benchmark::kMillisecond);
  };
  add("Proof/all_layouts/397B", [](benchmark::State& state) { prove_bench(state, 60, 512); });
  for (const std::int64_t factor : {1, 2, 4}) {
    add(fmt::format("Proof/growth/layers:{}", 30 * factor),
        [=](benchmark::State& state) { prove_bench(state, 30 * factor, 128); });
    add(fmt::format("Proof/growth/experts:{}", 128 * factor),
        [=](benchmark::State& state) { prove_bench(state, 30, 128 * factor); });
  }
  for (const std::int64_t bound : {16, 32, 64}) {
    add(fmt::format("Proof/growth/parallel_sizes:{}", bound),
        [=](benchmark::State& state) { prove_bench(state, 60, 512, bound); });
  }
  for (const std::int64_t ranks : {64, 512}) {
    add(fmt::format("Proof/legal_layouts/ranks:{}", ranks),
        [=](benchmark::State& state) { legal_bench(state, ranks); });
  }
  for (const std::size_t layouts : {std::size_t{24}, std::size_t{1000}}) {
    add(fmt::format("Proof/coverage/layouts:{}", layouts),
        [=](benchmark::State& state) { claim_bench(state, layouts, claims::check_coverage); });
    add(fmt::format("Proof/inverse/layouts:{}", layouts),
        [=](benchmark::State& state) { claim_bench(state, layouts, claims::check_inverse); });
  }
}

}  // namespace bv::bench

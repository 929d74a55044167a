// mutate [SAMPLE...]: plants every fault of every operator into tiny bridges and shows which claim
// sees it, beside what the upstream-style gate sees of the same faults.

#include <fmt/format.h>

#include "ci/command.hpp"
#include "ci/finish.hpp"
#include "ci/session.hpp"
#include "ci/signals.hpp"
#include "core/base/text.hpp"
#include "properties/mutants/matrix.hpp"
#include "properties/mutants/museum.hpp"

namespace bv::cli {
namespace {

/// The samples and layouts of a run without operands: dense, packed and grouped experts, both gated
/// delta nets.
constexpr std::array<std::pair<std::string_view, std::string_view>, 5> kDefault = {{
    {"llama", "tp2"},
    {"llama_tied_kv2", "tp4pp2"},
    {"qwen3_5_dense", "tp2pp2"},
    {"qwen3_5_moe_packed", "tp2ep2etp2"},
    {"qwen3_next", "tp2ep2etp1"},
}};
constexpr std::string_view kLayoutDefault = "tp2";

using Subjects = std::vector<std::pair<std::string, std::string>>;

Subjects subjects_of(const Options& options) {
  Subjects out;
  if (options.operands.empty() && options.layout.empty()) {
    for (const auto& [sample, layout] : kDefault) {
      out.emplace_back(sample, layout);
    }
    return out;
  }
  std::vector<std::string> samples = options.operands;
  if (samples.empty()) {
    for (const auto& [sample, layout] : kDefault) {
      samples.emplace_back(sample);
    }
  }
  for (const std::string& sample : samples) {
    for (const std::string& layout :
         options.layout.empty() ? std::vector{std::string(kLayoutDefault)} : options.layout) {
      out.emplace_back(sample, layout);
    }
  }
  return out;
}

Result<Run> mutate(Context& context, const Options& options) {
  const OracleModule module = load_oracles(context);
  if (module.entry == nullptr) {
    return fail(Code::NoTargetLayout, "mutate needs the oracles: " + module.reason)
        .advise("put bv_oracles.so beside the command, or build with libtorch-dev");
  }
  BV_TRY(library, mutants::load_library());
  BV_TRY(samples, mutants::builtin_samples());
  mutants::Matrix matrix;
  mutants::MatrixOptions how;
  how.seed = options.seed.value_or(1);
  how.progress = [](const mutants::Fate&) { return stop_requested() == 0; };
  Run run;
  run.seed = how.seed;
  for (const auto& [name, id] : subjects_of(options)) {
    BV_TRY(sample, mutants::find_sample(samples, name));
    BV_TRY(one, mutants::make_case(library, sample));
    BV_TRY(layout, mutants::padded_layout(id));
    BV_CHECK(exec::check_layout(one->model, layout));
    BV_TRY(reference, mutants::Reference::make(library, one, layout, *module.entry));
    BV_CHECK(mutants::add_mutants(library, reference, how, matrix));
  }
  run.claims.push_back(
      {"mutants", "every planted fault is seen or proved equivalent", matrix.mutants, "", true});
  run.verdicts = mutants::verdicts_of(matrix, "bridge-verify mutate");
  return run;
}

}  // namespace

int run_mutate(Context& context, const Options& options) {
  auto run = mutate(context, options);
  if (!run) {
    return report_error(context, options, run.error());
  }
  stamp(context, options, *run);
  return finish(context, options, *run);
}

}  // namespace bv::cli

// lora slice: what each tensor-parallel rank of a server loads of an adapter.

#include <fmt/format.h>

#include <algorithm>
#include <iterator>

#include "ci/cli/commands/lora.hpp"
#include "ci/cli/commands/lora_next.hpp"
#include "ci/cli/commands/lora_open.hpp"
#include "ci/cli/session/agree_on_adapter.hpp"
#include "ci/cli/session/finish.hpp"
#include "ci/cli/session/world.hpp"
#include "core/base/text.hpp"
#include "core/io/fault_text.hpp"
#include "core/serve/serve.hpp"
#include "properties/claims/slices.hpp"

namespace bv::cli {
namespace {

/// Rows that do not add up, or fit two places, are verdicts about the adapter; other errors are
/// not.
bool is_refutation(Code code) {
  return code == Code::SliceSum || code == Code::SliceAmbiguous || code == Code::SliceLayer;
}

Verdict refuted(Error error) {
  Verdict out;
  out.claim = "adapter-slices";
  out.outcome = Outcome::Refuted;
  out.code = error.code;
  out.cases = 1;
  out.refuted_cases = 1;
  out.title = std::move(error.message);
  out.facts = std::move(error.facts);
  out.found = std::move(error.found);
  out.wanted = std::move(error.wanted);
  out.help = std::move(error.help);
  return out;
}

Result<lora::Serving> serving_of(const Options& options, const lora::Adapter& adapter) {
  if (options.tp.size() != 1) {
    return fail(Code::BadValue, "lora slice needs one tensor-parallel size").advise("write --tp 2");
  }
  lora::Serving out;
  out.tp = options.tp.front();
  out.fully_sharded = options.fully_sharded;
  out.rank_max = options.max_rank.value_or(lora::rank_needed(adapter, out.tp, out.fully_sharded));
  return out;
}

/// What is written is judged where the report is made.
Status judge_written(const BaseAndAdapter& opened, const Library& library, const Options& options,
                     Run& run) {
  BV_TRY(verdicts, claims::judge_slices({&opened.adapter, &opened.model.hf, &library.kinds, {}},
                                        options.out));
  std::move(verdicts.begin(), verdicts.end(), std::back_inserter(run.verdicts));
  return Done{};
}

Result<Run> sliced(Context& context, const Options& options, const World& world) {
  if (options.out.empty()) {
    return fail(Code::BadValue, "lora slice needs a folder to write").advise("write --out DIR");
  }
  context.streams.err(start_line(options));
  BV_TRY(library, load_library(options));
  Run run;
  BV_TRY(opened, open_base_and_adapter(context, options, library, run, UnknownBase::Refuse));
  BV_CHECK(agree_on_model(world.link(), options, opened.model));
  BV_CHECK(agree_on_adapter(world.link(), opened.adapter));
  BV_TRY(serving, serving_of(options, opened.adapter));
  ClaimSummary summary = claims::summary_of(claims::adapter_claim("adapter-slices"));
  auto modules = lora::serve_adapter(opened.model.hf, library.kinds, opened.adapter, serving);
  if (!modules) {
    if (!is_refutation(modules.error().code)) {
      return std::move(modules).error();
    }
    summary.subjects = 1;
    run.verdicts.push_back(refuted(std::move(modules).error()));
    run.notes.push_back("nothing was written: the slices do not fit");
  } else {
    BV_TRY(report, lora::write_slices(*modules, opened.adapter, serving, options.out,
                                      options.overwrite, world.link()));
    if (world.is_host()) {
      BV_CHECK(judge_written(opened, library, options, run));
    }
    summary.subjects = std::ssize(*modules);
    run.notes.push_back(fmt::format(
        "{} of {} written to {}", counted(static_cast<std::uint64_t>(report.tensors), "factor"),
        counted(static_cast<std::uint64_t>(serving.tp), "rank"), io::printable(options.out)));
  }
  run.claims.push_back(std::move(summary));
  add_next_of_lora(
      options, "check",
      {{"model", options.model}, {"adapter", options.adapter}, {"slices", options.out}},
      KeptRanks::No, "reads what was written, and puts the parts together", run);
  fill_replays(options, "lora", run);
  return run;
}

}  // namespace

int run_lora_slice(Context& context, const Options& given) {
  Options options = given;
  auto world = World::enter(context, options);
  if (!world) {
    return report_error(context, options, world.error());
  }
  auto run = world->doing([&] { return sliced(context, options, *world); });
  if (!run) {
    return world->fail_with(context, options, run.error());
  }
  return world->end_with(context, options, std::move(*run), finish);
}

}  // namespace bv::cli

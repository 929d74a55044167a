// lora check: an adapter of either side, judged on its base.

#include "ci/cli/commands/lora.hpp"
#include "ci/cli/commands/lora_open.hpp"
#include "ci/cli/session/adapter_session.hpp"
#include "ci/cli/session/finish.hpp"
#include "ci/cli/session/world.hpp"
#include "properties/claims/slices.hpp"

namespace bv::cli {
namespace {

/// --slices DIR: what a server loads on each rank.
Status judge_slices_folder(const Options& options, const checkpoint::HfModel& base,
                           const kinds::Catalogue& kinds, Run& run) {
  BV_TRY(pairs, open_pairs(options, base, kinds));
  ClaimSummary summary = claims::summary_of(claims::adapter_claim("adapter-slices"));
  if (!pairs.adapter.faults.empty()) {
    summary.reached = false;
    summary.note = "the adapter has faults";
    run.claims.push_back(std::move(summary));
    return Done{};
  }
  BV_TRY(verdicts, claims::judge_slices({&pairs.adapter, &base, &kinds, {}}, options.slices));
  for (Verdict& verdict : verdicts) {
    summary.subjects += verdict.cases;
    run.verdicts.push_back(std::move(verdict));
  }
  summary.vacuous = verdicts.empty();
  run.claims.push_back(std::move(summary));
  return Done{};
}

Result<Run> check_adapter(Context& context, const Options& options) {
  Run run;
  context.streams.err(start_line(options));
  BV_TRY(library, load_library(options));
  BV_TRY(opened, open_adapter_base(context, options, library, run, UnknownBase::Open));
  ChosenLayouts chosen;
  if (opened.hf.model.family) {
    BV_TRY(legal, choose_layouts(options, opened.hf.model));
    chosen = std::move(legal);
  }
  run.layouts_note = chosen.note;
  run.layouts = layout_rows(chosen.layouts);
  show_header(context, options, run);
  BV_CHECK(judge_adapter_folder(options, opened.hf, library.kinds, chosen, run));
  if (!options.merged.empty()) {
    BV_TRY(pairs, open_pairs(options, opened.hf, library.kinds));
    BV_CHECK(judge_merged_folder(context, options, opened.hf, pairs.adapter, run));
  }
  if (!options.slices.empty()) {
    BV_CHECK(judge_slices_folder(options, opened.hf, library.kinds, run));
  }
  fill_replays(options, "lora", run);
  return run;
}

}  // namespace

/// Factors are small: of a world rank 0 judges them, and all end alike.
int run_lora_check(Context& context, const Options& given) {
  Options options = given;
  auto world = World::enter(context, options);
  if (!world) {
    return report_error(context, options, world.error());
  }
  auto run = world->doing(
      [&] { return world->is_host() ? check_adapter(context, options) : Result<Run>(Run()); });
  if (!run) {
    return world->fail_with(context, options, run.error());
  }
  return world->end_with(context, options, std::move(*run), finish);
}

}  // namespace bv::cli

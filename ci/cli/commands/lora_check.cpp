// lora check: an adapter of either side, judged on its base.

#include <fmt/format.h>

#include "ci/cli/commands/lora.hpp"
#include "ci/cli/session/adapter_session.hpp"
#include "ci/cli/session/finish.hpp"
#include "properties/claims/adapter.hpp"

namespace bv::cli {
namespace {

/// Faults of an adapter that could not be put together, as the claims show those of one that was.
lora::Adapter with_faults_of(const lora::MegatronAdapter& megatron) {
  lora::Adapter out;
  out.faults = megatron.faults;
  out.keys = megatron.parameters;
  return out;
}

Result<Run> check_adapter(Context& context, const Options& options) {
  Run run;
  context.streams.err(start_line(options));
  BV_TRY(library, load_library(options));
  BV_TRY(opened, open_adapter_base(context, options, library, run));
  lora::Adapter adapter;
  OpenedMegatronAdapter ranks;
  std::vector<parallel::Layout> layouts;
  if (is_megatron_adapter(options.adapter)) {
    BV_TRY(read, open_adapter_of_ranks(options, opened.hf, library.kinds));
    ranks = std::move(read);
    layouts = {ranks.adapter.layout};
    adapter = with_faults_of(ranks.adapter);
    if (ranks.adapter.faults.empty()) {
      BV_TRY(files, lora::plan_to_hf(ranks.adapter, *ranks.layers.sites, *ranks.class_layers.sites,
                                     opened.hf));
      BV_TRY(memory, lora::adapter_in_memory(files, opened.hf, library.kinds));
      adapter = std::move(memory);
    }
  } else {
    BV_TRY(read, lora::open_adapter(options.adapter, opened.hf, library.kinds));
    adapter = std::move(read);
    BV_TRY(chosen, choose_layouts(options, opened.hf.model));
    layouts = chosen.layouts;
    run.layouts_note = chosen.note;
  }
  run.layouts = layout_rows(layouts);
  show_header(context, options, run);
  claims::judge_adapter({&adapter, &opened.hf, &library.kinds, layouts}, run);
  run.notes.push_back(adapter_line(adapter));
  run.notes.insert(run.notes.end(), adapter.notes.begin(), adapter.notes.end());
  fill_replays(options, "lora", run);
  return run;
}

}  // namespace

int run_lora_check(Context& context, const Options& options) {
  auto run = check_adapter(context, options);
  if (!run) {
    return report_error(context, options, run.error());
  }
  stamp(context, options, *run);
  return finish(context, options, *run);
}

}  // namespace bv::cli

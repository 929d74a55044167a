// lora check: an adapter of either side, judged on its base.

#include "ci/cli/commands/lora.hpp"
#include "ci/cli/commands/lora_open.hpp"
#include "ci/cli/session/adapter_session.hpp"
#include "ci/cli/session/finish.hpp"

namespace bv::cli {
namespace {

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

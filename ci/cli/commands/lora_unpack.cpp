// lora unpack: packed experts as one pair an expert.

#include <algorithm>

#include "ci/cli/commands/lora.hpp"
#include "ci/cli/commands/lora_next.hpp"
#include "ci/cli/session/adapter_session.hpp"
#include "ci/cli/session/finish.hpp"
#include "core/lora/unpack.hpp"
#include "properties/claims/adapter.hpp"

namespace bv::cli {
namespace {

/// PEFT may have no such module: its class packs them, and servers alone read them one by one.
Status add_next(const Options& options, const checkpoint::HfModel& base,
                const kinds::Catalogue& kinds, Run& run) {
  BV_TRY(written, lora::open_adapter(options.out, base, kinds));
  const claims::AdapterSubject subject{&written, &base, &kinds, {}};
  const std::vector<Verdict> targets = claims::check_adapter_targets(subject);
  const bool loaded = std::none_of(targets.begin(), targets.end(), [](const Verdict& one) {
    return one.outcome == Outcome::Refuted;
  });
  if (loaded) {
    add_next_of_lora(
        options, "check",
        {{"model", options.model}, {"adapter", options.out}, {"against", options.adapter}},
        KeptRanks::Yes, "reads what was written, and compares what both add", run);
  } else {
    add_next_of_lora(options, "slice",
                     {{"model", options.model},
                      {"adapter", options.out},
                      {"tp", "1"},
                      {"out", options.out + "-slices"}},
                     KeptRanks::Yes, "cuts it for the ranks of a server", run);
  }
  return Done{};
}

Result<Run> unpack(Context& context, const Options& options) {
  if (options.out.empty()) {
    return fail(Code::BadValue, "lora unpack needs a folder to write").advise("write --out DIR");
  }
  Run run;
  context.streams.err(start_line(options));
  BV_TRY(library, load_library(options));
  BV_TRY(opened, open_adapter_base(context, options, library, run));
  BV_TRY(base, lora::per_expert_base(opened.hf, library.kinds));
  BV_TRY(adapter, lora::open_adapter(options.adapter, base, library.kinds));
  show_header(context, options, run);
  BV_CHECK(check_before_writing({&adapter, &base, &library.kinds, {}}, run));
  BV_TRY(planned, lora::plan_unpacked(adapter, base));
  lora::ConvertAdapterOptions convert;
  convert.jobs = jobs_of(options);
  convert.overwrite = options.overwrite;
  convert.verify = !options.no_verify;
  CommandProgress progress(context, options);
  convert.progress = &progress;
  BV_TRY(report, lora::write_hf_adapter(planned.weights, planned.config_text, options.adapter,
                                        options.out, convert));
  run.notes.push_back(adapter_line(adapter));
  add_written(report, options, "", run);
  BV_CHECK(add_next(options, opened.hf, library.kinds, run));
  fill_replays(options, "lora", run);
  return run;
}

}  // namespace

int run_lora_unpack(Context& context, const Options& options) {
  auto run = unpack(context, options);
  if (!run) {
    return report_error(context, options, run.error());
  }
  stamp(context, options, *run);
  return finish(context, options, *run);
}

}  // namespace bv::cli

// lora unpack: packed experts as one pair an expert.

#include "ci/cli/commands/lora.hpp"
#include "ci/cli/session/adapter_session.hpp"
#include "ci/cli/session/finish.hpp"
#include "core/lora/unpack.hpp"

namespace bv::cli {
namespace {

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

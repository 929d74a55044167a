// lora merge: base + adapter as a checkpoint of the base's form.

#include <fmt/format.h>

#include <algorithm>

#include "ci/cli/commands/lora.hpp"
#include "ci/cli/commands/lora_next.hpp"
#include "ci/cli/commands/lora_open.hpp"
#include "ci/cli/commands/merging_source.hpp"
#include "ci/cli/session/adapter_session.hpp"
#include "ci/cli/session/agree_on_adapter.hpp"
#include "ci/cli/session/device.hpp"
#include "ci/cli/session/finish.hpp"
#include "ci/cli/session/signals.hpp"
#include "ci/cli/session/world.hpp"
#include "core/base/text.hpp"
#include "core/comm/link.hpp"
#include "core/io/fault_text.hpp"
#include "core/merge/merge.hpp"

namespace bv::cli {
namespace {

class Merge {
 public:
  Merge(Context& context, const Options& options, comm::Link* world)
      : context_(context), options_(options), world_(world) {}

  Result<Run> run() {
    if (options_.out.empty()) {
      return fail(Code::BadValue, "lora merge needs a folder to write").advise("write --out DIR");
    }
    context_.streams.err(start_line(options_));
    if (options_.no_verify) {
      context_.streams.err("warning: --no-verify: what was written is not read back\n");
    }
    BV_TRY(device, open_device(context_, options_));
    BV_TRY(library, load_library(options_));
    BV_TRY(opened, open_base_and_adapter(context_, options_, library, run_, UnknownBase::Open));
    BV_CHECK(agree_on_model(world_, options_, opened.model));
    BV_CHECK(agree_on_adapter(world_, opened.adapter));
    lora::MergeOptions merge;
    merge.world = world_;
    merge.jobs = jobs_of(options_);
    merge.verify = !options_.no_verify;
    merge.overwrite = options_.overwrite;
    merge.resume = options_.resume;
    merge.follow_links = options_.follow_links;
    merge.untie = options_.untie;
    merge.device = device.get();
    if (world_ == nullptr || world_->rank() == 0) {
      BV_CHECK(lora::check_place_for_merge(opened.model.hf, opened.adapter, options_.out, merge));
    }
    BV_CHECK(agree_on(world_, {}, "merging" + identity_of(opened.adapter, options_.untie)));
    CommandProgress progress(context_, options_, world_);
    merge.progress = &progress;
    auto report = lora::merge_model(opened.model.hf, opened.adapter, options_.out, merge);
    if (!report) {
      BV_CHECK(stopped_or(std::move(report).error()));
    } else {
      describe(*report, opened.adapter);
      add_notes_of(device.get(), run_);
      add_next_of_lora(
          options_, "check",
          {{"model", options_.model}, {"adapter", options_.adapter}, {"merged", options_.out}},
          KeptRanks::Yes, "computes every element again, within the derived bound", run_);
    }
    fill_replays(options_, "lora", run_);
    return std::move(run_);
  }

 private:
  Status stopped_or(Error error) {
    const int signal = stop_requested();
    if (signal == 0) {
      return error;
    }
    if (world_ != nullptr) {
      world_->fail_all(error);
    }
    run_.stopped = true;
    run_.stop_signal = signal;
    run_.notes.push_back("stopped; repeat with --resume to keep the finished files");
    return Done{};
  }

  void describe(const lora::MergeReport& report, const lora::Adapter& adapter) {
    run_.notes.insert(run_.notes.end(), adapter.notes.begin(), adapter.notes.end());
    run_.notes.insert(run_.notes.end(), report.notes.begin(), report.notes.end());
    run_.notes.push_back(fmt::format("{} of {} merged; {} written to {}", thousands(report.merged),
                                     counted(static_cast<std::uint64_t>(report.tensors), "tensor"),
                                     counted(report.digests.size(), "file"),
                                     io::printable(options_.out)));
    add_written_files(report.digests, options_, "", run_);
  }

  Context& context_;
  const Options& options_;
  comm::Link* world_;
  Run run_;
};

}  // namespace

int run_lora_merge(Context& context, const Options& given) {
  Options options = given;
  auto world = World::enter(context, options);
  if (!world) {
    return report_error(context, options, world.error());
  }
  auto run = world->doing([&] { return Merge(context, options, world->link()).run(); });
  if (!run) {
    return world->fail_with(context, options, run.error());
  }
  return world->end_with(context, options, std::move(*run), finish);
}

}  // namespace bv::cli

// lora convert: an adapter of PEFT to one file a rank, and back.

#include <fmt/format.h>

#include "ci/cli/commands/lora.hpp"
#include "ci/cli/commands/lora_next.hpp"
#include "ci/cli/commands/merging_source.hpp"
#include "ci/cli/session/adapter_session.hpp"
#include "ci/cli/session/agree_on_adapter.hpp"
#include "ci/cli/session/finish.hpp"
#include "ci/cli/session/world.hpp"
#include "core/base/text.hpp"
#include "core/io/entry.hpp"
#include "core/io/fault_text.hpp"
#include "core/lora/convert_adapter.hpp"
#include "properties/claims/adapter.hpp"

namespace bv::cli {
namespace {

class ConvertAdapter {
 public:
  ConvertAdapter(Context& context, const Options& options, comm::Link* world)
      : context_(context), options_(options) {
    convert_.world = world;
  }

  Result<Run> run() {
    if (options_.out.empty()) {
      return fail(Code::BadValue, "lora convert needs a folder to write").advise("write --out DIR");
    }
    if (options_.to.empty()) {
      return fail(Code::BadValue, "lora convert needs --to hf or --to megatron")
          .advise("write --to megatron, or --to hf");
    }
    if (options_.to == "torch_dist") {
      return fail(Code::BadValue, "an adapter is not written as torch_dist")
          .pair("--to torch_dist", "--to hf or --to megatron")
          .advise("write --to megatron: a file for each rank");
    }
    context_.streams.err(start_line(options_));
    BV_TRY(library, load_library(options_));
    library_ = std::move(library);
    BV_TRY(opened, open_adapter_base(context_, options_, library_, run_));
    opened_ = std::move(opened);
    BV_CHECK(agree_on_model(convert_.world, options_, opened_));
    convert_.jobs = jobs_of(options_);
    convert_.overwrite = options_.overwrite;
    convert_.verify = !options_.no_verify;
    convert_.canonical = options_.canonical;
    const bool of_ranks = is_megatron_adapter(options_.adapter);
    if (options_.to == "hf" && !of_ranks &&
        !io::has_entry(fs::path(options_.adapter) / lora::kAdapterConfigName)) {
      return fail(Code::AdapterInvalid, fmt::format("{} holds no adapter of Megatron's ranks",
                                                    io::printable_path(options_.adapter)))
          .pair(io::has_entry(options_.adapter) ? "none of its files" : "no such folder",
                "the folder that lora convert --to megatron wrote")
          .advise("check the path of --adapter");
    }
    if (of_ranks != (options_.to == "hf")) {
      return fail(Code::AdapterInvalid,
                  fmt::format("{} is {} already", io::printable(options_.adapter),
                              of_ranks ? "an adapter of Megatron's ranks" : "an adapter of PEFT"))
          .pair(of_ranks ? "files of ranks" : std::string(lora::kAdapterConfigName),
                of_ranks ? std::string(lora::kAdapterConfigName) : "files of ranks")
          .advise(of_ranks ? "write --to hf" : "write --to megatron");
    }
    BV_CHECK(of_ranks ? to_hf() : to_megatron());
    if (written_) {
      add_next_of_lora(
          options_, "check",
          {{"model", options_.model}, {"adapter", options_.out}, {"against", options_.adapter}},
          of_ranks ? KeptRanks::Yes : KeptRanks::No,
          "reads what was written, and compares what both add", run_);
    }
    fill_replays(options_, "lora", run_);
    return std::move(run_);
  }

 private:
  Status to_megatron() {
    BV_TRY(adapter, lora::open_adapter(options_.adapter, opened_.hf, library_.kinds));
    BV_CHECK(agree_on_adapter(convert_.world, adapter));
    BV_TRY(asked, one_layout(options_));
    const parallel::Layout layout = settle(asked, options_, opened_.hf.model);
    run_.layouts = layout_rows({layout});
    show_header(context_, options_, run_);
    run_.notes.push_back(adapter_line(adapter));
    if (!adapter.faults.empty()) {
      claims::judge_adapter({&adapter, &opened_.hf, &library_.kinds, {layout}}, run_);
      run_.notes.push_back("nothing was written: a claim above does not hold");
      return Done{};
    }
    BV_CHECK(check_before_writing({&adapter, &opened_.hf, &library_.kinds, {}}, run_));
    BV_TRY(layers, plan_layers(opened_.hf.model, library_.kinds, layout));
    BV_CHECK(agree_on(
        convert_.world, {&layout, 1},
        fmt::format("writing{} as {}", identity_of(adapter, false), parallel::layout_id(layout))));
    CommandProgress progress(context_, options_, convert_.world);
    convert_.progress = &progress;
    BV_TRY(report, lora::adapter_to_megatron(adapter, *layers.sites, options_.out, convert_));
    add_written(report, options_, parallel::layout_id(layout), run_);
    written_ = true;
    return Done{};
  }

  Status to_hf() {
    BV_TRY(ranks, open_adapter_of_ranks(options_, opened_.hf, library_.kinds));
    BV_CHECK(agree_on_adapter(convert_.world, ranks.adapter));
    run_.layouts = layout_rows({ranks.adapter.layout});
    show_header(context_, options_, run_);
    if (!ranks.adapter.faults.empty()) {
      lora::Adapter faulty;
      faulty.faults = ranks.adapter.faults;
      faulty.keys = ranks.adapter.parameters;
      claims::judge_adapter({&faulty, &opened_.hf, &library_.kinds, {ranks.adapter.layout}}, run_);
      run_.notes.push_back("nothing was written: a claim above does not hold");
      return Done{};
    }
    BV_TRY(files, lora::plan_to_hf(ranks.adapter, *ranks.layers.sites, *ranks.class_layers.sites,
                                   opened_.hf));
    BV_TRY(pairs, lora::adapter_in_memory(files, opened_.hf, library_.kinds));
    BV_CHECK(check_before_writing({&pairs, &opened_.hf, &library_.kinds, {}}, run_));
    BV_CHECK(agree_on(convert_.world, {&ranks.adapter.layout, 1}, "writing the adapter of PEFT"));
    CommandProgress progress(context_, options_, convert_.world);
    convert_.progress = &progress;
    BV_TRY(report, lora::adapter_to_hf(ranks.adapter, files, options_.out, convert_));
    add_written(report, options_, parallel::layout_id(ranks.adapter.layout), run_);
    written_ = true;
    return Done{};
  }

  Context& context_;
  const Options& options_;
  Library library_;
  OpenedModel opened_;
  lora::ConvertAdapterOptions convert_;
  bool written_ = false;
  Run run_;
};

}  // namespace

int run_lora_convert(Context& context, const Options& given) {
  Options options = given;
  auto world = World::enter(context, options);
  if (!world) {
    return report_error(context, options, world.error());
  }
  auto run = world->doing([&] { return ConvertAdapter(context, options, world->link()).run(); });
  if (!run) {
    return world->fail_with(context, options, run.error());
  }
  return world->end_with(context, options, std::move(*run), finish);
}

}  // namespace bv::cli

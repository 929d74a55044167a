#include <fmt/format.h>

#include <algorithm>
#include <array>

#include "ci/cli/command.hpp"
#include "ci/cli/commands/convert_direction.hpp"
#include "ci/cli/commands/convert_next.hpp"
#include "ci/cli/commands/written_side.hpp"
#include "ci/cli/session/convert_verdicts.hpp"
#include "ci/cli/session/device.hpp"
#include "ci/cli/session/file_hashes.hpp"
#include "ci/cli/session/finish.hpp"
#include "ci/cli/session/idle_options.hpp"
#include "ci/cli/session/megatron_model.hpp"
#include "ci/cli/session/oracle_module.hpp"
#include "ci/cli/session/session.hpp"
#include "ci/cli/session/signals.hpp"
#include "ci/cli/session/united.hpp"
#include "ci/cli/session/unsupported.hpp"
#include "ci/cli/session/world.hpp"
#include "core/base/text.hpp"
#include "core/checkpoint/global_shard.hpp"
#include "core/checkpoint/open_model.hpp"
#include "core/comm/link.hpp"
#include "core/convert/shared_output.hpp"
#include "core/io/fault_text.hpp"
#include "core/io/output_place.hpp"
#include "core/torch_dist/store.hpp"
#include "properties/claims/catalogue.hpp"

namespace bv::cli {
namespace fs = std::filesystem;

namespace {

constexpr std::array<std::string_view, 2> kNothingWritten = {
    "nothing was written: a claim above does not hold",
    "nothing was written: there is a warning, and --fail-on warning was given"};

/// A refuted claim, or one that this version cannot make, stops the writing; a lossy cast that was
/// asked for does not.
bool stops(const Verdict& verdict) {
  return verdict.outcome == Outcome::Refuted
             ? verdict.code != Code::ValueRuleInexact
             : verdict.outcome == Outcome::Unsupported || verdict.outcome == Outcome::Broken;
}

class Convert {
 public:
  Convert(Context& context, const Options& options, comm::Link* world)
      : context_(context), options_(options) {
    convert_.world = world;
  }

  Result<Run> run() {
    if (options_.out.empty()) {
      return fail(Code::BadValue, "convert needs a folder to write").advise("write --out DIR");
    }
    if (options_.to.empty()) {
      return fail(Code::BadValue, "convert needs --to hf, --to megatron or --to torch_dist")
          .advise(
              "write --to megatron for shards, --to torch_dist for a checkpoint of "
              "Megatron-Core, or --to hf");
    }
    context_.streams.err(start_line(options_));
    if (options_.no_verify) {
      context_.streams.err("warning: --no-verify: what was written is not read back\n");
    }
    BV_TRY(device, open_device(context_, options_));
    device_ = std::move(device);
    convert_.device = device_.get();
    BV_CHECK(check_direction(options_, run_));
    BV_TRY(policy, plan::dtype_policy(options_.dtype));
    convert_.dtype = policy;
    convert_.jobs = jobs_of(options_);
    convert_.verify = !options_.no_verify;
    convert_.overwrite = options_.overwrite;
    convert_.resume = options_.resume;
    convert_.strict = options_.strict;
    convert_.accept_changed = options_.accept_changed;
    convert_.quantised =
        options_.quantised == "plain" ? convert::FormBack::Plain : convert::FormBack::Restored;
    convert_.follow_links = options_.follow_links;
    convert_.rules = options_.rules;
    convert_.also_read = options_.adapter.empty() ? std::vector<fs::path>{}
                                                  : std::vector<fs::path>{options_.adapter};
    BV_TRY(library, load_library(options_));
    library_ = std::move(library);
    auto done = options_.to == "hf" ? to_hf() : to_megatron();
    if (!done) {
      return std::move(done).error();
    }
    fill_replays(lines_, options_.to == "hf" ? "convert" : "check", run_);
    return std::move(run_);
  }

 private:
  [[nodiscard]] bool is_dist() const { return options_.to == "torch_dist"; }

  [[nodiscard]] bool is_host() const {
    return convert_.world == nullptr || convert_.world->rank() == 0;
  }

  /// --fail-on warning means that nothing is made of an input that has one.
  [[nodiscard]] bool warned() const {
    return options_.fail_on == "warning" && !run_.warnings.empty();
  }

  /// The claims of `check`; `values`: those about weights too. False: nothing is to be written.
  Result<bool> claims_hold(claims::Subject& subject, const parallel::Layout& layout,
                           bool values = true) {
    claims::Wanted wanted{claims::Level::Headers};
    if (claims::rests_on_statement(subject.base())) {
      wanted.also = {"forward"};
      subject.budget.computes_forward = true;
      subject.budget.oracle.forward = load_forward().functions;
    }
    claims::Panel panel(std::move(wanted), run_);
    const bool names = panel.judge_names(subject);
    if (names) {
      BV_CHECK(plan::check_layout(subject.base().model, layout));
      subject.layouts = {layout};
      run_.layouts = layout_rows(subject.layouts);
    }
    show_header(context_, options_, run_);
    panel.judge_rest(subject, names ? "" : "the names are wrong");
    if (!values) {  // the weights that it looked at are not those that are converted
      std::erase_if(run_.claims, [](const ClaimSummary& one) { return one.claim == "values"; });
      std::erase_if(run_.verdicts, [](const Verdict& one) { return one.claim == "values"; });
    }
    std::erase_if(run_.claims,
                  [](const ClaimSummary& one) { return one.reached && !one.requested; });
    BV_CHECK(unite_in(convert_.world, run_));
    const bool right = names && subject.base().model.faults.empty() && !warned() &&
                       std::none_of(run_.verdicts.begin(), run_.verdicts.end(), stops);
    return convert::told_by_host(convert_.world, right, "whether the claims hold");
  }

  Status to_megatron() {
    constexpr std::string_view kNames =
        "every HF tensor used once, every Megatron parameter filled";
    BV_TRY(merging, open_merging(context_, options_, library_, run_, device_.get()));
    const bool shared = merging && convert_.world != nullptr;
    const std::string merged = shared ? identity_of(*merging->adapter, options_.untie) : "";
    if (merging) {
      convert_.adapter = {digest_of(*merging->adapter), options_.untie};
    }
    auto model = merging ? Result<OpenedModel>(std::move(merging->model))
                         : open_model(context_, options_, library_);
    if (!model && is_unsupported(model.error().code)) {
      run_.model_ref = options_.model;
      add_unsupported(model.error(), "names", kNames, run_);
      return Done{};
    }
    BV_TRY(opened, std::move(model));
    BV_CHECK(agree_on_model(convert_.world, options_, opened));
    describe_model(options_, opened, run_);
    lines_ = without_idle(options_, opened.hf.model);
    if (!opened.hf.checkpoint) {
      return fail(
                 Code::ModelNotFound,
                 fmt::format("{} is headers only: there are no bytes to convert", opened.reference))
          .advise("give the directory with the weights");
    }
    if (!is_dist() && is_host()) {
      BV_CHECK(convert::check_place_for_megatron(opened.hf, options_.out, convert_));
    }
    BV_TRY(asked, one_layout(options_));
    claims::Subject subject;
    subject.parts = {{&opened.hf}};
    subject.kinds = &library_.kinds;
    subject.under_test = opened.under_test.get();
    subject.dtype = convert_.dtype;
    subject.budget.jobs = convert_.jobs;
    Options check = lines_;
    check.command = "check";
    subject.replay = replay_base(check);
    const parallel::Layout layout = settle(asked, options_, opened.hf.model);
    const std::string padding = plan::padding_note(opened.hf.model, asked, {layout});
    run_.layouts_note = layouts_line(layout, etp_note(options_, opened.hf.model), padding);
    run_.notes.insert(run_.notes.end(), padding.empty() ? 0 : 1,
                      padding + ", as --make-vocab-size-divisible-by 1 does");
    BV_TRY(right, claims_hold(subject, layout));
    if (!right) {
      run_.notes.emplace_back(kNothingWritten[warned() ? 1 : 0]);
      return Done{};
    }
    BV_CHECK(agree_on(convert_.world, {&layout, 1},
                      fmt::format("writing {}{} as {}", opened.hf.header_digest, merged,
                                  parallel::layout_id(layout))));
    CommandProgress progress(context_, options_, convert_.world);
    convert_.progress = &progress;
    const auto write = is_dist() ? convert::to_torch_dist : convert::to_megatron;
    auto report = write(opened.hf, library_.kinds, layout, options_.out, convert_);
    if (!report) {
      return stopped_or(std::move(report).error());
    }
    add_bytes(*report, parallel::layout_id(layout));
    add_next_of_megatron(lines_, opened.hf, run_);
    return Done{};
  }

  Status to_hf() {
    BV_TRY(named, locate(context_, options_));
    BV_TRY(located, megatron_of(std::move(named)));
    if (located.kind == io::ModelKind::TorchDist) {
      BV_CHECK(check_form(options_, false));
      run_.notes.insert(run_.notes.end(), located.notes.begin(), located.notes.end());
      return global_to_hf(located.path);
    }
    if (located.kind != io::ModelKind::MegatronFolder) {
      return no_way_back(located);
    }
    if (!options_.like.empty()) {
      return fail(Code::Conflict, "--like belongs to torch_dist checkpoints")
          .advise("leave it out: manifest.json says what the HF folder was");
    }
    BV_TRY(folder, open_megatron_folder(located.path, options_, library_));
    BV_CHECK(agree_on_folder(convert_.world, folder, options_));
    BV_CHECK(check_form(options_, folder.quantised.has_value()));
    run_.model_ref = options_.model;
    run_.model_source = "megatron";
    run_.family = family::name(*folder.model.family);
    run_.rules = std::ssize(family::rules(*folder.model.family));
    run_.tensors = static_cast<std::int64_t>(folder.hf_headers.size());
    for (const auto& [tensor, spec] : folder.hf_headers) {
      run_.bytes += tensor_bytes(spec);
    }
    run_.shards = std::ssize(folder.digests);
    run_.layouts = layout_rows({folder.layout});
    run_.layouts_note = layouts_line(folder.layout, "", "");
    tell_left_out(options_, folder.left_out, run_);
    show_header(context_, options_, run_);
    BV_CHECK(agree_on(convert_.world, {&folder.layout, 1},
                      fmt::format("writing shards {} as HF files", folder.plan_digest)));
    CommandProgress progress(context_, options_, convert_.world);
    convert_.progress = &progress;
    convert_.dtype = folder.dtype;
    auto report = convert::to_hf(folder, library_.kinds, options_.out, convert_);
    if (!report) {
      return stopped_or(std::move(report).error());
    }
    add_warnings(value_warnings(*report, options_.model, options_.out));
    add_bytes(*report, parallel::layout_id(folder.layout));
    add_next_of_hf(lines_, run_);
    return Done{};
  }

  void add_warnings(std::vector<Error> warnings) {
    std::move(warnings.begin(), warnings.end(), std::back_inserter(run_.warnings));
  }

  /// A torch_dist checkpoint names neither HF tensors nor their files: those of --like.
  Status global_to_hf(const fs::path& folder) {
    if (options_.like.empty()) {
      return fail(Code::BadValue,
                  "a torch_dist checkpoint does not say what its HF model is called")
          .at(io::printable_path(folder))
          .advise(
              "give the HF model that it was made from, or one of its architecture: --like DIR");
    }
    WrittenSide side;
    BV_TRY(written, dist_written_with(options_, folder, "the checkpoint"));
    side.written = std::move(written);
    BV_TRY(opened, side.open(context_, options_, options_.like, library_, run_));
    if (side.written) {
      run_.notes.insert(run_.notes.end(), side.written->notes.begin(), side.written->notes.end());
    }
    describe_model(options_, opened, run_);
    lines_ = without_idle(options_, opened.hf.model);
    run_.model_ref = options_.model;
    run_.model_source = "megatron";
    if (!opened.hf.checkpoint) {
      return fail(Code::ModelNotFound, fmt::format("{} has no weights, whose names and files are "
                                                   "needed",
                                                   io::printable(options_.like)))
          .advise("give the directory with the weights; they are not read");
    }
    claims::Subject subject;
    subject.parts = {{&opened.hf}};
    subject.kinds = &library_.kinds;
    subject.under_test = opened.under_test.get();
    Options like = lines_;
    like.model = options_.like;
    subject.replay = replay_base(like);
    BV_TRY(store, torch_dist::DistCheckpoint::open(folder));
    describe_checkpoint(store, options_.like, run_);
    const parallel::Layout layout = checkpoint::global_layout(store, opened.hf.model);
    BV_TRY(right, claims_hold(subject, layout, false));
    if (!right) {
      run_.notes.emplace_back(kNothingWritten[warned() ? 1 : 0]);
      return Done{};
    }
    BV_TRY(whole, add_file_hashes(folder, store, convert_.jobs, run_));
    if (!whole) {
      run_.notes.emplace_back(kNothingWritten[0]);
      return Done{};
    }
    BV_CHECK(store.check_sums(convert_.jobs, run_.notes));
    torch_dist::tell_beside(store.beside(), run_.notes);
    CommandProgress progress(context_, options_, convert_.world);
    convert_.progress = &progress;
    auto report = convert::global_to_hf(opened.hf, store, library_.kinds, options_.out, convert_);
    if (!report) {
      return stopped_or(std::move(report).error());
    }
    add_warnings(value_warnings(*report, options_.model, options_.like));
    add_bytes(*report, parallel::layout_id(layout));
    add_next_of_hf(lines_, run_);
    return Done{};
  }

  Status stopped_or(Error error) {
    const std::int64_t finished = weight_files(io::partial_name(options_.out));
    if (const int signal = stop_requested(); signal != 0) {
      if (convert_.world != nullptr) {
        convert_.world->fail_all(error);
      }
      run_.stopped = true;
      run_.stop_signal = signal;
      run_.notes.push_back(fmt::format(
          "stopped: nothing is at {} yet{}", escaped(options_.out),
          is_dist() ? "; repeat with --overwrite to start again"
          : finished == 0
              ? ""
              : fmt::format("; repeat with --resume, and {} kept",
                            counted(static_cast<std::uint64_t>(finished), "finished file") +
                                (finished == 1 ? " is" : " are"))));
      return Done{};
    }
    if (error.code == Code::DiskFull && is_dist()) {
      error.help = "free space, then repeat with --overwrite";
    } else if (error.code == Code::DiskFull && finished > 0) {
      error.help = fmt::format("free space, then repeat with --resume; {} kept",
                               counted(static_cast<std::uint64_t>(finished), "finished file"));
    }
    return error;
  }

  void add_bytes(const convert::ConvertReport& report, const std::string& layout) {
    run_.notes.insert(run_.notes.end(), report.notes.begin(), report.notes.end());
    add_notes_of(device_.get(), run_);
    std::vector<Verdict> verdicts = folder_verdicts(report);
    if (verdicts.empty()) {
      for (const auto& [file, tensors] : report.digests) {
        verdicts.push_back(written_verdict(file, tensors.size(), convert_.verify));
      }
      run_.notes.push_back(fmt::format("{} written to {}{}", counted(report.digests.size(), "file"),
                                       io::printable(options_.out), although_lossy(run_)));
      if (stop_requested() != 0) {
        run_.notes.push_back("the signal came after the last byte: the output is complete");
      }
    }
    for (Verdict& verdict : verdicts) {
      verdict.layout = layout;
    }
    ClaimSummary summary{.claim = "bytes", .title = "the written files read back equal"};
    summary.noun = "tensors";
    for (const Verdict& verdict : verdicts) {
      summary.subjects += verdict.cases;
    }
    summary.vacuous = verdicts.empty();
    run_.claims.push_back(std::move(summary));
    std::move(verdicts.begin(), verdicts.end(), std::back_inserter(run_.verdicts));
  }

  Context& context_;
  const Options& options_;
  Options lines_ = options_;  // those that change something
  Library library_;
  std::unique_ptr<cuda::StagedExecutor> device_;  // of --device; null: the processor
  convert::ConvertOptions convert_;
  Run run_;
};

}  // namespace

int run_convert(Context& context, const Options& given) {
  Options options = given;
  auto world = World::enter(context, options);
  if (!world) {
    return report_error(context, options, world.error());
  }
  auto run = world->doing([&] { return Convert(context, options, world->link()).run(); });
  if (!run) {
    return world->fail_with(context, options, run.error());
  }
  return world->end_with(context, options, std::move(*run), finish);
}

}  // namespace bv::cli

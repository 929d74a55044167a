#include <fmt/format.h>

#include "ci/cli/command.hpp"
#include "ci/cli/session/finish.hpp"
#include "ci/cli/session/session.hpp"
#include "ci/cli/session/signals.hpp"
#include "core/base/text.hpp"
#include "core/checkpoint/open_model.hpp"
#include "core/io/output_folder.hpp"

namespace bv::cli {
namespace fs = std::filesystem;

namespace {

class Convert {
 public:
  Convert(Context& context, const Options& options) : context_(context), options_(options) {}

  Result<Run> run() {
    if (options_.out.empty()) {
      return fail(Code::BadValue, "convert wants a folder to write").advise("write --out DIR");
    }
    if (options_.to.empty()) {
      return fail(Code::BadValue, "convert wants a direction")
          .advise("write --to megatron, or --to hf");
    }
    context_.streams.err(
        options_.verbosity() < 0
            ? ""
            : fmt::format("bridge-verify: convert {} --to {}\n", options_.model, options_.to));
    if (options_.no_verify) {
      context_.streams.err("warning: --no-verify: what was written is not read back\n");
    }
    BV_CHECK(check_abilities(options_));
    BV_TRY(policy, plan::dtype_policy(options_.dtype));
    convert_.dtype = policy;
    convert_.jobs = jobs_of(options_);
    convert_.verify = !options_.no_verify;
    convert_.overwrite = options_.overwrite;
    convert_.resume = options_.resume;
    BV_TRY(library, load_library(options_));
    library_ = std::move(library);
    auto done = options_.to == "hf" ? to_hf() : to_megatron();
    if (!done) {
      return std::move(done).error();
    }
    return std::move(run_);
  }

 private:
  /// Claims that must hold before a byte is written; their verdicts are part of the run.
  bool add_claim(std::string_view claim, std::string_view title, std::vector<Verdict> verdicts) {
    ClaimSummary summary;
    summary.claim = claim;
    summary.title = title;
    bool right = true;
    for (const Verdict& verdict : verdicts) {
      summary.subjects += verdict.cases;
      right = right && (verdict.outcome == Outcome::Proved || verdict.outcome == Outcome::Held);
    }
    summary.vacuous = verdicts.empty();
    run_.claims.push_back(std::move(summary));
    std::move(verdicts.begin(), verdicts.end(), std::back_inserter(run_.verdicts));
    return right;
  }

  Status to_megatron() {
    BV_TRY(opened, open_model(context_, options_, library_));
    describe_model(opened, run_);
    if (!opened.hf.checkpoint) {
      return fail(
                 Code::ModelNotFound,
                 fmt::format("{} is headers only: there are no bytes to convert", opened.reference))
          .advise("give the directory with the weights");
    }
    BV_TRY(asked, one_layout(options_));
    const parallel::Layout layout = settle_etp(asked, options_, opened.hf.model);
    claims::Subject subject;
    subject.parts = {{&opened.hf}};
    subject.kinds = &library_.kinds;
    subject.under_test = opened.under_test.get();
    subject.dtype = convert_.dtype;
    subject.budget.jobs = convert_.jobs;
    subject.replay = fmt::format("bridge-verify check --model {}", options_.model);
    if (!add_claim("names", "every HF tensor used once, every Megatron parameter filled",
                   claims::check_names(subject))) {
      return Done{};
    }
    BV_CHECK(plan::check_layout(opened.hf.model, layout));
    subject.layouts = {layout};
    run_.layouts = layout_rows(subject.layouts);
    const bool shapes = add_claim("shapes", "header shapes equal the rules' extents",
                                  claims::check_shapes(subject));
    const bool coverage =
        add_claim("coverage", "no gap, no overlap", claims::check_coverage(subject));
    const bool inverse = add_claim("inverse", "HF -> Megatron -> HF is the identity",
                                   claims::check_inverse(subject));
    auto copies = claims::check_copies(subject);
    const bool equal = std::all_of(copies.begin(), copies.end(),
                                   [](const Verdict& one) { return one.outcome == Outcome::Held; });
    // Placement and offsets are the claims that a rule set of one's own can fail alone.
    const bool placement =
        subject.under_test == nullptr ||
        add_claim("placement", "same elements as the oracle", claims::check_placement(subject));
    const bool offsets =
        subject.under_test == nullptr ||
        add_claim("offsets", "norms stored as modules read them", claims::check_offsets(subject));
    if (!shapes || !coverage || !inverse || !equal || !placement || !offsets) {
      add_claim("values", "stored copies are equal", std::move(copies));
      return Done{};
    }
    {
      CommandProgress progress(context_, options_);
      convert_.progress = &progress;
      auto report = convert::to_megatron(opened.hf, library_.kinds, layout, options_.out, convert_);
      if (!report) {
        return stopped_or(std::move(report).error());
      }
      add_bytes(*report, parallel::layout_id(layout));
    }
    add_claim("values", "value-changing rules and casts lose no bit of these tensors",
              claims::check_values(subject));
    return Done{};
  }

  Status to_hf() {
    BV_TRY(located, locate(context_, options_));
    if (located.kind != io::ModelKind::MegatronFolder) {
      return fail(Code::NoConfig,
                  fmt::format("{} is no Megatron folder of bridge-verify: it has no manifest.json",
                              options_.model))
          .pair(located.how, "a folder that convert --to megatron wrote")
          .advise("give that folder with --model");
    }
    BV_TRY(folder, checkpoint::open_megatron(located.path, library_.families));
    run_.model_ref = options_.model;
    run_.model_source = "megatron";
    run_.family = folder.family;
    run_.tensors = static_cast<std::int64_t>(folder.hf_headers.size());
    run_.layouts = layout_rows({folder.layout});
    CommandProgress progress(context_, options_);
    convert_.progress = &progress;
    convert_.dtype = folder.dtype;
    auto report = convert::to_hf(folder, library_.kinds, options_.out, convert_);
    if (!report) {
      return stopped_or(std::move(report).error());
    }
    for (const convert::DroppedRows& dropped : report->dropped_rows) {
      run_.warnings.push_back(
          fail(Code::PaddingRowsDropped,
               fmt::format("{} padding rows of {} are not zero and are dropped (W073)",
                           dropped.rows, dropped.tensor))
              .pair(fmt::format("rows of norm {:.6g}", dropped.norm), "rows of zeros")
              .advise("correct vocab_size of config.json when these rows are tokens"));
    }
    add_bytes(*report, parallel::layout_id(folder.layout));
    return Done{};
  }

  Status stopped_or(Error error) {
    if (const int signal = stop_requested(); signal != 0) {
      run_.stopped = true;
      run_.stop_signal = signal;
      run_.notes.push_back("stopped; repeat with --resume to keep the finished files");
      return Done{};
    }
    if (error.code == Code::DiskFull) {
      error.help = fmt::format("free space, then repeat with --resume; {} finished files are kept",
                               finished_files());
    }
    return error;
  }

  /// Weight files of the unfinished output.
  [[nodiscard]] std::size_t finished_files() const {
    std::size_t out = 0;
    std::error_code error;
    fs::directory_iterator at(io::partial_name(options_.out), error);
    for (; !error && at != fs::directory_iterator(); at.increment(error)) {
      out += at->path().extension() == ".safetensors" ? 1U : 0U;
    }
    return out;
  }

  void add_bytes(const convert::ConvertReport& report, const std::string& layout) {
    std::vector<Verdict> verdicts;
    for (const convert::ReplicaFault& fault : report.replicas) {
      Verdict verdict;
      verdict.claim = "bytes";
      verdict.rule = fmt::format("replica{}", verdicts.size());
      verdict.layout = layout;
      verdict.outcome = Outcome::Refuted;
      verdict.code = Code::ReplicasDiffer;
      verdict.megatron = fault.tensor;
      verdict.cases = 1;
      verdict.refuted_cases = 1;
      verdict.title = fmt::format("two ranks hold different copies of {}", fault.tensor);
      verdict.found = fmt::format("{} differs from {} at element {}", fault.other_owner,
                                  fault.first_owner, fault.element);
      verdict.wanted = "equal bytes on every owner";
      verdict.help = "find the rank that diverged; nothing was written";
      verdicts.push_back(std::move(verdict));
    }
    if (verdicts.empty()) {
      for (const auto& [file, tensors] : report.digests) {
        Verdict verdict;
        verdict.claim = "bytes";
        verdict.rule = file;
        verdict.layout = layout;
        verdict.megatron = file;
        verdict.outcome = convert_.verify ? Outcome::Held : Outcome::Inconclusive;
        verdict.evidence.bytes = convert_.verify;
        verdict.cases = std::max<std::int64_t>(1, static_cast<std::int64_t>(tensors.size()));
        if (!convert_.verify) {
          verdict.code = Code::WriteLost;
          verdict.title = file + " was written and not read back";
          verdict.help = "leave --no-verify out";
        }
        verdicts.push_back(std::move(verdict));
      }
      run_.notes.push_back(
          fmt::format("{} files written to {}", report.digests.size(), options_.out));
    }
    add_claim("bytes", "what was written was read back and is what was meant", std::move(verdicts));
  }

  Context& context_;
  const Options& options_;
  Library library_;
  convert::ConvertOptions convert_;
  Run run_;
};

}  // namespace

int run_convert(Context& context, const Options& options) {
  auto run = Convert(context, options).run();
  if (!run) {
    return report_error(context, options, run.error());
  }
  stamp(context, options, *run);
  return finish(context, options, *run);
}

}  // namespace bv::cli

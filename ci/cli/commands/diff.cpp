// diff A B: two HF models, or one and its Megatron shards; says where the wrong rows came from.

#include <fmt/format.h>

#include <algorithm>
#include <functional>
#include <iterator>

#include "ci/cli/command.hpp"
#include "ci/cli/commands/written_side.hpp"
#include "ci/cli/session/agree_on_adapter.hpp"
#include "ci/cli/session/convert_verdicts.hpp"
#include "ci/cli/session/diff_configs.hpp"
#include "ci/cli/session/diff_division.hpp"
#include "ci/cli/session/diff_sides.hpp"
#include "ci/cli/session/diff_verdicts.hpp"
#include "ci/cli/session/file_hashes.hpp"
#include "ci/cli/session/finish.hpp"
#include "ci/cli/session/idle_options.hpp"
#include "ci/cli/session/legacy_shards.hpp"
#include "ci/cli/session/session.hpp"
#include "ci/cli/session/signals.hpp"
#include "ci/cli/session/two_models.hpp"
#include "ci/cli/session/unsupported.hpp"
#include "ci/cli/session/world.hpp"
#include "core/base/shell.hpp"
#include "core/base/text.hpp"
#include "core/checkpoint/global_shard.hpp"
#include "core/checkpoint/megatron_folder.hpp"
#include "core/compare/diff.hpp"
#include "core/io/checkpoint.hpp"
#include "core/torch_dist/store.hpp"

namespace bv::cli {
namespace fs = std::filesystem;

namespace {

class Diff {
 public:
  Diff(Context& context, const Options& options, const std::vector<std::string>& sides,
       comm::Link* world)
      : context_(context), options_(options), world_(world), sides_(sides) {}

  Result<Run> run() {
    BV_CHECK(check_sides(sides_));
    const std::string &a = sides_[0], &b = sides_[1];
    context_.streams.err(start_line(options_));
    BV_CHECK(checkpoint::check_shards_there(b));
    const auto shards = shards_in(b);
    b_folder_ = b;
    run_.model_ref = a;
    BV_TRY(megatron, megatron_in(b, run_.notes));
    if (megatron && megatron->kind == io::ModelKind::TorchDist) {
      run_.notes.emplace_back("diff of an HF model (wanted) and a torch_dist checkpoint (found)");
      BV_CHECK(model_and_global(a, megatron->path));
      fill_replays(lines_, options_.command, run_);
      return std::move(run_);
    }
    if (const auto files = torch_dist::legacy_files(megatron ? megatron->path : fs::path(b));
        !files.empty()) {
      run_.notes.push_back(fmt::format("diff of an HF model (wanted) and {} (found)",
                                       counted(files.size(), "mp_rank file")));
      BV_CHECK(model_and_legacy(a, files));
      fill_replays(lines_, options_.command, run_);
      return std::move(run_);
    }
    if (shards.empty() && !options_.megatron.empty()) {
      return no_megatron(b);
    }
    run_.notes.push_back(shards.empty() ? "diff of two HF checkpoints: A is wanted, B is found"
                                        : fmt::format("diff of an HF model (wanted) and {} (found)",
                                                      counted(shards.size(), "Megatron shard")));
    BV_CHECK(shards.empty() ? two_models(a, b) : model_and_shards(a, shards));
    fill_replays(lines_, options_.command, run_);
    return std::move(run_);
  }

 private:
  Status two_models(const std::string& a, const std::string& b) {
    BV_TRY(library, load_library(options_));
    BV_TRY(left, open_side(context_, options_, a, library, run_));
    BV_TRY(right, open_side(context_, options_, b, library, run_));
    find_models(library, left, right);
    const io::Checkpoint& wanted = left.checkpoint();
    const io::Checkpoint& found = right.checkpoint();
    BV_TRY(configs, diff_configs(left.folder, right.folder, library.families));
    run_.notes.insert(run_.notes.end(), configs.notes.begin(), configs.notes.end());
    run_.model_source = "dir";
    run_.tensors = static_cast<std::int64_t>(wanted.tensors().size());
    run_.bytes = wanted.total_bytes();
    run_.shards = static_cast<std::int64_t>(wanted.files().size());
    auto comparison = compare_models(options_, library, left, right, run_.notes);
    if (!options_.exclude.empty()) {
      BV_CHECK(leave_out(options_, left.headers(), right.headers(), comparison, run_.notes));
    }
    BV_CHECK(agree_on_configs(world_, {left.folder, right.folder}));
    BV_CHECK(compare(comparison, ""));
    add_copies([&] { return copies_of(options_, left, right); });
    BV_CHECK(wanted.unchanged());
    BV_CHECK(found.unchanged());
    if (!configs.verdicts.empty()) {
      add("shapes", "config.json gives both models the same sizes", std::move(configs.verdicts));
    }
    return Done{};
  }

  /// The wanted side of a Megatron checkpoint; nothing when the verdicts are already there: A
  /// cannot be judged, or is no whole model.
  Result<std::optional<OpenedModel>> open_wanted(const std::string& a, const Library& library) {
    auto model = side_.open_wanted(context_, options_, a, library, run_);
    if (!model && is_unsupported(model.error().code)) {
      add_unsupported(model.error(), "bytes", "every element of B is the wanted one", run_);
      return std::optional<OpenedModel>();
    }
    BV_TRY(opened, std::move(model));
    BV_CHECK(agree_on_model(world_, options_, opened));
    if (side_.merging) {
      BV_CHECK(agree_on_adapter(world_, *side_.merging->adapter));
    }
    describe_model(options_, opened, run_);
    lines_ = without_idle(options_, opened.hf.model);
    if (side_.written) {
      std::ranges::copy(side_.written->notes, std::back_inserter(run_.notes));
    }
    if (!opened.hf.checkpoint) {
      return fail(Code::ModelNotFound,
                  fmt::format("{} is headers only: there are no bytes to compare", a))
          .advise("give the directory with the weights");
    }
    if (!opened.hf.model.faults.empty()) {
      add("names", "the names of A make a whole model", name_faults(opened.hf, library.kinds));
      return std::optional<OpenedModel>();
    }
    return std::optional(std::move(opened));
  }

  /// All global tensors as what one rank would hold: the layout that they were saved in does not
  /// matter.
  Status model_and_global(const std::string& a, const fs::path& folder) {
    BV_CHECK(check_no_sizes(options_));
    BV_TRY(library, load_library(options_));
    BV_TRY(written, dist_written_with(options_, folder, "B"));
    side_.written = std::move(written);
    BV_TRY(opened, open_wanted(a, library));
    if (!opened) {
      return Done{};
    }
    BV_TRY(store, torch_dist::DistCheckpoint::open(folder));
    iteration_ = escaped(folder.filename().string());
    global_ = &store;
    check_sums_ = [&](bool values_differ) -> Status {
      BV_TRY(whole, add_file_hashes(folder, store, jobs_of(options_), run_));
      return whole && values_differ ? store.check_sums(jobs_of(options_), run_.notes)
                                    : Status(Done{});
    };
    torch_dist::tell_beside(store.beside(), run_.notes);
    const checkpoint::HfModel& hf = opened->hf;
    const parallel::Layout layout = checkpoint::global_layout(store, hf.model);
    run_.layouts_note = one_rank_note(layout);
    BV_CHECK(plan::check_layout(hf.model, layout));
    run_.layouts = layout_rows({layout});
    BV_TRY(plan, plan::Plan::make(hf.model, library.kinds, layout));
    tell_wrapper(hf.model, store.headers(), run_.notes);
    compare::Shards shards;
    shards.emplace(plan.files().front().key,
                   std::make_unique<const checkpoint::GlobalShard>(store, plan));
    return compare_with(*opened, plan, std::move(shards));
  }

  Status model_and_legacy(const std::string& a, const std::vector<torch_dist::LegacyFile>& files) {
    BV_TRY(library, load_library(options_));
    BV_TRY(opened, open_wanted(a, library));
    if (!opened) {
      return Done{};
    }
    checkpoint::HfModel& hf = opened->hf;
    BV_TRY(found, open_legacy(files, options_, hf.model));
    run_.notes.insert(run_.notes.end(), found.notes.begin(), found.notes.end());
    tell_wrapper(hf.model, found.shards, run_.notes);
    run_.layouts_note =
        fmt::format("{}, from the names of the mp_rank folders", parallel::layout_id(found.layout));
    BV_CHECK(plan::check_layout(hf.model, found.layout));
    run_.layouts = layout_rows({found.layout});
    BV_TRY(plan, plan::Plan::make(hf.model, library.kinds, found.layout));
    return compare_with(*opened, plan, std::move(found.shards));
  }

  Status model_and_shards(const std::string& a, const std::map<std::string, fs::path>& files) {
    BV_TRY(library, load_library(options_));
    BV_TRY(written, written_with(options_, b_folder_));
    side_.written = std::move(written);
    BV_TRY(wanted, open_wanted(a, library));
    if (!wanted) {
      return Done{};
    }
    const OpenedModel& opened = *wanted;
    BV_TRY(shards, open_shards(files, options_.strict));
    BV_TRY(layout, layout_of(files, side_.options(options_)));
    if (side_.written) {
      BV_CHECK(side_.written->check_layout(layout));
    }
    if (auto all = compare::check_all_ranks(opened.hf.model, library.kinds, layout, shards); !all) {
      return of_b(std::move(all).error().at(b_folder_.string()));
    }
    tell_wrapper(opened.hf.model, shards, run_.notes);
    run_.layouts_note =
        fmt::format("{}, from the names of the shard files", parallel::layout_id(layout));
    if (!layout.vocab_divisor) {
      layout.vocab_divisor = compare::padded_shard_rows(opened.hf.model, layout, shards);
      run_.layouts_note += layout.vocab_divisor
                               ? fmt::format(", the vocabulary padded to {} rows as in the shards",
                                             *layout.vocab_divisor * layout.tp)
                               : "";
    }
    if (auto legal = plan::check_layout(opened.hf.model, layout); !legal) {
      return of_b(std::move(legal).error());
    }
    run_.layouts = layout_rows({layout});
    BV_TRY(plan, plan::Plan::make(opened.hf.model, library.kinds, layout));
    return compare_with(opened, plan, std::move(shards));
  }

  /// What the manifest of B says is none of the user's mistakes.
  [[nodiscard]] Error of_b(Error error) const {
    return side_.written ? side_.written->as_input(std::move(error)) : error;
  }

  Status compare_with(const OpenedModel& opened, const plan::Plan& plan, compare::Shards shards) {
    const checkpoint::HfModel& hf = opened.hf;
    BV_TRY(policy, plan::dtype_policy(side_.options(options_).dtype));
    BV_CHECK(shapes_right(hf, plan));
    if (const auto status = plan::check_dtypes(hf.model, hf.headers); !status) {
      add_unsupported(status.error(), "bytes", "every element of B is the wanted one", run_);
      return Done{};
    }
    layouts_ = {plan.layout()};
    auto comparison = compare::compare_megatron(hf, plan, shards, policy);
    const bool strict = options_.has("dtype") && !policy.params;
    if (global_ != nullptr && !strict) {
      compare::share_tensors(*global_, plan, comparison);
    }
    BV_CHECK(compare(comparison, parallel::layout_id(plan.layout()),
                     strict ? std::nullopt : compare::own_dtype(comparison),
                     processes_of_subjects(world_, comparison, plan)));
    if (!options_.accept_changed) {  // else nothing is said of the values of A
      add_copies([&] { return copies_of(*hf.checkpoint, hf.model.must_equal, "A"); });
    }
    if (opened.under_test && is_host()) {
      judge_rules(subject_of(opened, plan.layout()));
    }
    BV_CHECK(hf.checkpoint->unchanged());
    for (const auto& [rank, shard] : shards) {
      BV_CHECK(shard->unchanged());
    }
    const bool refuted = count(run_).refuted > 0;
    if (const std::string hint = side_.written ? adapter_hint(*side_.written, options_) : "";
        refuted && !hint.empty()) {
      run_.notes.push_back(hint);
    }
    const bool several = side_.fingerprints() != nullptr || plan.files().size() > 1;
    const bool copies = options_.accept_changed && !refuted && several && is_host();
    return copies ? compare_copies(plan, std::move(shards)) : Status(Done{});
  }

  /// What rules say of a checkpoint that they made is no evidence for them: they are judged too.
  void judge_rules(const claims::Subject& subject) {
    if (std::vector<Verdict> open = open_rules(subject); !open.empty()) {
      add("rules", "every rule can be judged", std::move(open));
    }
    for (const claims::Claim& claim : claims::catalogue()) {
      if (claim.by_rule) {
        add(claim.id, claim.title, claim.judge(subject));
      }
    }
  }

  void add(std::string_view claim, std::string_view title, std::vector<Verdict> verdicts) {
    ClaimSummary summary;
    summary.claim = claim;
    summary.title = title;
    for (const Verdict& verdict : verdicts) {
      summary.subjects += verdict.cases;
    }
    run_.claims.push_back(std::move(summary));
    std::move(verdicts.begin(), verdicts.end(), std::back_inserter(run_.verdicts));
  }

  /// A tensor that a model holds twice and that Megatron holds once.
  void add_copies(const std::function<std::vector<Verdict>()>& judge) {
    if (auto verdicts = is_host() ? judge() : std::vector<Verdict>();
        !verdicts.empty() && stop_requested() == 0) {
      add("values", "stored copies hold what they repeat", std::move(verdicts));
    }
  }

  Status compare(const compare::Comparison& comparison, const std::string& layout,
                 std::optional<DType> own_dtype = {}, std::vector<int> processes = {}) {
    BV_CHECK(agree_on(world_, layouts_, "comparing " + layout));
    show_header(context_, options_, run_);
    CommandProgress progress(context_, options_, world_);
    compare::DiffOptions how;
    how.world = world_;
    how.processes = std::move(processes);
    how.jobs = jobs_of(options_);
    how.progress = &progress;
    how.own_dtype = own_dtype;
    how.values = !options_.accept_changed;
    auto report = compare::diff(comparison, how);
    if (!report) {
      if (const int signal = stop_requested(); signal != 0) {
        if (world_ != nullptr) {
          world_->fail_all(report.error());
        }
        run_.stopped = true;
        run_.stop_signal = signal;
        return Done{};
      }
      return std::move(report).error();
    }
    if (check_sums_ && is_host()) {
      BV_CHECK(check_sums_(!report->differences.empty() || !how.values));
    }
    const auto notes = recast_notes(*report, how);
    run_.notes.insert(run_.notes.end(), notes.begin(), notes.end());
    DiffVerdicts verdicts = diff_verdicts(comparison, *report, layout, iteration_);
    add("names", "every tensor of A is in B, and nothing else", std::move(verdicts.names));
    if (how.values) {
      add("bytes", "every element of B is the wanted one", std::move(verdicts.bytes));
      return Done{};
    }
    add("shapes", "every tensor has the wanted shape and type",
        shapes_alone(std::move(verdicts.bytes)));
    run_.notes.emplace_back(
        "--accept-changed: the values were trained and are not compared; export the checkpoint and "
        "check it against the export");
    return Done{};
  }

  /// Trained weights say nothing of the model; copies are equal, and none holds another's bytes.
  Status compare_copies(const plan::Plan& plan, compare::Shards shards) {
    BV_TRY(verdicts,
           copy_verdicts(plan, std::move(shards), side_.fingerprints(), jobs_of(options_)));
    if (!verdicts.empty()) {  // else names says so
      add("bytes", "copies are equal, and no rank holds another's", std::move(verdicts));
    }
    return Done{};
  }

  /// What is not divided is done where the report is made.
  [[nodiscard]] bool is_host() const { return world_ == nullptr || world_->rank() == 0; }

  [[nodiscard]] claims::Subject subject_of(const OpenedModel& opened,
                                           const parallel::Layout& layout) const {
    claims::Subject subject;
    subject.parts = {{&opened.hf}};
    subject.kinds = &opened.under_test->kinds.lines;
    subject.under_test = opened.under_test.get();
    subject.layouts = {layout};
    subject.replay = replay_base(lines_);
    subject.budget.jobs = jobs_of(options_);
    return subject;
  }

  Context& context_;
  const Options& options_;
  comm::Link* world_;
  Options lines_ = options_;               // those that change something
  std::vector<parallel::Layout> layouts_;  // of B, where it has ranks
  WrittenSide side_;                       // A, and what B says of it
  const std::vector<std::string>& sides_;
  fs::path b_folder_;
  std::string iteration_;  // of B, a torch_dist checkpoint: it has no files of ranks
  /// Of B: those of tensors are read only when bytes differ, to tell damage from another value.
  std::function<Status(bool values_differ)> check_sums_;
  const io::TensorStore* global_ = nullptr;  // B, where it holds global tensors
  Run run_;
};

}  // namespace

int run_diff(Context& context, const Options& given) {
  Options options = given;
  auto world = World::enter(context, options);
  if (!world) {
    return report_error(context, options, world.error());
  }
  return compare_sides(context, options, options.operands, *world);
}

int compare_sides(Context& context, const Options& options, const std::vector<std::string>& sides,
                  World& world) {
  auto run = world.doing([&] { return Diff(context, options, sides, world.link()).run(); });
  if (!run) {
    return world.fail_with(context, options, run.error());
  }
  return world.end_with(context, options, std::move(*run), report_and_finish);
}

}  // namespace bv::cli

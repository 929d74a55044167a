#include <fmt/format.h>

#include <algorithm>
#include <new>

#include "ci/cli/command.hpp"
#include "ci/cli/options/command_text.hpp"
#include "ci/cli/session/adapter_session.hpp"
#include "ci/cli/session/certified_model.hpp"
#include "ci/cli/session/device.hpp"
#include "ci/cli/session/finish.hpp"
#include "ci/cli/session/idle_options.hpp"
#include "ci/cli/session/oracle_module.hpp"
#include "ci/cli/session/session.hpp"
#include "ci/cli/session/signals.hpp"
#include "ci/cli/session/united.hpp"
#include "ci/cli/session/unsupported.hpp"
#include "ci/cli/session/world.hpp"
#include "core/base/shell.hpp"
#include "core/base/text.hpp"
#include "core/comm/link.hpp"
#include "core/io/digest.hpp"
#include "properties/claims/catalogue.hpp"

namespace bv::cli {
namespace {

class Check {
 public:
  Check(Context& context, const Options& options, comm::Link* world)
      : context_(context), options_(options), world_(world) {}
  Check(const Check&) = delete;
  Check& operator=(const Check&) = delete;
  /// A million small pieces of memory are left to the end of the process.
  ~Check() {
    if (context_.ends_process) {
      static_cast<void>(new (std::nothrow) checkpoint::HfModel(std::move(opened_.hf)));
    }
  }

  Result<Run> run() {
    BV_CHECK(claims::known_claims(options_.only, "--only"));
    BV_CHECK(claims::known_claims(options_.skip, "--skip"));
    BV_TRY(device, open_device(context_, options_));
    device_ = std::move(device);
    BV_TRY(level, claims::level_named(options_.level));
    BV_TRY(policy, plan::dtype_policy(options_.dtype));
    context_.streams.err(start_line(options_));
    BV_TRY(library, load_library(options_));
    library_ = std::move(library);
    auto opened = open_model(context_, options_, library_, AbsentShards::Name);
    if (!opened) {
      return is_unsupported(opened.error().code)
                 ? unsupported(opened.error(), {level, options_.only, options_.skip})
                 : Result<Run>(std::move(opened).error());
    }
    opened_ = std::move(*opened);
    BV_CHECK(agree_on_model(world_, options_, opened_));
    if (opened_.hf.incomplete) {
      run_.input_errors.push_back(*opened_.hf.incomplete);
    }
    describe_model(options_, opened_, run_);
    lines_ = without_idle(options_, opened_.hf.model);
    subject_.parts = {{&opened_.hf}};
    subject_.kinds = &library_.kinds;
    subject_.dtype = policy;
    subject_.under_test = opened_.under_test.get();
    if (subject_.under_test != nullptr) {
      subject_.kinds = &subject_.under_test->kinds.lines;
    }
    subject_.replay = replay_base(lines_);
    subject_.budget.jobs = jobs_of(options_);
    subject_.budget.seed = options_.seed.value_or(0);
    subject_.budget.world = world_;
    subject_.budget.device = device_.get();
    BV_CHECK(judge({level, options_.only, options_.skip}));
    if (world_ != nullptr && world_->failure()) {
      return *world_->failure();
    }
    add_notes_of(device_.get(), run_);
    BV_CHECK(tell_contents());
    if (opened_.hf.checkpoint) {  // what was read of a file that changed says nothing
      BV_CHECK(opened_.hf.checkpoint->unchanged());
    }
    BV_CHECK(unite_in(world_, run_));
    fill_replays(lines_, options_.command, run_);
    add_next(level);
    if (const int signal = stop_requested(); signal != 0) {
      run_.stopped = true;
      run_.stop_signal = signal;
    }
    return std::move(run_);
  }

 private:
  /// Nothing of the model is judged; one verdict says why.
  Run unsupported(const Error& error, const claims::Wanted& wanted) {
    run_.model_ref = options_.headers.empty() ? options_.model : options_.headers;
    for (const claims::Claim& claim : claims::catalogue()) {
      if (claim.needs_device && !wanted.asked(claim)) {
        continue;
      }
      if (&claim == &claims::catalogue().front()) {
        add_unsupported(error, claim.id, claim.title, run_);
      } else {
        add_not_reached(error, claim.id, claim.title, wanted.includes(claim, {}), run_);
      }
    }
    return std::move(run_);
  }

  /// Names first: without them there are no layouts to choose and nothing else to judge.
  Status judge(const claims::Wanted& wanted) {
    claims::Panel panel(wanted, run_);
    const bool names_right = panel.judge_names(subject_);
    if (names_right && !opened_.hf.incomplete) {
      BV_TRY(chosen, choose_layouts(options_, opened_.hf.model));
      run_.layouts_note = chosen.note;
      asked_for_ = chosen.asked_for;
      run_.layouts = layout_rows(chosen.layouts);
      subject_.layouts = std::move(chosen.layouts);
    }
    if (!names_right && !opened_.hf.incomplete) {  // for the rules whose names are right
      if (auto chosen = choose_layouts(options_, opened_.hf.model)) {
        subject_.layouts = std::move(chosen->layouts);
      }
    }
    BV_CHECK(agree());
    show_header(context_, options_, run_);
    CommandProgress progress(context_, options_, world_);
    subject_.budget.progress = &progress;
    const claims::Claim& forward = *claims::find_claim("forward");
    subject_.budget.computes_forward = names_right && wanted.includes(forward, subject_);
    if (subject_.budget.computes_forward && is_host()) {
      load_forward_module();
    }
    if (names_right && wanted.includes(*claims::find_claim("bytes"), subject_)) {
      const auto layouts = static_cast<std::uint64_t>(subject_.layouts.size());
      progress.start("bytes", run_.bytes * layouts,
                     static_cast<std::uint64_t>(run_.tensors) * layouts);
    }
    panel.judge_rest(subject_, opened_.hf.incomplete ? "shards are missing"
                               : names_right         ? ""
                                                     : "the names are wrong");
    subject_.budget.progress = nullptr;
    if (run_.layouts.empty() &&
        std::any_of(run_.verdicts.begin(), run_.verdicts.end(),
                    [](const Verdict& one) { return !one.layout.empty(); })) {
      run_.layouts = layout_rows(subject_.layouts);
    }
    if (!options_.adapter.empty() && names_right && !opened_.hf.incomplete && is_host()) {
      return judge_adapter_folder(options_, opened_.hf, library_.kinds,
                                  {subject_.layouts, "", asked_for_}, run_);
    }
    return Done{};
  }

  /// All processes judge the same. Errors: RankDiverged with what the others do.
  [[nodiscard]] Status agree() const {
    if (world_ == nullptr) {
      return Done{};
    }
    std::string layouts;
    for (const parallel::Layout& layout : subject_.layouts) {
      layouts += " " + parallel::layout_id(layout);
    }
    io::Digest digest;
    digest.add(layouts);
    return agree_on(
        world_, subject_.layouts,
        fmt::format("judging {} on {} layouts ({}), the first of them{}", run_.header_digest,
                    subject_.layouts.size(), digest.hex().substr(0, 8),
                    layouts.substr(0, layouts.find(' ', 1))));
  }

  /// A run that can be certified says of which bytes it speaks; one more reading beside those of
  /// every layout.
  Status tell_contents() {
    const bool moved = std::any_of(run_.verdicts.begin(), run_.verdicts.end(), [](const auto& one) {
      return one.claim == "bytes" && one.evidence.bytes;
    });
    if (options_.layouts != "all" || !moved || !is_host() || !opened_.hf.checkpoint ||
        stop_requested() != 0) {
      return Done{};
    }
    CommandProgress progress(context_, options_, world_);
    auto added = add_contents(*opened_.hf.checkpoint, opened_.hf.folder / "config.json",
                              jobs_of(options_), &progress, run_);
    return !added && added.error().code == Code::Stopped ? Status(Done{}) : std::move(added);
  }

  /// What is not divided is judged where the report is made.
  [[nodiscard]] bool is_host() const { return world_ == nullptr || world_->rank() == 0; }

  void load_forward_module() {
    const ForwardModule module = load_forward();
    if (module.functions == nullptr) {
      run_.notes.push_back("the forward oracles are not loaded: " + module.reason);
    }
    subject_.budget.oracle.forward = module.functions;
  }

  /// The first refuted verdict again; of a run that passes, what would look at more.
  void add_next(claims::Level level) {
    const auto refuted =
        std::find_if(run_.verdicts.begin(), run_.verdicts.end(),
                     [](const Verdict& one) { return one.outcome == Outcome::Refuted; });
    if (refuted != run_.verdicts.end()) {
      run_.next = refuted->replay;
      run_.next_note = "repeats the first refuted verdict alone";
    } else if (level == claims::Level::Headers && opened_.hf.checkpoint && options_.only.empty() &&
               options_.adapter.empty() && conclude(run_).exit_code == 0) {
      Options roundtrip = options_;  // which moves bytes, and draws values for them
      roundtrip.level = "data";
      run_.next = next_line(without_idle(roundtrip, opened_.hf.model), "roundtrip");
      run_.next_note =
          fmt::format("moves the bytes ({} x {})", human_bytes(run_.bytes),
                      counted(static_cast<std::uint64_t>(run_.layouts.size()), "layout"));
    }
  }

  Context& context_;
  const Options& options_;
  Options lines_ = options_;  // those that change something
  comm::Link* world_;
  std::unique_ptr<cuda::StagedExecutor> device_;  // of --device; null: the processor
  Library library_;
  OpenedModel opened_;
  claims::Subject subject_;
  bool asked_for_ = false;  // the layouts
  Run run_;
};

}  // namespace

namespace {

/// Every element is compared then; what else was asked needs a run of its own.
Error other_check(const Options& options, std::string_view other, bool megatron) {
  const std::string side = megatron ? "megatron" : "against";
  const std::string model = shell_quoted(options.model);
  Error error =
      fail(Code::Conflict, fmt::format("--{} and --{} ask for different checks", other, side))
          .fact(fmt::format("--{} compares every element with that checkpoint", side));
  if (other == "headers") {
    return std::move(error).advise("give the folder with the weights with --model");
  }
  if (other == "adapter") {
    return std::move(error).advise(
        fmt::format("merge it first: bridge-verify lora merge --model {} --adapter {} --out DIR",
                    model, shell_quoted(options.adapter)));
  }
  if (other == "against") {
    return std::move(error).advise("run check once with each of them");
  }
  const std::string again = fmt::format(" --{} {}", other, shell_quoted(options.said(other)->text));
  return std::move(error).advise(
      fmt::format("leave --{} out; the claims of the model itself: ", other) +
      "bridge-verify check --model " + model + again);
}

/// `check --megatron` and `check --against` ask one thing: is every element the wanted one? That is
/// what diff answers.
int check_other(Context& context, const Options& options, World& world) {
  const bool megatron = !options.megatron.empty();
  for (const char* other :
       {"only", "skip", "level", "headers", "adapter", megatron ? "against" : "megatron"}) {
    const bool merged = megatron && std::string_view(other) == "adapter";
    if (options.has(other) && !merged) {
      return world.fail_with(context, options, other_check(options, other, megatron));
    }
  }
  return compare_sides(context, options,
                       {options.model, megatron ? options.megatron : options.against}, world);
}

}  // namespace

Result<Run> check_once(Context& context, const Options& options) {
  return Check(context, options, nullptr).run();
}

namespace {

/// Options that say nothing without another one.
Status check_belongs(const Options& options) {
  if (options.untie) {
    return fail(Code::Conflict, "--untie belongs to check --megatron with --adapter")
        .advise("leave it out, or add --megatron CKPT_DIR: what convert --adapter wrote");
  }
  if (options.accept_changed) {
    return fail(Code::Conflict, "--accept-changed belongs to check --megatron")
        .advise("add --megatron CKPT_DIR, or leave it out");
  }
  return Done{};
}

}  // namespace

int run_check(Context& context, const Options& given) {
  Options options = given;
  auto world = World::enter(context, options);
  if (!world) {
    return report_error(context, options, world.error());
  }
  if (!options.megatron.empty() || !options.against.empty()) {
    return check_other(context, options, *world);
  }
  if (const Status belongs = check_belongs(options); !belongs) {
    return world->fail_with(context, options, belongs.error());
  }
  if (options.command == "roundtrip" && !options.has("level")) {
    options.level = "data";
  }
  auto run = world->doing([&] { return Check(context, options, world->link()).run(); });
  if (!run) {
    return world->fail_with(context, options, run.error());
  }
  return world->end_with(context, options, std::move(*run), report_and_finish);
}

}  // namespace bv::cli

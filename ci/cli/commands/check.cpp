#include <fmt/format.h>

#include <algorithm>
#include <set>

#include "ci/cli/command.hpp"
#include "ci/cli/session/finish.hpp"
#include "ci/cli/session/oracle_module.hpp"
#include "ci/cli/session/session.hpp"
#include "ci/cli/session/signals.hpp"
#include "core/base/text.hpp"

namespace bv::cli {
namespace {

/// The catalogue of this command: what each claim says, and from which level on it runs.
struct ClaimRow {
  std::string_view claim;
  std::string_view title;
  std::string_view level = "headers";
};
constexpr std::array kClaims = {
    ClaimRow{"names", "HF tensors used once, parameters filled"},
    ClaimRow{"shapes", "header shapes equal the rules' extents"},
    ClaimRow{"coverage", "no gap, no overlap (rules x layouts)"},
    ClaimRow{"inverse", "HF -> Megatron -> HF is the identity"},
    ClaimRow{"placement", "same elements as the independent oracle"},
    ClaimRow{"values", "value-changing rules lose no bit here"},
    ClaimRow{"bytes", "every byte there and back, targets poisoned", "data"},
    ClaimRow{"forward", "small random models compute the same", "full"},
};

Status known_claims(const std::vector<std::string>& names, std::string_view option) {
  std::vector<std::string> all;
  for (const ClaimRow& row : kClaims) {
    all.emplace_back(row.claim);
  }
  for (const std::string& name : names) {
    if (std::find(all.begin(), all.end(), name) == all.end()) {
      const auto near = nearest(name, all);
      return fail(Code::BadValue, fmt::format("--{} {} is no claim", option, escaped(name)))
          .pair(escaped(name), join(all, " "))
          .advise(near ? fmt::format("did you mean {}?", *near)
                       : "write one of them, joined by commas");
    }
  }
  return Done{};
}

class Check {
 public:
  Check(Context& context, const Options& options) : context_(context), options_(options) {}

  Result<Run> run() {
    BV_CHECK(known_claims(options_.only, "only"));
    BV_CHECK(known_claims(options_.skip, "skip"));
    BV_CHECK(check_abilities(options_));
    BV_TRY(policy, plan::dtype_policy(options_.dtype));
    policy_ = policy;
    context_.streams.err(options_.verbosity() < 0 ? "" : first_line());
    BV_TRY(library, load_library());
    library_ = std::move(library);
    BV_TRY(opened, open_model(context_, options_, library_, AbsentShards::Name));
    opened_ = std::move(opened);
    if (opened_.hf.incomplete) {
      run_.input_errors.push_back(*opened_.hf.incomplete);
    }
    describe_model(opened_, run_);
    input_.source = &opened_.hf;
    input_.kinds = &library_.kinds;
    input_.under_test = opened_.under_test.get();
    input_.jobs = jobs_of(options_);
    input_.seed = options_.seed.value_or(0);
    input_.replay = replay_base(options_);
    const bool names_right = run_names();
    if (names_right && !opened_.hf.incomplete) {
      BV_TRY(chosen, choose_layouts(options_, opened_.hf.model));
      run_.layouts_note = chosen.note;
      input_.replay += chosen.padded ? " --make-vocab-size-divisible-by 1" : "";
      run_.layouts = layout_rows(chosen.layouts);
      input_.layouts = std::move(chosen.layouts);
    }
    run_rest(names_right);
    if (opened_.hf.checkpoint) {  // what was read of a file that changed says nothing
      BV_CHECK(opened_.hf.checkpoint->unchanged());
    }
    add_next();
    if (const int signal = stop_requested(); signal != 0) {
      run_.stopped = true;
      run_.stop_signal = signal;
    }
    return std::move(run_);
  }

 private:
  std::string first_line() const {
    return fmt::format("bridge-verify: {} {}\n", options_.command,
                       options_.headers.empty() ? options_.model : options_.headers);
  }

  bool data_level() const { return options_.level != "headers"; }
  bool includes(std::string_view level) const {
    return level == "headers" || level == options_.level || options_.level == "full";
  }

  bool wanted(const ClaimRow& row) const {
    const bool listed =
        options_.only.empty() ||
        std::find(options_.only.begin(), options_.only.end(), row.claim) != options_.only.end();
    const bool asked = !options_.only.empty() && listed;
    return listed && (includes(row.level) || asked) && !skipped(row);
  }
  bool skipped(const ClaimRow& row) const {
    return std::find(options_.skip.begin(), options_.skip.end(), row.claim) != options_.skip.end();
  }

  void add(const ClaimRow& row, std::vector<Verdict> verdicts, std::string note = "") {
    ClaimSummary summary;
    summary.claim = row.claim;
    summary.title = row.title;
    summary.skipped = skipped(row);
    summary.requested = wanted(row);
    for (const Verdict& verdict : verdicts) {
      summary.subjects += verdict.cases;
    }
    summary.vacuous = summary.requested && verdicts.empty();
    summary.note = summary.vacuous ? std::move(note) : "";
    run_.claims.push_back(std::move(summary));
    std::move(verdicts.begin(), verdicts.end(), std::back_inserter(run_.verdicts));
  }

  bool run_names() {
    const ClaimRow& row = kClaims[0];
    const model::Model& model = opened_.hf.model;
    // Wrong names are shown whatever was asked for: little below can be trusted with them.
    add(row, wanted(row) || !model.faults.empty() ? claims::check_names(input_)
                                                  : std::vector<Verdict>{});
    return model.names_are_whole();
  }

  void run_rest(bool names_right) {
    CommandProgress progress(context_, options_);
    input_.progress = &progress;
    for (std::size_t i = 1; i < kClaims.size(); ++i) {
      const ClaimRow& row = kClaims[i];
      if (!wanted(row)) {
        add(row, {});
        continue;
      }
      if (!names_right || opened_.hf.incomplete) {
        ClaimSummary summary{
            std::string(row.claim), std::string(row.title), 0,
            names_right ? "not reached: shards are missing" : "not reached: the names are wrong",
            false};
        run_.claims.push_back(std::move(summary));
        continue;
      }
      add(row, verdicts_of(row.claim, progress),
          row.claim == "values" ? "no rule of this model computes" : "");
    }
    input_.progress = nullptr;
  }

  std::vector<Verdict> verdicts_of(std::string_view claim, CommandProgress& progress) {
    if (claim == "shapes") {
      auto verdicts = claims::check_shapes(input_);
      shapes_right_ = std::none_of(verdicts.begin(), verdicts.end(), [](const Verdict& one) {
        return one.outcome == Outcome::Refuted;
      });
      return verdicts;
    }
    if (claim == "coverage") {
      return claims::check_coverage(input_);
    }
    if (claim == "inverse") {
      return claims::check_inverse(input_);
    }
    if (claim == "placement") {
      return claims::check_placement(input_);
    }
    if (claim == "forward") {
      load_forward_module();
      progress.start("forward", 0, input_.layouts.size());
      return claims::check_forward(input_);
    }
    if (claim == "values") {
      return claims::check_values(input_, policy_);
    }
    if (!shapes_right_ || shapes_are_wrong()) {
      return {};  // nothing moves with wrong shapes; the claim stays without a case, which is never
                  // green
    }
    progress.start("bytes", run_.bytes * input_.layouts.size(),
                   static_cast<std::uint64_t>(run_.tensors) * input_.layouts.size());
    return claims::check_bytes(input_);
  }

  void load_forward_module() {
    const ForwardModule module = load_forward();
    if (module.functions == nullptr) {
      run_.notes.push_back("the forward oracles are not loaded: " + module.reason);
    }
    input_.oracle.forward = module.functions;
  }

  /// Bytes move only when every header has the shape of its rule, also if that claim was not asked
  /// for.
  bool shapes_are_wrong() {
    const auto verdicts = claims::check_shapes(input_);
    return std::any_of(verdicts.begin(), verdicts.end(),
                       [](const Verdict& one) { return one.outcome == Outcome::Refuted; });
  }

  void add_next() {
    if (!data_level() && opened_.hf.checkpoint && options_.only.empty()) {
      run_.next = fmt::format("bridge-verify roundtrip --model {}", options_.model);
      run_.next_note = fmt::format("moves the bytes ({})", human_bytes(run_.bytes));
    }
  }

  Context& context_;
  const Options& options_;
  Library library_;
  OpenedModel opened_;
  claims::Input input_;
  plan::DtypePolicy policy_;
  bool shapes_right_ = true;
  Run run_;
};

}  // namespace

int run_check(Context& context, const Options& given) {
  Options options = given;
  if (options.command == "roundtrip" && !options.has("level")) {
    options.level = "data";
  }
  auto run = Check(context, options).run();
  if (!run) {
    return report_error(context, options, run.error());
  }
  stamp(context, options, *run);
  return report_and_finish(context, options, *run);
}

}  // namespace bv::cli

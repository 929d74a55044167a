// diff A B: two HF models, or an HF model and the Megatron shards it should have become. Says where
// the rows of a wrong tensor came from.

#include <fmt/format.h>

#include <algorithm>

#include "ci/command.hpp"
#include "ci/finish.hpp"
#include "ci/fixture_model.hpp"
#include "ci/session.hpp"
#include "ci/signals.hpp"
#include "core/base/text.hpp"
#include "core/exec/diff.hpp"

namespace bv::cli {
namespace fs = std::filesystem;

namespace {

constexpr std::size_t kShown = 6;

/// "model.layers.3.x" and "model.layers.4.x" are one pattern.
std::string pattern_of(std::string_view tensor) {
  std::string out;
  for (const char c : tensor) {
    if (c < '0' || c > '9') {
      out += c;
    } else if (out.empty() || out.back() != '*') {
      out += '*';
    }
  }
  return out;
}

/// Shard files of a folder: name without the suffix -> path. Empty when it holds none.
std::map<std::string, fs::path> shards_in(const fs::path& folder) {
  std::map<std::string, fs::path> out;
  std::error_code error;
  for (const auto& entry : fs::directory_iterator(folder, error)) {
    const fs::path& path = entry.path();
    if (path.extension() == ".safetensors" && parallel::shard_from_name(path.stem().string())) {
      out.emplace(path.stem().string(), path);
    }
  }
  return out;
}

std::string percent(double share) {
  return fmt::format("{:.0f} %", share * 100);
}

/// Differences of one cause over tensors of one pattern: one verdict.
struct Group {
  std::vector<const exec::Difference*> all;
};

class Diff {
 public:
  Diff(Context& context, const Options& options) : context_(context), options_(options) {}

  Result<Run> run() {
    if (options_.operands.size() != 2) {
      return fail(Code::BadValue,
                  fmt::format("diff wants two checkpoints, found {}", options_.operands.size()))
          .advise("bridge-verify diff HF_DIR OTHER_DIR");
    }
    const std::string& a = options_.operands[0];
    const std::string& b = options_.operands[1];
    if (!shards_in(a).empty()) {
      return fail(
                 Code::BadValue,
                 fmt::format("{} holds Megatron shards; the first checkpoint is the wanted one", a))
          .pair("Megatron shards", "an HF model")
          .advise(fmt::format("bridge-verify diff HF_DIR {}", a));
    }
    const auto shards = shards_in(b);
    run_.model_ref = a;
    run_.notes.push_back(
        shards.empty() ? "diff of two HF checkpoints: A is wanted, B is found"
                       : fmt::format("diff of an HF model (wanted) and {} Megatron shards (found)",
                                     shards.size()));
    auto done = shards.empty() ? two_models(a, b) : model_and_shards(a, shards);
    if (!done) {
      return std::move(done).error();
    }
    return std::move(run_);
  }

 private:
  Result<io::Checkpoint> open(const std::string& reference) {
    Options one = options_;
    one.model = reference;
    BV_TRY(model, find_model(context_, one));
    const io::LocatedModel& located = model.located;
    keeps_.push_back(model.keeps);
    if (located.kind != io::ModelKind::SafetensorsFile &&
        located.kind != io::ModelKind::IndexFile) {
      BV_CHECK(io::require_hf(located));
    }
    return io::Checkpoint::open(
        located.kind == io::ModelKind::ConfigFile ? located.folder : located.path, options_.strict);
  }

  Status two_models(const std::string& a, const std::string& b) {
    BV_TRY(wanted, open(a));
    BV_TRY(found, open(b));
    run_.model_source = "dir";
    run_.tensors = static_cast<std::int64_t>(wanted.tensors().size());
    run_.bytes = wanted.total_bytes();
    run_.shards = static_cast<std::int64_t>(wanted.files().size());
    return compare(exec::compare_hf(wanted, found), "");
  }

  Status model_and_shards(const std::string& a, const std::map<std::string, fs::path>& files) {
    BV_TRY(library, load_library());
    Options one = options_;
    one.model = a;
    BV_TRY(opened, open_model(context_, one, library));
    describe_model(opened, run_);
    if (!opened.hf.checkpoint) {
      return fail(Code::ModelNotFound,
                  fmt::format("{} is headers only: there are no bytes to compare", a))
          .advise("give the directory with the weights");
    }
    if (!opened.hf.model.faults.empty()) {
      return wrong_names(opened, library);
    }
    std::vector<std::string> names;
    exec::Shards shards;
    for (const auto& [name, path] : files) {
      BV_TRY(checkpoint, io::Checkpoint::open(path, options_.strict));
      shards.emplace(name, std::move(checkpoint));
      names.push_back(name);
    }
    BV_TRY(layout, layout_of(names));
    BV_CHECK(exec::check_layout(opened.hf.model, layout));
    run_.layouts = layout_rows({layout});
    run_.layouts_note = "from the names of the shard files";
    BV_TRY(plan, exec::Plan::make(opened.hf.model, library.kinds, layout));
    BV_TRY(policy, exec::dtype_policy(options_.dtype));
    BV_CHECK(shapes_right(opened.hf, plan));
    return compare(exec::compare_megatron(opened.hf, plan, shards, policy),
                   parallel::layout_id(layout));
  }

  /// The names of A decide what B must hold, so they come first.
  Status wrong_names(const OpenedModel& opened, const Library& library) {
    claims::Input input;
    input.source = &opened.hf;
    input.kinds = &library.kinds;
    input.replay = fmt::format("bridge-verify check --model {}", options_.operands[0]);
    add("names", "the names of A make a whole model", claims::check_names(input));
    return Done{};
  }

  /// Sizes of the names, and what names cannot say from the flags; they must agree.
  Result<parallel::Layout> layout_of(const std::vector<std::string>& names) {
    BV_TRY(flags, one_layout(options_));
    BV_TRY(layout, exec::layout_of_shards(names, flags));
    for (const auto& [option, stated, found] :
         {std::tuple("tp", flags.tp, layout.tp), std::tuple("pp", flags.pp, layout.pp),
          std::tuple("ep", flags.ep, layout.ep), std::tuple("etp", flags.etp, layout.etp)}) {
      if (options_.has(option) && stated != found) {
        return fail(Code::Conflict,
                    fmt::format("--{} {} contradicts the names of the shards", option, stated))
            .pair(fmt::format("{} {} in the names", option, found),
                  fmt::format("--{} {}", option, stated))
            .advise(fmt::format("leave --{} out: the names decide", option));
      }
    }
    return layout;
  }

  /// Boxes are only read over tensors of the shapes that the rules state.
  static Status shapes_right(const exec::HfModel& hf, const exec::Plan& plan) {
    for (const model::Mapping& mapping : hf.model.mappings) {
      const auto& shapes = plan.hf_shapes(mapping);
      for (std::size_t i = 0; i < mapping.hf.size(); ++i) {
        const Shape& found = hf.headers.find(mapping.hf[i])->second.shape;
        if (found != shapes[i]) {
          return fail(Code::ConfigField,
                      fmt::format("{} of A does not have the shape that its config states",
                                  escaped(mapping.hf[i])))
              .pair(shape_text(found), shape_text(shapes[i]))
              .advise(fmt::format("bridge-verify check --model {}", hf.folder.string()));
        }
      }
    }
    return Done{};
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

  Status compare(const exec::Comparison& comparison, const std::string& layout) {
    comparison_ = &comparison;
    layout_ = layout;
    CommandProgress progress(context_, options_);
    exec::DiffOptions how;
    how.jobs = jobs_of(options_);
    how.progress = &progress;
    auto report = exec::diff(comparison, how);
    if (!report) {
      if (const int signal = stop_requested(); signal != 0) {
        run_.stopped = true;
        run_.stop_signal = signal;
        return Done{};
      }
      return std::move(report).error();
    }
    std::map<std::tuple<exec::Cause, std::string, bool>, Group> names, bytes;
    for (const exec::Difference& one : report->differences) {
      const auto cause = one.explanation.cause;
      const bool by_name = stray(one) || !comparison.subjects[one.subject].found;
      (by_name ? names : bytes)[{cause, pattern_of(subject_name(one)), one.shape_differs}]
          .all.push_back(&one);
    }
    add("names", "every tensor of A is in B, and nothing else",
        verdicts_of(names, "names", *report));
    add("bytes", "every element of B is the wanted one", verdicts_of(bytes, "bytes", *report));
    return Done{};
  }

  [[nodiscard]] bool stray(const exec::Difference& one) const {
    return one.subject >= comparison_->subjects.size();
  }
  [[nodiscard]] const exec::Stray& stray_of(const exec::Difference& one) const {
    return comparison_->strays[one.subject - comparison_->subjects.size()];
  }
  [[nodiscard]] const std::string& subject_name(const exec::Difference& one) const {
    return stray(one) ? stray_of(one).tensor : comparison_->subjects[one.subject].global;
  }
  [[nodiscard]] const std::string& place_of(const exec::Difference& one) const {
    return stray(one) ? stray_of(one).place : comparison_->subjects[one.subject].place;
  }
  [[nodiscard]] std::string where(const exec::Difference& one) const {
    const std::string& local =
        stray(one) ? stray_of(one).tensor : comparison_->subjects[one.subject].tensor;
    return place_of(one).empty() ? escaped(local)
                                 : fmt::format("{} in {}", escaped(local), place_of(one));
  }

  using Groups = std::map<std::tuple<exec::Cause, std::string, bool>, Group>;

  std::vector<Verdict> verdicts_of(const Groups& groups, std::string_view claim,
                                   const exec::DiffReport& report) {
    std::vector<Verdict> out;
    std::int64_t wrong = 0;
    for (const auto& [key, group] : groups) {
      out.push_back(verdict_of(group, claim));
      wrong += out.back().cases;
    }
    const auto all = static_cast<std::int64_t>(comparison_->subjects.size());
    const std::int64_t right = claim == "bytes" ? report.equal : all - std::min(wrong, all);
    if (right > 0) {
      Verdict held;
      held.claim = claim;
      held.layout = layout_;
      held.outcome = Outcome::Held;
      held.evidence.bytes = claim == "bytes";
      held.evidence.proved = false;
      held.cases = right;
      out.push_back(std::move(held));
    }
    return out;
  }

  Verdict verdict_of(const Group& group, std::string_view claim) {
    const exec::Difference& first = *group.all.front();
    Verdict out;
    out.claim = claim;
    out.rule =
        fmt::format("{}.{}", exec::name(first.explanation.cause), pattern_of(subject_name(first)));
    out.kind = std::string(exec::name(first.explanation.cause));
    out.layout = layout_;
    out.outcome = Outcome::Refuted;
    out.code = code_of(first);
    out.megatron = place_of(first).empty() ? "" : subject_name(first);
    out.hf = stray(first) ? std::vector<std::string>{} : comparison_->subjects[first.subject].hf;
    out.cases = out.refuted_cases = static_cast<std::int64_t>(group.all.size());
    const std::string more =
        group.all.size() == 1 ? "" : fmt::format(" (and {} more)", group.all.size() - 1);
    out.title = fmt::format("{}{}: {}", where(first), more, first.explanation.text);
    for (const exec::Difference* one : group.all) {
      if (out.facts.size() == kShown && group.all.size() > kShown + 1) {
        out.facts.push_back(fmt::format("and {} more", group.all.size() - kShown));
        break;
      }
      out.facts.push_back(fact_of(*one));
    }
    for (const std::string& run : first.explanation.runs) {
      out.facts.push_back(run);
    }
    fill_element(first, out);
    out.why = why_of(first);
    out.help = help_of(first);
    return out;
  }

  [[nodiscard]] Code code_of(const exec::Difference& one) const {
    if (stray(one)) {
      return Code::HfTensorUnused;
    }
    if (!comparison_->subjects[one.subject].found) {
      return place_of(one).empty() ? Code::HfTensorMissing : Code::MegatronParamUnfilled;
    }
    return one.shape_differs  ? Code::ShapeMismatch
           : one.bytes_differ ? Code::BytesDiffer
                              : Code::DtypeChanged;
  }

  [[nodiscard]] std::string fact_of(const exec::Difference& one) const {
    std::string out = where(one);
    if (one.bytes_differ) {
      out += fmt::format("  first {}  {} of {} elements in {} of {} rows", shape_text(one.first),
                         thousands(one.elements_wrong), thousands(one.elements),
                         thousands(one.rows_wrong), thousands(one.rows));
    }
    if (one.explanation.cause != exec::Cause::Unexplained && !one.explanation.exact) {
      out += fmt::format("  confidence {}", percent(one.explanation.confidence()));
    }
    return out;
  }

  void fill_element(const exec::Difference& one, Verdict& out) const {
    if (stray(one)) {
      out.found = where(one);
      out.wanted = "no tensor of this name";
      return;
    }
    const exec::Subject& subject = comparison_->subjects[one.subject];
    const auto text = [](const TensorSpec& spec) {
      return fmt::format("{} {}", bv::name(spec.dtype), shape_text(spec.shape));
    };
    out.wanted = text(subject.spec);
    out.found = subject.found ? text(subject.found->tensor->spec) : "no such tensor";
    if (!one.bytes_differ) {
      return;
    }
    out.wanted = one.has_values ? fmt::format("{} ({})", one.wanted_value, one.wanted_bits)
                                : one.wanted_bits;
    out.found =
        one.has_values ? fmt::format("{} ({})", one.found_value, one.found_bits) : one.found_bits;
    out.extent = fmt::format(
        "{} of {} elements, {} of {} rows{}", thousands(one.elements_wrong),
        thousands(one.elements), thousands(one.rows_wrong), thousands(one.rows),
        one.ulps < 0 ? "" : fmt::format("; the first is {} ULP away", thousands(one.ulps)));
    Counterexample example;
    example.tensor = subject.tensor;
    example.rank = subject.place;
    example.index = one.first;
    example.wanted = {subject.global, one.first};
    example.found = {subject.tensor, one.first};
    example.wanted_bits = one.wanted_bits;
    example.found_bits = one.found_bits;
    out.counterexamples.push_back(std::move(example));
  }

  static std::string why_of(const exec::Difference& one) {
    const exec::Explanation& why = one.explanation;
    if (why.cause == exec::Cause::Unexplained) {
      return "no known fault explains half of the wrong rows";
    }
    return why.exact
               ? why.text
               : fmt::format("{}: explains {} of {} wrong rows examined ({})", why.text,
                             why.rows_explained, why.rows_examined, percent(why.confidence()));
  }

  static std::string help_of(const exec::Difference& one) {
    using exec::Cause;
    switch (one.explanation.cause) {
      case Cause::SwappedParts:
        return "exchange the two parts in the rule, and in its inverse";
      case Cause::HeadMajor:
        return "interleave queries, keys and values by query group before the cut";
      case Cause::CutAfterJoin:
        return "cut each part over TP first, then join the parts of one rank";
      case Cause::Alternating:
        return "check whether gate and up rows alternate in this family";
      case Cause::OtherRank:
        return "check the rank that the loader or writer used for this shard";
      case Cause::OtherLayer:
        return "check the offset between local and global layer numbers";
      case Cause::OtherExpert:
        return "check the offset between local and global expert numbers";
      case Cause::OtherTensor:
        return "check which HF name the rule reads";
      case Cause::Regrouped:
        return "compare the order of the rows with the rule of this tensor";
      case Cause::Transposed:
        return "transpose it, or drop the transpose of the rule; a square matrix hides this";
      case Cause::Zeroed:
        return "find out why the target was never written";
      case Cause::PlusOne:
      case Cause::MinusOne:
        return "apply the zero-centred shift exactly once";
      case Cause::Narrowed:
        return "keep the dtype, or state the cast with --dtype";
      case Cause::Padded:
        return "state the padding with --make-vocab-size-divisible-by, or cut the rows";
      case Cause::Truncated:
        return "take every row of the vocabulary";
      case Cause::Missing:
        return "add the rule that writes it, or complete the checkpoint";
      case Cause::Unexpected:
        return "remove it, or compare with the checkpoint that has it";
      case Cause::Renamed:
        return "correct the name in the rule";
      case Cause::Unexplained:
        return "look at the first wrong element and at the rule of this tensor";
    }
    return "";
  }

  Context& context_;
  const Options& options_;
  std::vector<std::shared_ptr<void>> keeps_;  // fixtures of the two sides
  const exec::Comparison* comparison_ = nullptr;
  std::string layout_;
  Run run_;
};

}  // namespace

int run_diff(Context& context, const Options& options) {
  auto run = Diff(context, options).run();
  if (!run) {
    return report_error(context, options, run.error());
  }
  stamp(context, options, *run);
  return finish(context, options, *run);
}

}  // namespace bv::cli

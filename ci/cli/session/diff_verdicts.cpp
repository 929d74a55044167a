#include "ci/cli/session/diff_verdicts.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <map>
#include <set>

#include "core/base/text.hpp"

namespace bv::cli {
namespace {

constexpr std::size_t kFactsShown = 6;

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

std::string percent(double share) {
  return fmt::format("{:.0f} %", share * 100);
}

/// Differences of one cause over tensors of one pattern: one verdict.
struct Group {
  std::vector<const compare::Difference*> all;
};

class Grouping {
 public:
  Grouping(const compare::Comparison& comparison, const compare::DiffReport& report,
           std::string layout, std::string holder)
      : comparison_(comparison),
        report_(report),
        layout_(std::move(layout)),
        holder_(std::move(holder)) {}

  DiffVerdicts run() {
    Groups names, bytes;
    for (const compare::Difference& one : report_.differences) {
      const auto cause = one.explanation.cause;
      const bool by_name = stray(one) || !comparison_.subjects[one.subject].found;
      (by_name ? names : bytes)[{cause, pattern_of(subject_name(one)), one.shape_differs}]
          .all.push_back(&one);
    }
    return {verdicts_of(names, "names"), verdicts_of(bytes, "bytes")};
  }

 private:
  using Groups = std::map<std::tuple<compare::Cause, std::string, bool>, Group>;

  [[nodiscard]] bool stray(const compare::Difference& one) const {
    return one.subject >= comparison_.subjects.size();
  }
  [[nodiscard]] const compare::Stray& stray_of(const compare::Difference& one) const {
    return comparison_.strays[one.subject - comparison_.subjects.size()];
  }
  [[nodiscard]] const std::string& subject_name(const compare::Difference& one) const {
    return stray(one) ? stray_of(one).tensor : comparison_.subjects[one.subject].global_name();
  }
  [[nodiscard]] const std::string& place_of(const compare::Difference& one) const {
    return stray(one) ? stray_of(one).place : comparison_.subjects[one.subject].place;
  }
  [[nodiscard]] std::string where(const compare::Difference& one) const {
    const std::string& local =
        stray(one) ? stray_of(one).tensor : comparison_.subjects[one.subject].tensor;
    return place_of(one).empty()
               ? escaped(local)
               : fmt::format("{} in {}", escaped(local), holder_.empty() ? place_of(one) : holder_);
  }

  std::vector<Verdict> verdicts_of(const Groups& groups, std::string_view claim) {
    std::vector<Verdict> out;
    std::int64_t wrong = 0;
    for (const auto& [key, group] : groups) {
      out.push_back(verdict_of(group, claim));
      wrong += out.back().cases;
    }
    const auto all = static_cast<std::int64_t>(comparison_.subjects.size());
    const std::int64_t right = claim == "bytes" ? report_.equal : all - std::min(wrong, all);
    if (right > 0) {
      Verdict held;
      held.claim = claim;
      held.layout = layout_;
      held.outcome = claim == "bytes" ? Outcome::Held : Outcome::Proved;
      held.evidence.bytes = claim == "bytes";
      held.evidence.proved = claim != "bytes";  // names and shapes of both sides, from headers
      held.cases = right;
      out.push_back(std::move(held));
    }
    return out;
  }

  /// The number of layers or experts that most tensors of a group are off by, and how many are; 0
  /// when none is.
  static std::pair<std::int64_t, std::int64_t> usual_shift(const Group& group) {
    std::map<std::int64_t, std::int64_t> counts;
    for (const compare::Difference* one : group.all) {
      if (one->explanation.shift != 0) {
        ++counts[one->explanation.shift];
      }
    }
    std::pair<std::int64_t, std::int64_t> most;
    for (const auto& [shift, count] : counts) {
      most = count > most.second ? std::pair(shift, count) : most;
    }
    return most;
  }

  /// What stands for a group: the first tensor with the shift that most of them have. A shift of
  /// all layers wraps at the end, and the first layer may be the one that says something else.
  static const compare::Difference& typical(const Group& group) {
    const std::int64_t shift = usual_shift(group).first;
    if (shift == 0) {  // the worst: what is wrong with the others may hide behind a small one
      return **std::max_element(
          group.all.begin(), group.all.end(),
          [](const auto* a, const auto* b) { return a->elements_wrong < b->elements_wrong; });
    }
    return **std::find_if(group.all.begin(), group.all.end(),
                          [&](const auto* one) { return one->explanation.shift == shift; });
  }

  /// ", as in 5 of these 6"
  static std::string shift_of(const Group& group) {
    const auto [shift, count] = usual_shift(group);
    return shift == 0 || group.all.size() == 1
               ? ""
               : fmt::format(", as in {} of these {}", count, group.all.size());
  }

  Verdict verdict_of(const Group& group, std::string_view claim) {
    const compare::Difference& first = typical(group);
    Verdict out;
    out.claim = claim;
    out.rule = fmt::format("{}.{}", compare::name(first.explanation.cause),
                           pattern_of(subject_name(first)));
    out.kind = std::string(compare::name(first.explanation.cause));
    out.layout = layout_;
    out.outcome = Outcome::Refuted;
    out.code = code_of(first);
    out.megatron = place_of(first).empty() ? "" : subject_name(first);
    out.hf =
        stray(first) ? std::vector<std::string>{} : comparison_.subjects[first.subject].hf_names();
    if (group.all.size() > 1) {
      std::set<std::string> names;  // those of several ranks have one
      for (const compare::Difference* one : group.all) {
        names.insert(subject_name(*one));
      }
      out.subjects.assign(names.begin(), names.end());
    }
    out.cases = out.refuted_cases = static_cast<std::int64_t>(group.all.size());
    const std::string more =
        group.all.size() == 1 ? "" : fmt::format(" (and {} more)", group.all.size() - 1);
    out.title =
        fmt::format("{}{}: {}{}", where(first), more, first.explanation.text, shift_of(group));
    for (const compare::Difference* one : group.all) {
      if (out.facts.size() == kFactsShown && group.all.size() > kFactsShown + 1) {
        out.facts.push_back(fmt::format("and {} more", group.all.size() - kFactsShown));
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

  [[nodiscard]] Code code_of(const compare::Difference& one) const {
    if (stray(one)) {
      return Code::HfTensorUnused;
    }
    if (!comparison_.subjects[one.subject].found) {
      return place_of(one).empty() ? Code::HfTensorMissing : Code::MegatronParamUnfilled;
    }
    return one.shape_differs  ? Code::ShapeMismatch
           : one.bytes_differ ? Code::BytesDiffer
                              : Code::DtypeChanged;
  }

  [[nodiscard]] std::string fact_of(const compare::Difference& one) const {
    std::string out = where(one);
    if (one.bytes_differ) {
      out += fmt::format("  first {}  {} of {} elements in {} of {} rows", shape_text(one.first),
                         thousands(one.elements_wrong), thousands(one.elements),
                         thousands(one.rows_wrong), thousands(one.rows));
    }
    if (one.explanation.cause != compare::Cause::Unexplained && !one.explanation.exact) {
      out += fmt::format("  confidence {}", percent(one.explanation.confidence()));
    }
    return out;
  }

  void fill_element(const compare::Difference& one, Verdict& out) const {
    if (stray(one)) {
      out.found = where(one);
      out.wanted = "no tensor of this name";
      return;
    }
    const compare::Subject& subject = comparison_.subjects[one.subject];
    const auto text = [](const TensorSpec& spec) {
      return fmt::format("{} {}", bv::name(spec.dtype), shape_text(spec.shape));
    };
    out.wanted = text(subject.spec);
    out.found = subject.found ? text(*subject.found->spec) : "no such tensor";
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
    example.wanted = {subject.global_name(), one.first};
    example.found = {subject.tensor, one.first};
    example.wanted_bits = one.wanted_bits;
    example.found_bits = one.found_bits;
    out.counterexamples.push_back(std::move(example));
  }

  static std::string why_of(const compare::Difference& one) {
    const compare::Explanation& why = one.explanation;
    if (why.cause == compare::Cause::Unexplained) {
      return "unknown cause: no known fault explains at least half of the wrong rows";
    }
    return why.exact
               ? why.text
               : fmt::format("{}: explains {} of {} wrong rows examined ({})", why.text,
                             why.rows_explained, why.rows_examined, percent(why.confidence()));
  }

  static std::string help_of(const compare::Difference& one) {
    using compare::Cause;
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
      case Cause::Stale:
        return "write the MTP layers from the same checkpoint as the rest";
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
      case Cause::Widened:
      case Cause::Recast:
        return "keep the dtype, or state the cast with --dtype";
      case Cause::Relabelled:
        return "write the tensor's own dtype into the header";
      case Cause::Padded:
        return "state the padding with --make-vocab-size-divisible-by, or cut the rows";
      case Cause::Truncated:
        return "write every row";
      case Cause::PaddingNotZero:
        return "write zeros behind the vocabulary, or cut the rows: training may have changed them";
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

  const compare::Comparison& comparison_;
  const compare::DiffReport& report_;
  std::string layout_;
  std::string holder_;
};

}  // namespace

DiffVerdicts diff_verdicts(const compare::Comparison& comparison, const compare::DiffReport& report,
                           const std::string& layout, const std::string& holder) {
  return Grouping(comparison, report, layout, holder).run();
}

std::vector<std::string> recast_notes(const compare::DiffReport& report,
                                      const compare::DiffOptions& how) {
  std::vector<std::string> out;
  const auto add = [&](std::int64_t count, const std::string& held) {
    if (count > 0) {
      out.push_back(
          fmt::format("{} in another type than the model's, {}{} (--dtype preserve refuses it)",
                      counted(count, "parameter") + (count == 1 ? " is" : " are"), held,
                      how.values ? ", and every value is kept" : ""));
    }
  };
  add(report.recast,
      how.own_dtype ? fmt::format("{} as the checkpoint as a whole", name(*how.own_dtype)) : "");
  add(report.shared, "the widest of those that one tensor holds");
  return out;
}

std::vector<Verdict> shapes_alone(std::vector<Verdict> of_bytes) {
  for (Verdict& verdict : of_bytes) {
    verdict.claim = "shapes";
    verdict.evidence = {};
    verdict.evidence.proved = verdict.outcome == Outcome::Held;
    verdict.outcome = verdict.evidence.proved ? Outcome::Proved : verdict.outcome;
  }
  return of_bytes;
}

}  // namespace bv::cli

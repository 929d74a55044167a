#include "core/verdict/counts_check.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <initializer_list>
#include <map>
#include <set>
#include <utility>

#include "core/base/text.hpp"

namespace bv {

namespace {

void check_numbers(Fields& fields, const Json& root, const Run& run) {
  const Json* result = Fields::find(root, "result");
  const Json* counts = result == nullptr || !result->is_object()
                           ? nullptr
                           : fields.object(*result, "counts", "result.");
  if (counts == nullptr) {
    return;  // a fault that is told
  }
  const Counts now = count(run);
  for (const auto& [name, found] : std::initializer_list<std::pair<const char*, std::int64_t>>{
           {"proved", now.proved},
           {"held", now.held},
           {"refuted", now.refuted},
           {"inconclusive", now.inconclusive},
           {"unsupported", now.unsupported},
           {"waived", now.waived},
           {"broken", now.broken}}) {
    const Json* stated = Fields::find(*counts, name);
    if ((stated == nullptr || *stated != found) && fields.ok()) {
      fields.refuse(fmt::format("result.counts.{}", name), stated,
                    fmt::format("{}, as many as the file has", found));
    }
  }
}

class Derived {
 public:
  Derived(Fields& fields, const Json& root, const Run& run)
      : fields_(fields), root_(root), run_(run) {}

  void check() {
    check_result();
    check_claims();
    check_layouts();
    for (std::size_t i = 0; i < run_.verdicts.size() && fields_.ok(); ++i) {
      check_verdict(run_.verdicts[i]);
    }
    check_waivers();
    std::int64_t tensors = 0;
    for (const auto& [dtype, count] : run_.dtypes) {
      tensors += count;
    }
    if (!run_.dtypes.empty() && tensors > run_.tensors) {
      refuse("model.tensors", run_.tensors,
             fmt::format("at least {}, as many as model.dtypes has", tensors));
    }
  }

 private:
  void refuse(const std::string& path, const Json& found, const std::string& wanted) {
    if (fields_.ok()) {
      fields_.refuse(path, &found, wanted);
    }
  }
  void equal(const std::string& path, const Json* found, const Json& wanted) {
    if (found == nullptr || *found != wanted) {
      fields_.refuse(path, found, wanted.dump() + ", as the verdicts say");
    }
  }

  void check_result() {
    const Conclusion conclusion = conclude(run_);
    const Json& result = *Fields::find(root_, "result");
    equal("status", Fields::find(root_, "status"),
          count(run_).broken > 0 ? "broken"
          : run_.stopped         ? "stopped"
          : run_.partial         ? "partial"
                                 : "complete");
    equal("result.word", Fields::find(result, "word"), conclusion.word);
    equal("result.exit_code", Fields::find(result, "exit_code"), conclusion.exit_code);
    equal("result.undecided", Fields::find(result, "undecided"), undecided_reasons(run_));
  }

  void check_claims() {
    if (run_.claims.empty()) {
      return;  // a run that gives no table: none says more than the verdicts
    }
    std::map<std::string, std::int64_t> cases;
    std::map<std::string, std::int64_t> subjects;
    for (const ClaimSummary& claim : run_.claims) {
      subjects[claim.claim] += claim.subjects;
    }
    for (const Verdict& verdict : run_.verdicts) {
      cases[verdict.claim] += verdict.cases;
    }
    for (const auto& [claim, count] : cases) {
      const auto row = subjects.find(claim);
      if (row == subjects.end()) {
        refuse("claims", claim,
               fmt::format("a row of claim {}, which has verdicts", escaped(claim)));
      } else if (row->second != count) {
        refuse("claims." + escaped(claim) + ".subjects", row->second,
               fmt::format("{}, as many cases as its verdicts have", count));
      }
    }
    for (const auto& [claim, count] : subjects) {
      if (count != 0 && !cases.contains(claim)) {
        refuse("claims." + escaped(claim) + ".subjects", count, "0: the claim has no verdict");
      }
    }
  }

  /// "tp2pp1ep8etp1vpp2" -> sizes; those that are not named are 1.
  static std::map<std::string, std::int64_t> sizes_of(const std::string& id) {
    std::map<std::string, std::int64_t> out;
    for (std::size_t at = 0; at < id.size();) {
      const std::size_t number = std::min(id.find_first_of("0123456789", at), id.size());
      const std::size_t end = std::min(id.find_first_not_of("0123456789", number), id.size());
      std::int64_t& size = out[id.substr(at, number - at)];
      for (std::size_t i = number; i < end && size < (std::int64_t{1} << 40); ++i) {
        size = size * 10 + (id[i] - '0');
      }
      at = end;
    }
    return out;
  }

  void check_layouts() {
    for (const LayoutRow& row : run_.layouts) {
      const auto sizes = sizes_of(row.id);
      for (const auto& [name, size] :
           std::initializer_list<std::pair<const char*, std::int64_t>>{{"tp", row.tp},
                                                                       {"pp", row.pp},
                                                                       {"ep", row.ep},
                                                                       {"etp", row.etp},
                                                                       {"vpp", row.vpp},
                                                                       {"cp", row.cp}}) {
        const auto found = sizes.find(name);
        const std::int64_t wanted = found == sizes.end() ? 1 : found->second;
        if (size != wanted) {
          refuse(fmt::format("layouts.{}.{}", escaped(row.id), name), size,
                 fmt::format("{}, as the id says", wanted));
        }
      }
      layouts_.insert(row.id);
    }
  }

  void check_verdict(const Verdict& verdict) {
    const std::string path = "verdicts." + escaped(verdict.id());
    if (!verdict.layout.empty() && !layouts_.empty() && !layouts_.contains(verdict.layout)) {
      refuse(path + ".layout", verdict.layout, "one of layouts");
    }
    const bool green = verdict.outcome == Outcome::Proved || verdict.outcome == Outcome::Held;
    const bool red = verdict.outcome == Outcome::Refuted;
    if (verdict.cases < 0 || verdict.refuted_cases < 0 ||
        verdict.refuted_cases > std::max<std::int64_t>(verdict.cases, 1) ||
        (green && verdict.refuted_cases != 0) || (red && verdict.refuted_cases == 0)) {
      refuse(path + ".refuted_cases", verdict.refuted_cases,
             green ? "0: the verdict is green"
             : red ? fmt::format("from 1 to its {} cases", verdict.cases)
                   : fmt::format("at most its {} cases", verdict.cases));
    }
    const Evidence& evidence = verdict.evidence;
    if (verdict.outcome == Outcome::Proved && !evidence.proved) {
      refuse(path + ".evidence", letters(evidence), "P: the verdict is Proved");
    }
    if (verdict.outcome == Outcome::Held && evidence == Evidence{}) {
      refuse(path + ".evidence", letters(evidence), "what the verdict is held by");
    }
    const bool waived = verdict.outcome == Outcome::Waived;
    if (waived != evidence.waived || waived == verdict.waiver.empty()) {
      refuse(path + ".waiver", verdict.waiver,
             waived ? "the place of its waiver, and W" : "nothing: the verdict is not waived");
    }
  }

  void check_waivers() {
    std::map<std::string, std::int64_t> taken;
    for (const Verdict& verdict : run_.verdicts) {
      if (!verdict.waiver.empty()) {
        ++taken[verdict.waiver];
      }
    }
    for (const WaiverRow& row : run_.waivers) {
      const std::int64_t count = taken.contains(row.place) ? taken.at(row.place) : 0;
      if (row.matched < count || (row.expired && count > 0)) {
        refuse("waivers." + escaped(row.place) + ".matched", row.matched,
               row.expired ? "nothing waived by it: it is expired"
                           : fmt::format("at least {}, as many as it waives", count));
      }
      taken.erase(row.place);
    }
    if (!taken.empty()) {
      refuse("waivers", taken.begin()->first, "a row for every waiver that verdicts name");
    }
  }

  Fields& fields_;
  const Json& root_;
  const Run& run_;
  std::set<std::string> layouts_;
};

}  // namespace

void check_counts(Fields& fields, const Json& root, const Run& run) {
  if (fields.ok()) {
    check_numbers(fields, root, run);
  }
  if (fields.ok()) {
    Derived(fields, root, run).check();
  }
}

}  // namespace bv

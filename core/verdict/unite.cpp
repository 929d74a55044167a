#include "core/verdict/unite.hpp"

#include <algorithm>
#include <map>
#include <tuple>

#include "core/base/text.hpp"

namespace bv {
namespace {

using Subject = std::tuple<std::string, std::string, std::string, std::string, std::string, int>;

/// Says what verdicts are about: equal on all processes that judged it.
class Subjects {
 public:
  Subject next(const Verdict& verdict) {
    Subject out = {verdict.claim,    verdict.rule,          verdict.layout,
                   verdict.megatron, join(verdict.hf, " "), 0};
    std::get<5>(out) = seen_[out]++;  // several may be about one thing
    return out;
  }

 private:
  std::map<Subject, int> seen_;
};

bool is_green(const Verdict& verdict) {
  return verdict.outcome == Outcome::Proved || verdict.outcome == Outcome::Held;
}

/// One bad verdict, and who made it.
struct Made {
  std::size_t process = 0;
  const Verdict* verdict = nullptr;
};

bool are_alike(const Verdict& a, const Verdict& b) {
  return a.outcome == b.outcome && a.code == b.code && a.title == b.title;
}

bool all_made_it_alike(const std::vector<Made>& all, std::size_t processes) {
  return all.size() == processes && std::all_of(all.begin(), all.end(), [&](const Made& one) {
           return are_alike(*one.verdict, *all.front().verdict);
         });
}

/// The worst of them, and who made what.
Verdict united(const std::vector<Made>& all, std::span<const std::string> names) {
  const Made& worst = *std::max_element(all.begin(), all.end(), [](const Made& a, const Made& b) {
    return badness(a.verdict->outcome) < badness(b.verdict->outcome);
  });
  Verdict out = *worst.verdict;
  if (all_made_it_alike(all, names.size())) {
    return out;
  }
  out.title = names[worst.process] + ": " + out.title;
  std::vector<std::string> also;
  for (const Made& one : all) {
    if (one.process == worst.process) {
      continue;
    }
    if (are_alike(*one.verdict, *worst.verdict)) {
      also.push_back(names[one.process]);
    } else {
      out.facts.push_back(names[one.process] + ": " + one.verdict->title);
    }
  }
  if (!also.empty()) {
    out.facts.push_back("the same on " + join(also, ", "));
  }
  return out;
}

/// Adds what `into` has nothing of the same code of.
void add_named(std::vector<Error>& into, const std::vector<Error>& from, const std::string& name) {
  const std::size_t known = into.size();
  for (const Error& error : from) {
    const auto end = into.begin() + static_cast<std::ptrdiff_t>(known);
    if (std::none_of(into.begin(), end, [&](const Error& one) { return one.code == error.code; })) {
      into.push_back(error);
      into.back().message = name + ": " + error.message;
    }
  }
}

/// A verdict that this process did not make, with its row of the table: that of who made it where
/// the claim was not judged here.
void add_verdict(Run& run, Verdict verdict, const Run& of) {
  const auto is_it = [&](const ClaimSummary& one) { return one.claim == verdict.claim; };
  auto row = std::find_if(run.claims.begin(), run.claims.end(), is_it);
  const auto there = std::find_if(of.claims.begin(), of.claims.end(), is_it);
  if (there != of.claims.end() && (row == run.claims.end() || !row->requested)) {
    row = row == run.claims.end() ? run.claims.insert(row, *there) : row;
    *row = *there;
    row->subjects = 0;
  }
  if (row != run.claims.end()) {
    row->subjects += verdict.cases;
  }
  run.verdicts.push_back(std::move(verdict));
}

}  // namespace

Run findings(const Run& run) {
  Run out;
  out.claims = run.claims;
  out.warnings = run.warnings;
  out.input_errors = run.input_errors;
  std::copy_if(run.verdicts.begin(), run.verdicts.end(), std::back_inserter(out.verdicts),
               [](const Verdict& one) { return !is_green(one); });
  for (ClaimSummary& row : out.claims) {  // what the verdicts that are left say
    row.subjects = 0;
    for (const Verdict& verdict : out.verdicts) {
      row.subjects += verdict.claim == row.claim ? verdict.cases : 0;
    }
  }
  return out;
}

void unite(Run& run, std::span<const Run> found, std::span<const std::string> names) {
  std::map<Subject, std::vector<Made>> bad;
  for (std::size_t process = 0; process < found.size(); ++process) {
    Subjects subjects;
    for (const Verdict& verdict : found[process].verdicts) {
      bad[subjects.next(verdict)].push_back({process, &verdict});
    }
    add_named(run.warnings, found[process].warnings, names[process]);
    add_named(run.input_errors, found[process].input_errors, names[process]);
  }
  Subjects subjects;
  for (Verdict& verdict : run.verdicts) {
    const auto made = bad.find(subjects.next(verdict));
    if (made == bad.end()) {
      continue;
    }
    if (is_green(verdict) || !all_made_it_alike(made->second, names.size())) {
      const std::int64_t cases = verdict.cases;
      verdict = united(made->second, names);
      verdict.cases = cases;
    }
    bad.erase(made);
  }
  for (const auto& [subject, made] : bad) {
    add_verdict(run, united(made, names), found[made.front().process]);
  }
}

}  // namespace bv

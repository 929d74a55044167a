#include "core/verdict/unite.hpp"

#include <algorithm>
#include <map>
#include <tuple>
#include <utility>

#include "core/base/text.hpp"

namespace bv {
namespace {

using Subject = std::tuple<std::string, std::string, std::string, std::string, std::string, int>;

/// Says what bad verdicts are about: equal on all processes that made one of it. Green ones are not
/// told, so they have no number.
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
  std::vector<std::pair<const Verdict*, std::vector<std::string>>> others = {{worst.verdict, {}}};
  for (const Made& one : all) {
    if (one.process == worst.process) {
      continue;
    }
    auto at = std::find_if(others.begin(), others.end(), [&](const auto& other) {
      return are_alike(*other.first, *one.verdict);
    });
    at = at == others.end() ? others.insert(at, {one.verdict, {}}) : at;
    at->second.push_back(names[one.process]);
  }
  for (std::size_t i = 1; i < others.size(); ++i) {
    out.facts.push_back(join(others[i].second, ", ") + ": " + others[i].first->title);
  }
  if (!others[0].second.empty()) {
    out.facts.push_back("the same on " + join(others[0].second, ", "));
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
  const bool known = row != run.claims.end();
  if (there != of.claims.end() &&
      (!known || !row->requested || row->vacuous || !row->reached || row->skipped)) {
    row = known ? row : run.claims.insert(row, *there);
    *row = *there;
    row->subjects = 0;
  } else if (!known) {
    row = run.claims.insert(row, {.claim = verdict.claim});
  }
  row->subjects += verdict.cases;
  run.verdicts.push_back(std::move(verdict));
}

/// What is known of one verdict by the others is put in its place.
void take_place(Verdict& verdict, const std::vector<Made>& made,
                std::span<const std::string> names) {
  if (!is_green(verdict) && all_made_it_alike(made, names.size())) {
    return;
  }
  const std::int64_t cases = verdict.cases;
  verdict = united(made, names);
  verdict.cases = cases;
  verdict.refuted_cases = std::min(verdict.refuted_cases, std::max<std::int64_t>(cases, 1));
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
  std::vector<Verdict*> order;  // its own first: what the others found besides is of the green ones
  for (Verdict& verdict : run.verdicts) {
    order.push_back(&verdict);
  }
  std::stable_partition(order.begin(), order.end(), [](auto* one) { return !is_green(*one); });
  Subjects subjects;
  for (Verdict* const verdict : order) {
    if (const auto made = bad.find(subjects.next(*verdict)); made != bad.end()) {
      take_place(*verdict, made->second, names);
      bad.erase(made);
    }
  }
  for (const auto& [subject, made] : bad) {
    add_verdict(run, united(made, names), found[made.front().process]);
  }
}

}  // namespace bv

#include "core/verdict/changes.hpp"

#include <algorithm>
#include <map>
#include <set>
#include <utility>

#include "core/verdict/ids.hpp"

namespace bv {
namespace {

bool is_red(const Verdict& verdict) {
  return verdict.outcome == Outcome::Refuted || verdict.outcome == Outcome::Broken;
}
bool is_open(const Verdict& verdict) {
  return verdict.outcome == Outcome::Inconclusive || verdict.outcome == Outcome::Unsupported;
}

/// Names the faults of a red verdict: every subject, or the one that it is of.
std::set<std::string> subjects_of(const Verdict& verdict) {
  if (!verdict.subjects.empty()) {
    return {verdict.subjects.begin(), verdict.subjects.end()};
  }
  return {!verdict.megatron.empty() ? verdict.megatron
          : verdict.hf.empty()      ? ""
                                    : verdict.hf.front()};
}

/// Is a subject wrong that was not, or are there more wrong ones?
bool is_worse(const Verdict& before, const Verdict& after) {
  const std::set<std::string> was = subjects_of(before);
  const std::set<std::string> is = subjects_of(after);
  return after.refuted_cases > before.refuted_cases ||
         !std::includes(was.begin(), was.end(), is.begin(), is.end());
}

Change change_of(const Verdict* before, const Verdict* after) {
  if (after == nullptr) {
    return Change::LostSubject;
  }
  if (is_red(*after)) {
    const bool still = before != nullptr && is_red(*before) && !is_worse(*before, *after);
    return still ? Change::StillRefuted : Change::NewlyRefuted;
  }
  if (is_open(*after)) {
    return before != nullptr && is_open(*before) ? Change::Unchanged : Change::NewlyUndecided;
  }
  if (before == nullptr) {
    return Change::NewSubject;
  }
  if (is_red(*before) || is_open(*before)) {
    return after->outcome == Outcome::Waived ? Change::Unchanged : Change::Fixed;
  }
  if (before->evidence == after->evidence) {
    return Change::Unchanged;
  }
  return (before->evidence | after->evidence) == after->evidence ? Change::EvidenceGained
                                                                 : Change::EvidenceLost;
}

}  // namespace

std::string_view name(Change change) {
  switch (change) {
    case Change::NewlyRefuted:
      return "newly refuted";
    case Change::LostSubject:
      return "no longer checked";
    case Change::EvidenceLost:
      return "evidence lost";
    case Change::StillRefuted:
      return "still refuted";
    case Change::NewlyUndecided:
      return "newly undecided";
    case Change::Fixed:
      return "fixed";
    case Change::EvidenceGained:
      return "evidence gained";
    case Change::NewSubject:
      return "newly checked";
    case Change::Unchanged:
      break;
  }
  return "unchanged";
}

std::vector<Changed> changes(const Run& before, const Run& after) {
  std::map<std::string, const Verdict*> old;
  const std::vector<std::string> old_ids = unique_ids(before.verdicts);
  for (std::size_t i = 0; i < old_ids.size(); ++i) {
    old.emplace(old_ids[i], &before.verdicts[i]);
  }
  std::vector<Changed> out;
  const std::vector<std::string> ids = unique_ids(after.verdicts);
  for (std::size_t i = 0; i < ids.size(); ++i) {
    const auto at = old.find(ids[i]);
    const Verdict* was = at == old.end() ? nullptr : at->second;
    out.push_back({change_of(was, &after.verdicts[i]), ids[i], was, &after.verdicts[i]});
    if (at != old.end()) {
      old.erase(at);
    }
  }
  for (const auto& [id, verdict] : old) {
    out.push_back({Change::LostSubject, id, verdict, nullptr});
  }
  std::stable_sort(out.begin(), out.end(),
                   [](const Changed& a, const Changed& b) { return a.change < b.change; });
  return out;
}

Baseline baseline_of(const Run& before, const Run& after, std::string ref) {
  Baseline out;
  out.ref = std::move(ref);
  for (const Changed& one : changes(before, after)) {
    if (one.change == Change::Unchanged) {
      ++out.unchanged;
      continue;
    }
    out.rows.push_back({std::string(name(one.change)), one.id,
                        one.before == nullptr ? "" : std::string(name(one.before->outcome)),
                        one.after == nullptr ? "" : std::string(name(one.after->outcome)),
                        one.after == nullptr ? one.before->title : one.after->title});
  }
  return out;
}

}  // namespace bv

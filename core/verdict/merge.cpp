#include "core/verdict/merge.hpp"

#include <algorithm>
#include <map>
#include <tuple>
#include <utility>

#include "core/base/text.hpp"
#include "core/verdict/ids.hpp"

namespace bv {
namespace {

Status same_subject(const Run& first, const Run& other) {
  const std::string first_seed = std::to_string(first.seed);
  const std::string other_seed = std::to_string(other.seed);
  for (const auto& [what, a, b] :
       {std::tuple("model", &first.model_ref, &other.model_ref),
        std::tuple("revision", &first.revision, &other.revision),
        std::tuple("header digest", &first.header_digest, &other.header_digest),
        std::tuple("family", &first.family, &other.family),
        std::tuple("digest of the rules", &first.rules_digest, &other.rules_digest),
        std::tuple("seed", &first_seed, &other_seed),
        std::tuple("version", &first.tool.version, &other.tool.version)}) {
    if (*a != *b) {
      return fail(Code::Conflict, std::string("the runs differ in their ") + what)
          .pair(b->empty() ? "none" : escaped(*b), a->empty() ? "none" : escaped(*a))
          .advise("merge the jobs of one model, one set of rules and one version");
    }
  }
  return Done{};
}

/// Adds what `into` does not have yet.
template <class Row, class Key>
void unite(std::vector<Row>& into, const std::vector<Row>& from, const Key& key) {
  for (const Row& row : from) {
    if (std::none_of(into.begin(), into.end(),
                     [&](const Row& known) { return key(known) == key(row); })) {
      into.push_back(row);
    }
  }
}

void merge_claims(std::vector<ClaimSummary>& into, const std::vector<ClaimSummary>& from) {
  for (const ClaimSummary& row : from) {
    const auto known = std::find_if(
        into.begin(), into.end(), [&](const ClaimSummary& one) { return one.claim == row.claim; });
    if (known == into.end()) {
      into.push_back(row);
      continue;
    }
    known->requested = known->requested || row.requested;
    known->skipped = known->skipped || row.skipped;
    known->vacuous = known->vacuous && row.vacuous;
    known->reached = known->reached && row.reached;
    known->subjects = std::max(known->subjects, row.subjects);
    known->note = known->note.empty() ? row.note : known->note;
  }
}

void merge_waivers(std::vector<WaiverRow>& into, const std::vector<WaiverRow>& from) {
  for (const WaiverRow& row : from) {
    const auto known = std::find_if(into.begin(), into.end(), [&](const WaiverRow& one) {
      return one.place == row.place && one.code == row.code && one.subject == row.subject;
    });
    if (known == into.end()) {
      into.push_back(row);
    } else {
      known->matched += row.matched;
      known->expired = known->expired || row.expired;
    }
  }
}

void merge_verdicts(std::vector<Verdict>& into, std::vector<Verdict> from) {
  std::map<std::string, std::size_t> place;
  const std::vector<std::string> known = unique_ids(into);
  for (std::size_t i = 0; i < known.size(); ++i) {
    place.emplace(known[i], i);
  }
  const std::vector<std::string> ids = unique_ids(from);
  for (std::size_t i = 0; i < from.size(); ++i) {
    const auto at = place.find(ids[i]);
    if (at == place.end()) {
      into.push_back(std::move(from[i]));
    } else if (badness(from[i].outcome) > badness(into[at->second].outcome)) {
      into[at->second] = std::move(from[i]);
    }
  }
}

void add_run(Run& into, Run from) {
  merge_verdicts(into.verdicts, std::move(from.verdicts));
  merge_claims(into.claims, from.claims);
  merge_waivers(into.waivers, from.waivers);
  unite(into.layouts, from.layouts, [](const LayoutRow& row) { return row.id + "\n" + row.also; });
  unite(into.detected, from.detected, [](const Fact& row) { return row.what + "\n" + row.value; });
  unite(into.settings, from.settings,
        [](const SettingRow& row) { return row.name + "\n" + row.text; });
  unite(into.notes, from.notes, [](const std::string& row) { return row; });
  const auto error_key = [](const Error& row) { return label(row.code) + row.message + row.where; };
  unite(into.warnings, from.warnings, error_key);
  unite(into.input_errors, from.input_errors, error_key);
  into.fail_on = std::max(into.fail_on, from.fail_on);
  into.allow_partial = into.allow_partial && from.allow_partial;
  into.partial = into.partial || from.partial;
  into.stop_signal = !into.stopped && from.stopped ? from.stop_signal : into.stop_signal;
  into.stopped = into.stopped || from.stopped;
  into.command = into.command == from.command ? into.command : "merge";
  into.level = into.level == from.level ? into.level : "several";
  into.mutation = into.mutation ? std::move(into.mutation) : std::move(from.mutation);
  into.seconds += from.seconds;
  into.started = std::min(into.started, from.started);
  into.peak_rss = std::max(into.peak_rss, from.peak_rss);
}

}  // namespace

Result<Run> merge(std::vector<Run> runs) {
  BV_ASSERT(!runs.empty());
  Run out = std::move(runs.front());
  for (std::size_t i = 1; i < runs.size(); ++i) {
    BV_CHECK(same_subject(out, runs[i]));
    if (out.mutation && runs[i].mutation) {
      return fail(Code::Conflict, "two of the runs have a mutation matrix")
          .advise("merge the runs of check; a matrix is made by one run of mutate");
    }
    add_run(out, std::move(runs[i]));
  }
  if (runs.size() > 1) {
    out.layouts_note =
        std::to_string(out.layouts.size()) + " of " + std::to_string(runs.size()) + " merged runs";
    for (ClaimSummary& claim : out.claims) {
      std::int64_t cases = 0;
      for (const Verdict& verdict : out.verdicts) {
        cases += verdict.claim == claim.claim ? verdict.cases : 0;
      }
      claim.subjects = cases > 0 ? cases : claim.subjects;
    }
  }
  return out;
}

}  // namespace bv

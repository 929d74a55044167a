#include "ci/cli/session/unsupported.hpp"

namespace bv::cli {

void add_unsupported(const Error& error, std::string_view claim, std::string_view title, Run& run) {
  BV_ASSERT(is_unsupported(error.code));
  Verdict verdict;
  verdict.claim = claim;
  verdict.rule_source = error.where;
  verdict.outcome = Outcome::Unsupported;
  verdict.code = error.code;
  verdict.cases = 1;
  verdict.title = error.message;
  verdict.facts = error.facts;
  verdict.found = error.found;
  verdict.wanted = error.wanted;
  verdict.help = error.help;
  run.verdicts.push_back(std::move(verdict));
  ClaimSummary summary;
  summary.claim = claim;
  summary.title = title;
  summary.subjects = 1;
  run.claims.push_back(std::move(summary));
}

void add_not_reached(const Error& error, std::string_view claim, std::string_view title,
                     bool requested, Run& run) {
  ClaimSummary summary;
  summary.claim = claim;
  summary.title = title;
  summary.note = requested ? info(error.code).title : "";
  summary.requested = requested;
  summary.reached = !requested;
  run.claims.push_back(std::move(summary));
}

}  // namespace bv::cli

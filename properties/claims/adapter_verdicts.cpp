#include "properties/claims/adapter_verdicts.hpp"

#include <utility>

namespace bv::claims {

Verdict adapter_verdict(std::string_view claim, std::string rule, Outcome outcome,
                        std::int64_t cases) {
  Verdict out;
  out.claim = claim;
  out.rule = std::move(rule);
  out.kind = "adapter";
  out.outcome = outcome;
  out.cases = cases;
  out.refuted_cases = outcome == Outcome::Refuted ? cases : 0;
  return out;
}

Verdict of_error(std::string_view claim, const Error& error, std::int64_t cases) {
  const bool no_form = error.code == Code::AdapterNoForm || error.code == Code::IndivisibleDim ||
                       error.code == Code::ScaleWrong;
  Verdict out =
      adapter_verdict(claim, "adapter", no_form ? Outcome::Unsupported : Outcome::Refuted, cases);
  out.code = error.code;
  out.title = error.message;
  out.facts = error.facts;
  out.found = error.found;
  out.wanted = error.wanted;
  out.help = error.help;
  return out;
}

}  // namespace bv::claims

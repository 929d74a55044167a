#include "properties/claims/dtypes.hpp"

#include <algorithm>

namespace bv::claims {

Dtypes::Dtypes(const Subject& subject) {
  for (const Part& part : subject.parts) {
    if (auto status = plan::check_dtypes(part.source->model, part.source->headers); !status) {
      errors_.emplace(&part, std::move(status).error());
    }
  }
}

bool Dtypes::refuses(const Part& part, const model::Mapping& mapping) const {
  return errors_.contains(&part) && plan::has_odd_dtype(part.source->headers, mapping);
}

bool Dtypes::refuses(const RuleUse& use) const {
  return errors_.contains(use.part) &&
         std::any_of(use.mappings.begin(), use.mappings.end(), [&](std::uint32_t m) {
           return plan::has_odd_dtype(use.source().headers, use.model().mappings[m]);
         });
}

void Dtypes::mark(const Part& part, Verdict& verdict) const {
  const auto found = errors_.find(&part);
  BV_ASSERT(found != errors_.end());
  const Error& error = found->second;
  verdict.outcome = Outcome::Unsupported;
  verdict.evidence = {};
  verdict.code = error.code;
  verdict.title = error.message;
  verdict.facts = error.facts;
  verdict.found = error.found;
  verdict.wanted = error.wanted;
  verdict.help = error.help;
}

}  // namespace bv::claims

#pragma once
// Parameters that no rule can make: their tensors have a dtype that no Megatron parameter has.

#include <map>

#include "properties/claims/subject.hpp"

namespace bv::claims {

/// Looks once at every tensor; then turns the verdicts about the rules concerned into Unsupported.
/// The subject must outlive it.
class Dtypes {
 public:
  explicit Dtypes(const Subject& subject);
  /// A mapping of the rule reads a tensor of such a dtype.
  [[nodiscard]] bool refuses(const RuleUse& use) const;
  [[nodiscard]] bool refuses(const Part& part, const model::Mapping& mapping) const;
  /// The verdict about `part` as Unsupported, with one text for every rule: one cause, one block.
  void mark(const Part& part, Verdict& verdict) const;

 private:
  std::map<const Part*, Error> errors_;  // of the parts that have such tensors
};

}  // namespace bv::claims

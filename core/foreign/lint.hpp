#pragma once
// What is wrong with a foreign rule set by itself, and which of its rules a checkpoint leaves idle.

#include "core/foreign/foreign_kinds.hpp"

namespace bv::foreign {

struct LintFinding {
  enum class Severity { Error, Unsupported, Undecided, Warning };
  Code code = Code::RulesInvalid;
  Severity severity = Severity::Error;
  std::string rule;  // rule id, "" when it is about several
  std::string source;
  std::string message;
  std::vector<std::string> facts;
  std::string found, wanted, help;
};

/// In rule order: those of rule_faults, two rules for one name (DuplicateClaim), rules behind one
/// that takes their names (RuleShadowed), keys that nobody reads (RulesKeyUnknown).
[[nodiscard]] std::vector<LintFinding> lint_rules(const ForeignRules& rules,
                                                  const ForeignKinds& kinds);

/// Rules of which no tensor is in the checkpoint (RuleDead): one warning for the rules of MTP
/// layers, one for those of experts kept apart, one for the others.
[[nodiscard]] std::vector<LintFinding> idle_rules(const ForeignRules& rules,
                                                  const Headers& headers);

}  // namespace bv::foreign

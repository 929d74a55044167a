#pragma once
// What is wrong with a foreign rule set by itself, or against the names of one checkpoint.

#include "core/foreign/rules_file.hpp"

namespace bv::foreign {

struct LintFinding {
  Code code = Code::RulesInvalid;
  bool error = true;  // false: a warning
  std::string rule;   // rule id
  std::string source;
  std::string message;
  std::string found, wanted, help;
};

/// In rule order. With `headers`: rules that never fire and tensors that nothing reads as well.
/// Unknown kinds and missing parts (BV7011), wildcard counts (BV1009), two rules for one name
/// (BV1010), rules behind a wildcard that takes their names (BV1005), mixed wildcards (BV1009),
/// packed experts without an orientation (BV2008), dead rules (BV1006), unused tensors (BV1001).
/// Parameters without a rule (BV1003) are found by apply_rules: that takes a config as well.
[[nodiscard]] std::vector<LintFinding> lint_rules(const ForeignRules& rules,
                                                  const ForeignKinds& kinds,
                                                  const Headers* headers);

}  // namespace bv::foreign

#pragma once
// The museum of real bugs: each a data file that says what is mutated where and what the judge must
// answer, kept for ever. The un-mutated twin of every exhibit must be green.

#include <string>
#include <string_view>
#include <vector>

#include "properties/attacks/mutants/gate.hpp"
#include "properties/attacks/mutants/rule_faults.hpp"

namespace bv::mutants {

struct Exhibit {
  std::string id;      // "B01"
  std::string bug;     // what went wrong, in one sentence
  std::string source;  // thread or commit
  std::string
      stands_for;  // "" when the bug itself is modelled, else why the nearest fault stands for it
  std::string sample;
  std::vector<std::pair<std::string, std::string>> settings;
  std::string layout;
  Mutant mutant;
  Finding expected;       // claim, code, and the first wrong element
  bool gate_red = false;  // at std 0.02
};
/// Errors: BadValue naming the field.
[[nodiscard]] Result<Exhibit> read_exhibit(std::string_view text, const std::string& file);
/// The parts of a finding that an exhibit fixes, as JSON.
[[nodiscard]] nlohmann::json to_json(const Finding& finding);

struct Shown {
  std::vector<Finding> twin;  // of the right bridge: must be empty
  std::vector<Finding> mutated;
  GateResult gate;  // at std 0.02
  /// What `bridge-verify check` refutes when the fault stands in the rules; nullopt when it is none
  /// of rules.
  std::optional<std::vector<Verdict>> by_user_claims;
};
/// Errors: an unknown sample, layout or parameter.
[[nodiscard]] Result<Shown> show(const Library& library, const std::vector<Sample>& samples,
                                 const oracle::Entry& entry, const Exhibit& exhibit);

/// The sample by name. Errors: BadValue with the nearest name.
[[nodiscard]] Result<Sample> find_sample(const std::vector<Sample>& samples,
                                         const std::string& name);

}  // namespace bv::mutants

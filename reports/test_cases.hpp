#pragma once
// A run as test cases: the source of the formats that CI systems read as test results.

#include <string>
#include <vector>

#include "core/verdict/verdict.hpp"

namespace bv::reports {

struct TestCase {
  enum class Status { Passed, Failed, Error, Undecided, Skipped };
  std::string id;     // unique: the id of the verdict
  std::string suite;  // the claim; "input", "claims" and "run" beside them
  std::string name;   // unique in its suite, untrusted
  Status status = Status::Passed;
  std::string outcome;  // "Refuted"
  std::string code;     // "BV2006", "" when green
  std::string message;  // one sentence, "" when green
  std::string body;     // the block of the terminal, "" when green
  std::string replay, source_file, kind, evidence, layout;
  int source_line = 0;
};

/// Every verdict as a case; above `cases_max` green ones of one rule become one case for all its
/// layouts, then one for the claim, and at the very end the others are
/// counted in one case, red when one of them is.
/// Undecided is what an open verdict is when --fail-on leaves it out, else it is Failed. A run that
/// is not green has at least one case that is Failed or Error.
[[nodiscard]] std::vector<TestCase> test_cases(const Run& run, std::size_t cases_max = 5000);

}  // namespace bv::reports

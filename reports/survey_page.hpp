#pragma once
// Many rule sets, each on a checkpoint of its own: one row each, as a table, a page and JSON.

#include <cstdint>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "reports/style.hpp"

namespace bv::reports {

/// What one run said, as a code and how many verdicts have it.
using CodeCount = std::pair<std::string, std::int64_t>;

struct SurveyCell {
  std::string outcome;  // "Proved"; "" where the claim was not reached or not asked
  std::string letters;  // evidence that all of it has: "P-O----"
  bool operator==(const SurveyCell&) const = default;
};

struct SurveyRow {
  std::string name, bridge_class, variant;
  std::string names_of;  // where the names of the checkpoint come from
  std::string real;      // what the real bridge did with it; "" when it was not run
  /// Known defects, and whether the row shows them: their codes are refuted, or the exporter or the
  /// real bridge says what they are known by.
  std::vector<std::pair<std::string, bool>> findings;
  std::string word;  // PASS FAIL INCOMPLETE INPUT BROKEN
  int exit_code = 0;
  std::vector<SurveyCell> claims;  // in the order of Survey::claims
  std::vector<CodeCount> refuted, open;
  std::int64_t rules = 0, rules_not_judged = 0, questions = 0;
  std::vector<std::string> trouble;  // of the exporter, and why a run stopped
  std::string link;                  // the report of this row
  std::string change;                // against a baseline: "newly red", "fixed", ...
};

struct Survey {
  std::string packages;  // "megatron-bridge 0.6.2, ..."
  std::vector<std::string> claims;
  std::vector<SurveyRow> rows;    // the worst first
  std::vector<std::string> lost;  // rows of the baseline that are not here
};

/// Does the verdict contradict what the real bridge did? Undecided rows contradict nothing.
[[nodiscard]] bool contradicts(const SurveyRow& row);

struct SurveyTotals {
  std::int64_t rows = 0, green = 0, refuted = 0, undecided = 0, stopped = 0, contradicting = 0,
               findings = 0, findings_shown = 0, newly_red = 0, newly_undecided = 0;
};
[[nodiscard]] SurveyTotals totals(const Survey& survey);

/// "110 rows: 48 green, 57 refuted, 5 undecided; ..."
[[nodiscard]] std::string survey_line(const Survey& survey);
[[nodiscard]] std::string survey_text(const Survey& survey, const TextStyle& style);
/// One self-contained page.
[[nodiscard]] std::string survey_html(const Survey& survey);
/// Schema bridge-survey/1: equal for equal rules, checkpoints and program.
[[nodiscard]] std::string survey_json(const Survey& survey);

}  // namespace bv::reports

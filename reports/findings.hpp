#pragma once
// What a gate shows of a run: one finding a fault, whichever layouts it was met on. The source of
// the formats that list faults, not tests.

#include <string>
#include <vector>

#include "core/verdict/source_place.hpp"
#include "core/verdict/verdict.hpp"
#include "reports/error_text.hpp"

namespace bv::reports {

enum class Level { Error, Warning, Note };

struct Finding {
  Level level = Level::Error;
  std::string code;   // "BV2006"; the word of the conclusion where no single fault explains it
  std::string name;   // "elements are in the wrong place"
  std::string title;  // one sentence, untrusted
  std::string claim, rule, kind, subject, replay, waiver;
  SourcePlace source;
  std::string fingerprint;           // equal in every run that finds the fault
  std::vector<std::string> layouts;  // each once
  std::vector<const Verdict*> verdicts;
  Block block;  // the same at length
};

/// Refuted, broken and undecided verdicts, a finding for each code, claim, rule and subject; then
/// waived ones, unusable inputs, warnings. Whatever makes the exit code not zero is an Error: when
/// nothing else is one, a last finding says why the run is not green.
[[nodiscard]] std::vector<Finding> findings(const Run& run);

/// The text of a block, at most `bytes_max` long, cut at the end of a line.
[[nodiscard]] std::string block_text(const Block& block, std::size_t bytes_max);

/// How the run ended, in one line for people: "FAIL: 3 refuted, 12 proved".
[[nodiscard]] std::string headline(const Run& run);

}  // namespace bv::reports

#pragma once
// Known faults: a waivers file says which refuted or undecided verdicts are accepted, why, and
// until when (docs/reference/waivers.md). A step between a run and its conclusion.

#include <string>
#include <string_view>
#include <vector>

#include "core/base/result.hpp"
#include "core/base/toml.hpp"
#include "core/verdict/verdict.hpp"

namespace bv {

/// One entry of a waivers file.
struct Waiver {
  Code code = Code::Assertion;
  std::string subject;        // glob on the Megatron name or an HF name of a verdict
  std::string layouts = "*";  // glob on the layout id
  std::string reason, issue;
  std::string owner;   // "" when nobody is named
  toml::Date expires;  // the last day on which it holds
  std::string place;   // "waivers.toml:3:1"
};

/// Reads a waivers file: tables [[waiver]] with code, subject, reason, issue (http or https) and
/// expires (a date at most 400 days after `today`); layouts and owner may be left out.
/// Errors, with line and column: WaiversInvalid; WaiverTooBroad for a subject without
/// three plain characters together.
[[nodiscard]] Result<std::vector<Waiver>> read_waivers(std::string_view text, std::string_view file,
                                                       toml::Date today);

/// The run with the verdicts that a waiver matches as Waived. Broken verdicts, green ones and
/// unusable inputs stay. A waiver past its last day changes nothing and is a warning when it would
/// have matched; so is one that matches nothing in a run that looked at everything.
[[nodiscard]] Run waive(Run run, const std::vector<Waiver>& waivers, toml::Date today);

/// "2027-03-01"
[[nodiscard]] std::string date_text(toml::Date date);
/// The date of an RFC 3339 time: "2026-01-01T00:00:00Z". All zero when it has none.
[[nodiscard]] toml::Date date_of(std::string_view time);

}  // namespace bv

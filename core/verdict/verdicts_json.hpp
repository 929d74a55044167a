#pragma once
// verdicts.json, schema bridge-verdicts/1 (reports/schema/verdicts-1.schema.json): the one file
// that every other report is made from.

#include <string>
#include <string_view>

#include "core/base/result.hpp"
#include "core/verdict/verdict.hpp"

namespace bv {

/// Two-space indent, keys in a fixed order, 64-bit numbers above 2^53 as strings, bytes that are no
/// UTF-8 replaced. Equal runs give equal text except for the block named `run`. Facts and
/// counterexamples are kept for the first 1,000 verdicts of a code; `result.truncated` counts the
/// others.
[[nodiscard]] std::string verdicts_json(const Run& run);

/// One verdict on one line, as in `verdicts[]`.
[[nodiscard]] std::string verdict_json_line(const Verdict& verdict);

/// What a command without verdicts puts on stdout with --json when it fails: schema bridge-error/1,
/// the word, the exit code and the error.
[[nodiscard]] std::string error_json(std::string_view command, const Error& error);

/// Reads what verdicts_json wrote; unknown keys are ignored.
/// Errors: VerdictsInvalid with the place in the text or the path of the key.
[[nodiscard]] Result<Run> read_verdicts_json(std::string_view text,
                                             std::string_view file = "verdicts.json");

}  // namespace bv

#pragma once
// The end of every command that makes verdicts: one Run to stdout in the form asked for, and the
// exit code.

#include "ci/cli/session/context.hpp"
#include "core/verdict/verdict.hpp"

namespace bv::cli {

/// Fills what only the command line knows: tool, argv, seed, level, fail_on, allow_partial, times,
/// host.
void stamp(const Context& context, const Options& options, Run& run);

/// Renders `run` to stdout as text, plain, json or jsonl, and returns conclude(run).exit_code;
/// --exit-zero hides 1 and 3 only. Nothing is printed at -qq.
int finish(Context& context, const Options& options, const Run& run);

/// With --out DIR: makes DIR. Errors: PermissionDenied.
[[nodiscard]] Status make_report_folder(const Options& options);

/// With --out DIR: writes DIR/verdicts.json and DIR/report.txt, each by rename. Errors: DiskFull,
/// PermissionDenied; OutputBusy while another run writes there.
[[nodiscard]] Status write_report(const Options& options, const Run& run);

/// write_report, then finish.
int report_and_finish(Context& context, const Options& options, const Run& run);

/// Name, version, commit, build and compiler of this program.
[[nodiscard]] Tool this_tool();

}  // namespace bv::cli

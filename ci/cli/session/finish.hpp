#pragma once
// The end of every command that makes verdicts: run -> waive -> conclude -> reports, stdout, exit
// code.

#include "ci/cli/session/context.hpp"
#include "core/verdict/verdict.hpp"

namespace bv::cli {

/// Before any work: reads --report into the context. It is the same on all processes of a world.
/// Errors: BadValue, Conflict.
[[nodiscard]] Status prepare(Context& context, const Options& options);

/// What the process does that writes reports, in a world rank 0: makes the folder of --out
/// (`folder`: the command writes reports there) and reads --waivers into the context.
/// Errors: PermissionDenied, CannotWrite; those of check_report_place and read_waivers.
[[nodiscard]] Status prepare_reports(Context& context, const Options& options, bool folder);

/// Before any work: reports of an earlier run that this one will replace say from now on that a run
/// has not ended, as they would after a SIGKILL. Errors: those of io::write_named, OutputBusy.
[[nodiscard]] Status mark_begun(const Context& context, const Options& options, bool folder);

/// As soon as model, rules and layouts are known: prints the header of the report, unless stdout is
/// for something else.
void show_header(Context& context, const Options& options, const Run& run);

/// Fills what only the command line knows: tool, settings, seed, level, fail_on, allow_partial,
/// times, host.
void stamp(const Context& context, const Options& options, Run& run);

/// Applies the waivers, writes the reports of --report, prints the run to stdout in the form asked
/// for, and returns its exit code; --exit-zero hides 1 and 3 only. A report that cannot be written
/// is an error of the run.
int finish(Context& context, const Options& options, Run run);
/// The same, with the reports of --out too.
int report_and_finish(Context& context, const Options& options, Run run);
/// A run that ended with this error: the same reports and the same forms of stdout. The block of
/// the error is not printed here.
int finish_with_error(Context& context, const Options& options, const Error& error, bool folder);

/// Hands what is collected over to stdout; returns `code`, or that of an error of writing, which is
/// printed: nobody saw a green line.
[[nodiscard]] int flushed(Context& context, const Options& options, int code);

/// The document or the line for stdout of a run that ends with `error` where nothing can be made
/// any more (signals.hpp); `signal` is the one that stopped it.
[[nodiscard]] std::string last_words(const Context& context, const Options& options,
                                     const Error& error, bool concludes, int signal = 0);

/// Sets the replay of every verdict that is not green: the command with the options that it can use
/// and that decide what is found, asked of that claim on that layout. Green verdicts have none.
void fill_replays(const Options& options, std::string_view command, Run& run);

/// "checking DIR": what stderr says first, within 100 ms. "" when stderr is to be quiet.
[[nodiscard]] std::string start_line(const Options& options);

/// Name, version, commit, build and compiler of this program.
[[nodiscard]] Tool this_tool();

}  // namespace bv::cli

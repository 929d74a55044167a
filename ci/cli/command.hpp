#pragma once
// The table of subcommands. A new command is one file in ci/cli/commands/, one declaration and one
// row here.

#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "ci/cli/options/options.hpp"
#include "ci/cli/session/context.hpp"

namespace bv::cli {

class World;

/// Returns the exit code (docs/reference/exit-codes.md).
using RunCommand = int (*)(Context&, const Options&);

struct Command {
  CommandName name;
  std::string_view usage;    // "explain CODE"
  std::string_view summary;  // one line of `help`
  bool concludes = false;    // ends with the last line, also when its input is unusable
  RunCommand run;
  std::string_view examples = "";  // one command line a line
  bool divides = false;            // does its work together with the other processes of a world
};
[[nodiscard]] std::span<const Command> commands();
[[nodiscard]] const Command* find_command(std::string_view name);

/// From the arguments to the exit code: parses, dispatches, prints errors; nothing escapes it.
[[nodiscard]] int run_command_line(Context& context);

/// Prints the block of an error to stderr and gives its exit code. For a command that concludes the
/// last line, or the document of --json, goes to stdout, and the reports that were asked for are
/// written; another command with --json prints a bridge-error/1. Return what this returns, at once.
int report_error(Context& context, const Options& options, const Error& error);

/// The text of --help, of one command or of the whole program.
[[nodiscard]] std::string help_text(std::string_view command);
/// What the program is for and the first things to try; fits 24 lines.
[[nodiscard]] std::string purpose_text();
/// docs/reference/cli.md, made from the option and command tables.
[[nodiscard]] std::string reference_page();
/// docs/codes/BVnnnn.md and the index of all codes.
[[nodiscard]] std::string code_page(Code code);
[[nodiscard]] std::string code_index_page();
/// The claims as rows of a table, and docs/reference/claims.md: both from the catalogue.
[[nodiscard]] std::string claims_table();
[[nodiscard]] std::string claims_page();

int run_check(Context& context, const Options& options);
/// `check` without its reports: what it found. Errors: those that end a check with exit 2, 4 or 5.
[[nodiscard]] Result<Run> check_once(Context& context, const Options& options);
int run_survey(Context& context, const Options& options);
int run_convert(Context& context, const Options& options);
int run_lora(Context& context, const Options& options);
int run_diff(Context& context, const Options& options);
/// diff of the wanted checkpoint and the found one, for a command whose options name them.
int compare_sides(Context& context, const Options& options, const std::vector<std::string>& sides,
                  World& world);
int run_trace(Context& context, const Options& options);
int run_layout(Context& context, const Options& options);
int run_inspect(Context& context, const Options& options);
int run_fuzz(Context& context, const Options& options);
int run_mutate(Context& context, const Options& options);
int run_help(Context& context, const Options& options);
int run_version(Context& context, const Options& options);
int run_fixture(Context& context, const Options& options);
int run_explain(Context& context, const Options& options);
int run_certify(Context& context, const Options& options);
int run_completion(Context& context, const Options& options);
int run_doctor(Context& context, const Options& options);
int run_config(Context& context, const Options& options);
int run_report(Context& context, const Options& options);
int run_models(Context& context, const Options& options);
int run_rules(Context& context, const Options& options);
int run_dump_codes(Context& context, const Options& options);
int run_dump_cli(Context& context, const Options& options);
int run_dump_man(Context& context, const Options& options);
int run_dump_claims(Context& context, const Options& options);
int run_dump_mutants(Context& context, const Options& options);

}  // namespace bv::cli

#pragma once
// The files of a run's reports: the folder of --out, and those of --report.

#include <filesystem>
#include <vector>

#include "ci/cli/session/context.hpp"
#include "core/verdict/verdict.hpp"

namespace bv::cli {

/// Reports of an earlier run are replaced, which its verdicts.json shows; files of the same names
/// without one are somebody's own. Errors: OutputExists.
[[nodiscard]] Status check_report_place(const std::filesystem::path& folder);

/// Is an error of this cause among these? Each is told once.
[[nodiscard]] bool is_said(const std::vector<Error>& errors, const Error& error);

/// Writes all of them or none: a green report beside one that was lost would be taken for the
/// result of the run. Where one is lost, `run` says so, and those that can be written do; none of
/// an earlier run stays in their place. Errors: those of io::write_named, OutputBusy; `run` has
/// them too, as its last input error.
[[nodiscard]] Status write_reports(const Context& context, const Options& options, Run& run,
                                   bool folder);

}  // namespace bv::cli

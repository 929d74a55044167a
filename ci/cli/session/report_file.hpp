#pragma once
// Files that the user names for what is written: never one that the command reads.

#include <filesystem>

#include "ci/cli/options/options.hpp"

namespace bv::cli {

/// Did an earlier run write it? Empty, or our name at the beginning or the end, as in every report
/// that could be taken for a file of a model.
[[nodiscard]] bool is_report(const std::filesystem::path& file);

/// A file that is there is replaced unless the command reads it, or it lies in a folder that the
/// command reads and is no earlier report. Errors: OutputExists.
[[nodiscard]] Status check_report_file(const Options& options, const std::filesystem::path& file);

}  // namespace bv::cli

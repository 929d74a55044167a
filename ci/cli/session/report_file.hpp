#pragma once
// Files that the user names for what is written: never one that the command reads.

#include <filesystem>
#include <string_view>

#include "ci/cli/options/options.hpp"

namespace bv::cli {

/// What is written to a file that the user names: a format of reports by its name, or one of these.
inline constexpr std::string_view kAnyReport = "";
inline constexpr std::string_view kCertificate = "certificate";
inline constexpr std::string_view kSurvivors = "survivors";

/// Did an earlier run write it, in this form? Empty, or with what stands at the beginning or the
/// end of every file of the form. That it mentions this program is not enough.
[[nodiscard]] bool is_report(const std::filesystem::path& file, std::string_view form = kAnyReport);

/// A file that is there is replaced when an earlier run wrote it in the same form, and the command
/// does not read it. Errors: OutputExists.
[[nodiscard]] Status check_report_file(const Options& options, const std::filesystem::path& file,
                                       std::string_view form);

}  // namespace bv::cli

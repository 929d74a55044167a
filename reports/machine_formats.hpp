#pragma once
// The formats that CI systems and tools read. Each is one file; all are made of a run alone.

#include <string>

#include "core/verdict/verdict.hpp"
#include "reports/style.hpp"

namespace bv::reports {

/// JUnit XML as GitLab, Jenkins and GitHub actions read it: a suite a claim, at most 5,000 cases.
[[nodiscard]] std::string render_junit(const Run& run, const TextStyle& style);
/// SARIF 2.1.0 as GitHub code scanning takes it: one run, one result a fault, at most 5,000.
[[nodiscard]] std::string render_sarif(const Run& run, const TextStyle& style);
/// CTRF 1.0.0 (ctrf.io).
[[nodiscard]] std::string render_ctrf(const Run& run, const TextStyle& style);
/// A summary of at most 60 KiB for a job page or a comment.
[[nodiscard]] std::string render_markdown(const Run& run, const TextStyle& style);
/// Workflow commands: at most 10 errors and 10 warnings, which is what GitHub shows.
[[nodiscard]] std::string render_github(const Run& run, const TextStyle& style);
/// The code quality report of GitLab.
[[nodiscard]] std::string render_gitlab(const Run& run, const TextStyle& style);
/// RFC 4180: a header row, then one verdict a line.
[[nodiscard]] std::string render_csv(const Run& run, const TextStyle& style);
/// What a model card says of a checked conversion: YAML.
[[nodiscard]] std::string render_card(const Run& run, const TextStyle& style);

}  // namespace bv::reports

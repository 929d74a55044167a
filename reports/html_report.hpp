#pragma once
// The report for people: one HTML file that opens from disk and asks nobody for anything.

#include <string>

#include "core/verdict/verdict.hpp"
#include "reports/style.hpp"

namespace bv::reports {

/// Headline, findings, claims and surroundings are there without scripts; the scripts add the table
/// of all verdicts, the filter and the pictures from one block of data in the file.
[[nodiscard]] std::string render_html(const Run& run, const TextStyle& style);

/// The block of data: columns of numbers over one table of strings, details of what is not green,
/// and the tables of the run. JSON that may stand inside <script>.
[[nodiscard]] std::string html_data(const Run& run);

}  // namespace bv::reports

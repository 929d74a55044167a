#pragma once
// Untrusted text inside the formats that others read. Each takes any bytes.

#include <string>
#include <string_view>

namespace bv::reports {

/// For elements and attributes of XML 1.0 and HTML: what the format cannot hold becomes a visible
/// escape, line breaks stay.
[[nodiscard]] std::string xml_escaped(std::string_view text);
/// One cell of a table of markdown: never a column, a tag, a link, a mention or a new line.
[[nodiscard]] std::string markdown_escaped(std::string_view text);
/// A fenced block of markdown that the text cannot leave.
[[nodiscard]] std::string markdown_fenced(std::string_view text);
/// A cell of RFC 4180 that no spreadsheet takes for a formula.
[[nodiscard]] std::string csv_escaped(std::string_view text);
/// The message of a GitHub workflow command, and with `property` the value of one of its
/// properties.
[[nodiscard]] std::string github_escaped(std::string_view text, bool property);
/// A path as a URI reference of RFC 3986.
[[nodiscard]] std::string uri_escaped(std::string_view path);

}  // namespace bv::reports

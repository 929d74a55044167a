#include "reports/escape.hpp"

#include <fmt/format.h>

#include <algorithm>

#include "core/base/text.hpp"

namespace bv::reports {
namespace {

/// Lines made safe one by one; the breaks stay.
std::string safe_lines(std::string_view text) {
  std::string out;
  while (true) {
    const std::size_t end = std::min(text.find('\n'), text.size());
    out += escaped(text.substr(0, end));
    if (end == text.size()) {
      return out;
    }
    out += '\n';
    text.remove_prefix(end + 1);
  }
}

/// U+FFFE and U+FFFF are UTF-8 and no XML.
bool is_noncharacter(std::string_view text, std::size_t at) {
  const std::string_view three = text.substr(at, 3);
  return three == "\xef\xbf\xbe" || three == "\xef\xbf\xbf";
}

}  // namespace

std::string xml_escaped(std::string_view text) {
  const std::string safe = safe_lines(text);
  std::string out;
  out.reserve(safe.size());
  for (std::size_t i = 0; i < safe.size(); ++i) {
    const char c = safe[i];
    if (is_noncharacter(safe, i)) {
      out += safe[i + 2] == '\xbe' ? "\\u{fffe}" : "\\u{ffff}";
      i += 2;
    } else {
      out += c == '&'    ? "&amp;"
             : c == '<'  ? "&lt;"
             : c == '>'  ? "&gt;"
             : c == '"'  ? "&quot;"
             : c == '\'' ? "&#39;"
                         : std::string(1, c);
    }
  }
  return out;
}

std::string markdown_escaped(std::string_view text) {
  constexpr std::string_view kSpecial = "\\`*_{}[]()#+!|~";
  std::string out;
  for (const char c : escaped(text)) {
    if (c == '<' || c == '>' || c == '&' || c == '@') {
      out += c == '<' ? "&lt;" : c == '>' ? "&gt;" : c == '&' ? "&amp;" : "&#64;";
    } else {
      out += kSpecial.find(c) != std::string_view::npos ? "\\" : "";
      out += c;
    }
  }
  return out;
}

std::string markdown_fenced(std::string_view text) {
  const std::string safe = safe_lines(text);
  std::size_t longest = 2;
  for (std::size_t at = safe.find('`'); at != std::string::npos; at = safe.find('`', at)) {
    const std::size_t end = std::min(safe.find_first_not_of('`', at), safe.size());
    longest = std::max(longest, end - at);
    at = end;
  }
  const std::string fence(longest + 1, '`');
  return fence + "text\n" + safe + (safe.ends_with('\n') ? "" : "\n") + fence + "\n";
}

std::string csv_escaped(std::string_view text) {
  std::string safe = escaped(text);
  const bool formula =
      !safe.empty() && std::string_view("=+-@\t\r").find(safe.front()) != std::string_view::npos;
  if (formula) {
    safe.insert(0, "'");
  }
  if (safe.find_first_of("\",\r\n' ;") == std::string::npos) {
    return safe;
  }
  std::string out = "\"";
  for (const char c : safe) {
    out += c == '"' ? "\"\"" : std::string(1, c);
  }
  return out + "\"";
}

std::string github_escaped(std::string_view text, bool property) {
  std::string out;
  for (const char c : safe_lines(text)) {
    const bool also = property && (c == ':' || c == ',');
    out += c == '%' || c == '\r' || c == '\n' || also
               ? fmt::format("%{:02X}", static_cast<unsigned char>(c))
               : std::string(1, c);
  }
  return out;
}

std::string uri_escaped(std::string_view path) {
  constexpr std::string_view kPlain = "-._~/";
  std::string out;
  for (const char c : path) {
    const auto byte = static_cast<unsigned char>(c);
    const bool plain = (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') ||
                       kPlain.find(c) != std::string_view::npos;
    out += plain ? std::string(1, c) : fmt::format("%{:02X}", byte);
  }
  return out;
}

}  // namespace bv::reports

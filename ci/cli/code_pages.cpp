#include <fmt/format.h>

#include "ci/cli/command.hpp"

namespace bv::cli {
namespace {

/// The lines of an explanation as paragraphs.
std::string paragraphs(std::string_view text) {
  std::string out;
  for (const char c : text) {
    out += c == '\n' ? "\n\n" : std::string(1, c);
  }
  return out;
}

}  // namespace

std::string code_page(Code code) {
  const CodeInfo& entry = info(code);
  return fmt::format("# {} {}\n\n{}: {}\n\n{}\n", label(code), entry.name, name(entry.severity),
                     entry.title, paragraphs(entry.text));
}

std::string code_index_page() {
  std::string out =
      "# Codes\n\nMade by `bridge-verify __dump-codes docs/codes` from core/base/codes.def; a test "
      "compares it. Numbers are "
      "never reused.\n\n| Code | Name | Severity | Meaning |\n|---|---|---|---|\n";
  for (const CodeInfo& entry : all_codes()) {
    out += fmt::format("| [{0}]({0}.md) | {1} | {2} | {3} |\n", label(entry.code), entry.name,
                       name(entry.severity), entry.title);
  }
  return out;
}

}  // namespace bv::cli

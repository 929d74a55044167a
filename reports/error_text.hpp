#pragma once
// The block form of errors and verdicts (docs/reference/messages.md).

#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "core/base/result.hpp"
#include "reports/style.hpp"

namespace bv::reports {

/// One message, before it is dressed.
struct Block {
  std::string word;  // error, warning, note, undecided, unsupported
  Code code = Code::Assertion;
  std::string title;
  std::string where;               // the line after "-->", "" without
  std::vector<std::string> facts;  // at most 8 are shown
  std::vector<std::pair<std::string, std::string>>
      tails;  // found, wanted, help, ...; empty values are left out
};

/// A command line that was quoted for a shell, in one line; where the style has no Unicode, other
/// bytes are written as $'\xc3\xa9', which bash, zsh and ksh read.
[[nodiscard]] std::string command_text(std::string_view command, const TextStyle& style);
/// Text of one block with a final newline; untrusted parts are escaped. Sentences are wrapped at
/// the width of the style, commands are not.
[[nodiscard]] std::string render_block(const Block& block, const TextStyle& style);
/// error[BV2002]: ... with its tails and `explain`.
[[nodiscard]] std::string render_error(const Error& error, const TextStyle& style);
/// The same of what did not stop the run: warning[BV4003]: ...
[[nodiscard]] std::string render_warning(const Error& warning, const TextStyle& style);

}  // namespace bv::reports

#pragma once
// Words as a shell reads them, for the command lines that we print.

#include <string>
#include <string_view>

namespace bv {

/// One word as a POSIX shell reads it: as it is when nothing in it is special, else in single
/// quotes; control characters and what a terminal would not show become $'\x1b' (bash, zsh, ksh).
/// Without quotes a word is plain ASCII.
[[nodiscard]] std::string shell_quoted(std::string_view word);

}  // namespace bv

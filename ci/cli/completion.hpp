#pragma once
// Completions and the manual page, made from the tables of commands and options.

#include <string>

namespace bv::cli {

/// A script that bash sources: `bridge-verify completion bash > .../completions/bridge-verify`.
[[nodiscard]] std::string bash_completion();
/// A function for a folder of zsh's fpath, as _bridge-verify.
[[nodiscard]] std::string zsh_completion();
[[nodiscard]] std::string fish_completion();
/// docs/man/bridge-verify.1, man(7) macros.
[[nodiscard]] std::string manual_page();

}  // namespace bv::cli

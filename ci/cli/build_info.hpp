#pragma once
// What was built, from what. The commit is read at build time by ci/cmake/write_commit.cmake.

#include <string>

namespace bv::cli {
[[nodiscard]] std::string build_version();
[[nodiscard]] std::string
build_commit();  // 12 hex digits, with "+changes" when the tree differs; "unknown" without git
[[nodiscard]] std::string build_kind();  // "cpu" or "cuda"
[[nodiscard]] std::string build_compiler();
}  // namespace bv::cli

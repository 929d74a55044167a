#pragma once
// Runs one command line in memory, on files of its own.

#include "tests/support/command.hpp"
#include "tests/support/files.hpp"

namespace bv::cli::testing {

using Ended = support::Said;
using support::run_line;
using support::TempFolder;
using support::write_text;

inline const std::filesystem::path kGolden = support::golden();

inline std::string hf_case(const std::string& name) {
  return support::golden_hf(name).string();
}

}  // namespace bv::cli::testing

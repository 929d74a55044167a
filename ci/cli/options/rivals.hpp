#pragma once
// Options that cannot stand together.

#include "ci/cli/options/options.hpp"

namespace bv::cli {

/// True when one of the two makes the other wrong or without effect.
[[nodiscard]] bool rivals(std::string_view a, std::string_view b);

/// Errors: Conflict naming the first two given options that are rivals, as they were written.
[[nodiscard]] Status check_rivals(const Options& options);

}  // namespace bv::cli

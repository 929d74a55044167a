#pragma once
// Text of one value -> typed member of Options.

#include <string_view>

#include "ci/cli/options/options.hpp"

namespace bv::cli {

/// Stores `text` as the value of `spec`. `as_written` ("--tp 0") stands in the message.
/// Errors: BadValue naming the value, the wanted form and what to write.
[[nodiscard]] Status store_value(const OptionSpec& spec, std::string_view text,
                                 std::string_view as_written, Options& options);

}  // namespace bv::cli

#pragma once
// Verdicts about an adapter, filled with everything but what was found.

#include <cstdint>
#include <string>
#include <string_view>

#include "core/base/result.hpp"
#include "core/verdict/verdict.hpp"

namespace bv::claims {

[[nodiscard]] Verdict adapter_verdict(std::string_view claim, std::string rule, Outcome outcome,
                                      std::int64_t cases);
/// What an error says of the whole adapter on one layout: Unsupported where it has no form there.
[[nodiscard]] Verdict of_error(std::string_view claim, const Error& error, std::int64_t cases);

}  // namespace bv::claims

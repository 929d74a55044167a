#pragma once
// A model that is what it should be and that this version cannot judge: a verdict, not a fault of
// the input.

#include <string_view>

#include "core/base/result.hpp"
#include "core/verdict/verdict.hpp"

namespace bv::cli {

/// Adds the claim that asked first with one Unsupported verdict made of `error`, whose code must be
/// one of is_unsupported.
void add_unsupported(const Error& error, std::string_view claim, std::string_view title, Run& run);
/// Adds a claim that was not looked at for that reason, or that nobody asked for.
void add_not_reached(const Error& error, std::string_view claim, std::string_view title,
                     bool requested, Run& run);

}  // namespace bv::cli

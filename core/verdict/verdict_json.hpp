#pragma once
// One verdict as JSON, and the forms that numbers and texts have there.

#include <cstdint>
#include <nlohmann/json_fwd.hpp>
#include <string>

#include "core/verdict/verdict.hpp"

namespace bv::as_json {

using Json = nlohmann::ordered_json;

/// A number, or its digits as text where a double would lose some.
[[nodiscard]] Json number(std::int64_t value);
[[nodiscard]] Json number(std::uint64_t value);
/// null for "".
[[nodiscard]] Json text_or_null(const std::string& text);

/// A tensor's or rule's name: whole for every real one.
[[nodiscard]] Json name_json(const std::string& untrusted);
/// Does a verdict of this outcome say a code?
[[nodiscard]] bool carries_code(Outcome outcome);

/// `with_details`: facts and counterexample too.
[[nodiscard]] Json verdict_json(const Verdict& verdict, const std::string& id, bool with_details);

}  // namespace bv::as_json

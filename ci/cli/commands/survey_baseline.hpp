#pragma once
// An earlier survey that a new one is compared with.

#include <cstdint>
#include <nlohmann/json.hpp>
#include <optional>
#include <string>

#include "core/base/result.hpp"
#include "reports/survey_page.hpp"

namespace bv::cli {

inline constexpr std::uint64_t kSurveyBytesMax = std::uint64_t{64} << 20;

/// nullptr when it is not an object, or has no such member.
[[nodiscard]] const nlohmann::json* member_of(const nlohmann::json& object, const std::string& key);
/// "" when it is not a text.
[[nodiscard]] std::string text_of(const nlohmann::json& object, const std::string& key);

/// The document of a file. Errors: VerdictsInvalid with the place, ReadFailed.
[[nodiscard]] Result<nlohmann::json> json_of_file(const std::string& file);

/// What `survey --json` wrote: an object with a list `rows`. nullopt for "". Errors:
/// VerdictsInvalid, ReadFailed.
[[nodiscard]] Result<std::optional<nlohmann::json>> survey_baseline(const std::string& file);

/// "newly red", "no longer red", ...; "" when nothing changed. `before` is the row of the baseline,
/// nullptr when it has none.
[[nodiscard]] std::string survey_change(const nlohmann::json* before,
                                        const reports::SurveyRow& row);

}  // namespace bv::cli

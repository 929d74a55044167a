#pragma once
// Changes of config.json that keep the user's spelling everywhere else.

#include <string>
#include <string_view>

#include "core/base/result.hpp"
#include "core/checkpoint/hf_model.hpp"

namespace bv::checkpoint {

/// `text` is a JSON object that was parsed before. The member at `path` ("text_config.hidden_size")
/// becomes the JSON value `value`; a last name that is not there is added to its object. Where a
/// name appears twice the last one counts, as it does for readers. "" when a name before the last
/// is not there or is no object.
[[nodiscard]] std::string with_member(std::string_view text, std::string_view path,
                                      std::string_view value);

/// The same without the member at `path`; as it is when there is none.
[[nodiscard]] std::string without_member(std::string_view text, std::string_view path);

/// config.json as it goes along with a conversion: `text` is that of the model, with what --set
/// says; the result has no MTP layer when --drop-mtp left them out. Errors: those of parse_config.
[[nodiscard]] Result<std::string> carried_config(const HfModel& source, std::string text);

}  // namespace bv::checkpoint

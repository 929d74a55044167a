#pragma once
// One entry of a rules file: a rule, or a parameter of the model that was built. And how its JSON
// is read: a key that is absent, null or of another type is the same as none.

#include <nlohmann/json_fwd.hpp>
#include <string>
#include <vector>

#include "core/foreign/rules_file.hpp"
#include "core/foreign/rules_text.hpp"

namespace bv::foreign {

/// The `position`-th entry of "rules". Errors: RulesInvalid naming the rule and the place of the
/// key.
[[nodiscard]] Result<ForeignRule> read_rule(const nlohmann::json& row, const ListedPlace& place,
                                            const LineNumbers& lines, std::size_t position);

/// An entry of "model.parameters": a name, an object, or the short form
/// [name, shape, class, parallelism, ...]. Errors: RulesInvalid at `where`.
[[nodiscard]] Result<ListedParameter> read_parameter(const nlohmann::json& row,
                                                     const std::string& where);

/// RulesInvalid with the help that fits every fault of a rules file.
[[nodiscard]] Error invalid(const std::string& where, std::string message);
/// The JSON text, shortened for a message.
[[nodiscard]] std::string dumped(const nlohmann::json& node);
/// The value of a key; nullptr when it is absent or null, or `object` is not an object.
[[nodiscard]] const nlohmann::json* member(const nlohmann::json& object, const char* key);
/// Its text, "" when it is not one.
[[nodiscard]] std::string text_at(const nlohmann::json& object, const char* key);
/// The texts of a list, without what is not a text.
[[nodiscard]] std::vector<std::string> texts_at(const nlohmann::json& object, const char* key);

}  // namespace bv::foreign

#pragma once
// Typed access to fields of config.json whose errors name the full path.

#include <cstdint>
#include <nlohmann/json_fwd.hpp>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "core/base/result.hpp"
#include "core/family/expression.hpp"
#include "core/model/conditions.hpp"

namespace bv::model {

/// The field's node, nullptr when it is not there. An explicit null is there; below an explicit
/// null nothing is. Errors: ConfigField when a level of the path ("vision_config") is no object.
[[nodiscard]] Result<const nlohmann::json*> find_field(const family::Family& family,
                                                       const nlohmann::json& config,
                                                       const family::FieldPath& field);

// `path` is for messages. Errors: ConfigField.
[[nodiscard]] Result<std::int64_t> number_of(const nlohmann::json& node, const std::string& path,
                                             bool count);
[[nodiscard]] Result<std::int64_t> flag_of(const nlohmann::json& node, const std::string& path);
/// 1 when the text is one of the words, else 0.
[[nodiscard]] Result<std::int64_t> equals_of(const nlohmann::json& node, const std::string& path,
                                             const std::vector<std::string>& words);
[[nodiscard]] Result<std::vector<std::string>> words_of(const nlohmann::json& node,
                                                        const std::string& path);
[[nodiscard]] Result<std::vector<std::int64_t>> numbers_of(const nlohmann::json& node,
                                                           const std::string& path);

/// "config.json hidden_size is the string "24", wanted a whole number".
[[nodiscard]] Error wrong_field(const std::string& path, const nlohmann::json& node,
                                const std::string& wanted);

/// A config field that is needed and not there: names the field, who needs it, the related fields
/// that are there, and a --set line.
[[nodiscard]] Error absent_field(const family::Family& family, const Geometry& geometry,
                                 const family::SymbolRule& symbol, const std::string& needed_by,
                                 const std::vector<std::string>& related);

/// Decoder layers -> flags. Errors: ConfigField.
[[nodiscard]] Status read_layer_flags(const family::Family& family, const nlohmann::json& config,
                                      std::int64_t layers, Geometry& geometry);

/// Decoder layers -> sizes of their own; layer flags are read before. A symbol that only layers
/// have a number for gets that of the first such layer. Errors: ConfigField, IndivisibleDim.
[[nodiscard]] Status read_layer_sizes(const family::Family& family, const nlohmann::json& config,
                                      Geometry& geometry);
/// The first of the fields that is there and no null, with its path; none otherwise.
[[nodiscard]] Result<std::optional<std::pair<std::string, const nlohmann::json*>>> first_list(
    const family::Family& family, const nlohmann::json& config,
    const std::vector<family::FieldPath>& fields);
/// One word a layer: a list of strings (or of objects that hold them at `entry`), or a string of
/// letters. Errors: ConfigField.
[[nodiscard]] Result<std::vector<std::string>> layer_words(const nlohmann::json& node,
                                                           const std::string& path,
                                                           const std::string& entry);
/// What an entry of a list holds: itself, or what stands at `entry` in it; nullptr when that is
/// absent.
[[nodiscard]] const nlohmann::json* in_entry(const nlohmann::json& node, const std::string& entry);

/// The family's conditions on the config. Errors: ConfigField, IndivisibleDim.
[[nodiscard]] Status check_musts(const family::Family& family, const nlohmann::json& config,
                                 const Geometry& geometry);

}  // namespace bv::model

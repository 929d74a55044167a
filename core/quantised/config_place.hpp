#pragma once
// Where config.json speaks of a quantisation.

#include <nlohmann/json_fwd.hpp>
#include <string>
#include <vector>

namespace bv::quantised {

struct Place {
  std::string path;
  const nlohmann::json* node = nullptr;   // nullptr when it says nothing
  const nlohmann::json* other = nullptr;  // what stands there in place of an object, at the top
};
/// The object at the top, or in one of the objects there (text_config, llm_config, ...).
[[nodiscard]] Place place_of(const nlohmann::json& config);

/// compressed-tensors: those of config_groups that have an object "weights", one for the modules
/// that each group names.
[[nodiscard]] std::vector<const nlohmann::json*> config_groups_of(const nlohmann::json& node);

}  // namespace bv::quantised

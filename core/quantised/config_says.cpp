// What config.json says of a quantisation.

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <nlohmann/json.hpp>

#include "core/base/text.hpp"
#include "core/quantised/config_place.hpp"
#include "core/quantised/quantised.hpp"

namespace bv::quantised {
namespace {

using nlohmann::json;

constexpr std::array kObjects = {"quantization_config", "compression_config", "quantization"};

/// Fields that tell one quantisation from another, in the order in which they are shown.
constexpr std::array kTold = {"quant_method",
                              "quant_algo",
                              "quant_type",
                              "format",
                              "fmt",
                              "bits",
                              "num_bits",
                              "w_bit",
                              "group_size",
                              "weight_block_size",
                              "load_in_4bit",
                              "load_in_8bit",
                              "version",
                              "weights_dtype",
                              "bnb_4bit_quant_type",
                              "activation_scheme"};

std::string shown(const json& node) {
  constexpr std::size_t kValueMax = 60;
  const std::string text = node.is_string()
                               ? node.get<std::string>()
                               : node.dump(-1, ' ', false, json::error_handler_t::replace);
  return escaped(bounded(text, kValueMax));
}

}  // namespace

Place place_of(const json& config) {
  if (!config.is_object()) {
    return {};
  }
  for (const char* key : kObjects) {
    if (const auto found = config.find(key);
        found != config.end() && found->is_object() && !found->empty()) {
      return {key, &*found, nullptr};
    }
  }
  for (const auto& [level, inner] : config.items()) {
    if (!inner.is_object()) {
      continue;
    }
    for (const char* key : kObjects) {
      if (const auto found = inner.find(key);
          found != inner.end() && found->is_object() && !found->empty()) {
        return {level + "." + key, &*found, nullptr};
      }
    }
  }
  for (const char* key : {kObjects[0], kObjects[1]}) {
    if (const auto found = config.find(key);
        found != config.end() && !found->is_null() && !found->is_object()) {
      return {key, nullptr, &*found};
    }
  }
  return {};
}

std::vector<const json*> config_groups_of(const json& node) {
  std::vector<const json*> out;
  const auto groups = node.find("config_groups");
  if (groups == node.end() || !groups->is_object()) {
    return out;
  }
  for (const json& group : *groups) {
    const auto weights = group.is_object() ? group.find("weights") : json::const_iterator();
    if (group.is_object() && weights != group.end() && weights->is_object()) {
      out.push_back(&group);
    }
  }
  return out;
}

std::string stated(const json& config) {
  const Place place = place_of(config);
  if (place.other != nullptr) {
    return fmt::format("{} of config.json: {}", readable(place.path), shown(*place.other));
  }
  if (place.node == nullptr) {
    return "";
  }
  std::vector<std::string> told;
  const auto tell = [&told](const json& node) {
    for (const char* key : kTold) {
      if (const auto found = node.find(key); found != node.end() && !found->is_null()) {
        told.push_back(fmt::format("{} {}", key, shown(*found)));
      }
    }
  };
  tell(*place.node);
  if (const auto sparsity = place.node->find("sparsity_config");
      sparsity != place.node->end() && sparsity->is_object() && sparsity->contains("format")) {
    told.push_back(fmt::format("sparsity_config {}", shown(sparsity->at("format"))));
  }
  for (const json* group : config_groups_of(*place.node)) {
    tell(group->at("weights"));
  }
  return fmt::format("{} of config.json{}{}", readable(place.path), told.empty() ? "" : ": ",
                     join(told, ", "));
}

std::vector<std::string> forget(json& config) {
  std::vector<std::string> out;
  const auto take = [&out](json& object, const std::string& level) {
    for (const char* key : kObjects) {
      if (object.erase(key) > 0) {
        out.push_back(level + key);
      }
    }
  };
  if (!config.is_object()) {
    return out;
  }
  take(config, "");
  for (auto& [level, inner] : config.items()) {
    if (inner.is_object()) {
      take(inner, level + ".");
    }
  }
  return out;
}

}  // namespace bv::quantised

// What config.json says of a quantisation.

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <nlohmann/json.hpp>

#include "core/base/text.hpp"
#include "core/quantised/module.hpp"

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

struct Place {
  std::string path;
  const json* node = nullptr;
};

/// The object at the top, or in one of the objects there (text_config, llm_config, ...).
Place place_of(const json& config) {
  if (!config.is_object()) {
    return {};
  }
  for (const char* key : kObjects) {
    if (const auto found = config.find(key);
        found != config.end() && found->is_object() && !found->empty()) {
      return {key, &*found};
    }
  }
  for (const auto& [level, inner] : config.items()) {
    if (!inner.is_object()) {
      continue;
    }
    for (const char* key : kObjects) {
      if (const auto found = inner.find(key);
          found != inner.end() && found->is_object() && !found->empty()) {
        return {level + "." + key, &*found};
      }
    }
  }
  return {};
}

std::string shown(const json& node) {
  constexpr std::size_t kValueMax = 60;
  const std::string text = node.is_string()
                               ? node.get<std::string>()
                               : node.dump(-1, ' ', false, json::error_handler_t::replace);
  return escaped(bounded(text, kValueMax));
}

/// compressed-tensors: config_groups.*.weights, one for the modules that each group names.
std::vector<const json*> weights_of(const json& node) {
  std::vector<const json*> out;
  const auto groups = node.find("config_groups");
  if (groups == node.end() || !groups->is_object()) {
    return out;
  }
  for (const json& group : *groups) {
    const auto weights = group.is_object() ? group.find("weights") : json::const_iterator();
    if (group.is_object() && weights != group.end() && weights->is_object()) {
      out.push_back(&*weights);
    }
  }
  return out;
}

/// Rows and columns of a block; empty when the field is not two positive numbers.
std::vector<std::int64_t> block_of(const json& node, const char* key) {
  const auto found = node.find(key);
  std::vector<std::int64_t> out;
  if (found == node.end() || !found->is_array() || found->size() != 2) {
    return out;
  }
  for (const json& one : *found) {
    const bool fits = one.is_number_integer() && one.get<std::int64_t>() > 0 &&
                      one.get<std::int64_t>() < (std::int64_t{1} << 31);
    if (!fits) {
      return {};
    }
    out.push_back(one.get<std::int64_t>());
  }
  return out;
}

std::int64_t whole(const json& node, const char* key) {
  const auto found = node.find(key);
  return found != node.end() && found->is_number_integer() &&
                 (!found->is_number_unsigned() || found->get<std::uint64_t>() <= INT64_MAX)
             ? found->get<std::int64_t>()
             : 0;
}

bool says(const json& node, const char* key, const char* text) {
  const auto found = node.find(key);
  return found != node.end() && *found == text;
}

std::int64_t bits_of(const json& node) {
  for (const char* key : {"bits", "num_bits", "w_bit"}) {
    if (const std::int64_t bits = whole(node, key); bits != 0) {
      return bits;
    }
  }
  return 0;
}

}  // namespace

std::string stated(const json& config) {
  const Place place = place_of(config);
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
  for (const json* weights : weights_of(*place.node)) {
    tell(*weights);
  }
  return fmt::format("{} of config.json{}{}", readable(place.path), told.empty() ? "" : ": ",
                     join(told, ", "));
}

Hints hints_of(const json& config) {
  Hints out;
  const Place place = place_of(config);
  if (place.node == nullptr) {
    return out;
  }
  const auto method = place.node->find("quant_method");
  out.method = method != place.node->end() && method->is_string() ? method->get<std::string>() : "";
  const std::vector<const json*> weights = weights_of(*place.node);
  const auto add = [&out](const Packing& one) {
    if (std::ranges::find(out.packings, one) == out.packings.end()) {
      out.packings.push_back(one);
    }
  };
  const std::int64_t at_the_top = bits_of(*place.node);
  for (const json* one : weights) {
    if (says(*one, "type", "float")) {
      continue;
    }
    const std::int64_t bits = at_the_top > 0 ? at_the_top : bits_of(*one);
    add({bits, std::max<std::int64_t>(whole(*one, "group_size"), 0),
         says(*one, "strategy", "channel")});
  }
  if (weights.empty()) {
    add({at_the_top, 0});
  }
  std::int64_t bits = at_the_top;
  for (const json* one : weights) {
    bits = bits == 0 || bits == bits_of(*one) ? bits_of(*one) : -1;
  }
  out.bits = std::max<std::int64_t>(bits, 0);
  out.block = block_of(*place.node, "weight_block_size");
  if (weights.size() == 1 && out.block.empty()) {  // else each holds for the modules that it names
    out.block = block_of(*weights[0], "block_structure");
  }
  out.asymmetric = !weights.empty() && std::ranges::all_of(weights, [](const json* one) {
    const auto symmetric = one->find("symmetric");
    return symmetric != one->end() && *symmetric == false;
  });
  return out;
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

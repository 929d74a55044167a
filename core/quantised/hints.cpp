// The fields of config.json that decide what the values of a quantised weight are.

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <charconv>
#include <nlohmann/json.hpp>

#include "core/base/text.hpp"
#include "core/quantised/agreement.hpp"
#include "core/quantised/config_place.hpp"
#include "core/quantised/module.hpp"

namespace bv::quantised {
namespace {

using nlohmann::json;

/// Lists of modules that are left as they are.
constexpr std::array kLeftOut = {"ignore", "modules_to_not_convert", "ignored_layers", "exclude",
                                 "exclude_modules"};

bool is_size(std::int64_t number) {
  return number > 0 && number < (std::int64_t{1} << 31);
}

/// "128x128", which compressed-tensors wrote once and still reads (validate_block_structure).
std::vector<std::int64_t> sizes_in(const std::string& text) {
  std::vector<std::int64_t> out;
  for (std::size_t at = 0; at <= text.size() && out.size() <= 2;) {
    const std::size_t end = std::min(text.find('x', at), text.size());
    std::int64_t number = 0;
    const auto read = std::from_chars(text.data() + at, text.data() + end, number);
    if (read.ec != std::errc() || read.ptr != text.data() + end || !is_size(number)) {
      return {};
    }
    out.push_back(number);
    at = end + 1;
  }
  return out;
}

/// Rows and columns of a block; empty when the field is not two positive numbers.
std::vector<std::int64_t> block_of(const json& node, std::string_view key) {
  const auto found = node.find(key);
  std::vector<std::int64_t> out;
  if (found == node.end()) {
    return out;
  }
  if (key == "block_structure" && found->is_string()) {
    out = sizes_in(found->get_ref<const std::string&>());
  } else if (found->is_array() && found->size() == 2) {
    for (const json& one : *found) {
      out.push_back(one.is_number_integer() ? one.get<std::int64_t>() : 0);
    }
  }
  return out.size() == 2 && std::ranges::all_of(out, is_size) ? out : std::vector<std::int64_t>{};
}

std::int64_t whole(const json& node, const char* key) {
  const auto found = node.find(key);
  return found != node.end() && found->is_number_integer() &&
                 (!found->is_number_unsigned() || found->get<std::uint64_t>() <= INT64_MAX)
             ? found->get<std::int64_t>()
             : 0;
}

/// A word that is shown and compared; "" when it is null, false or not there.
std::string word(const json& node, const char* key) {
  const auto found = node.find(key);
  if (found == node.end() || found->is_null() || *found == false) {
    return "";
  }
  constexpr std::size_t kWordMax = 60;
  return escaped(bounded(found->is_string()
                             ? found->get<std::string>()
                             : found->dump(-1, ' ', false, json::error_handler_t::replace),
                         kWordMax));
}

std::int64_t bits_of(const json& node) {
  for (const char* key : {"bits", "num_bits", "w_bit"}) {
    if (const std::int64_t bits = whole(node, key); bits != 0) {
      return bits;
    }
  }
  return 0;
}

bool is(const json& node, const char* key, bool value) {
  const auto found = node.find(key);
  return found != node.end() && *found == value;
}

/// One group of config_groups, under what is said for all of them.
Kind kind_of(const json& group, const Kind& all) {
  const json& weights = group.at("weights");
  Kind out;
  out.bits = bits_of(weights) > 0 ? bits_of(weights) : all.bits;
  out.type = word(weights, "type");
  out.strategy = word(weights, "strategy");
  out.format = word(group, "format");
  out.format = out.format.empty() ? all.format : out.format;
  out.order = word(weights, "actorder");
  // A static order changes which scales are found, and not how they are stored.
  out.order = out.order == "weight" || out.order == "static" ? "" : out.order;
  out.group = std::max<std::int64_t>(whole(weights, "group_size"), 0);
  out.block = block_of(weights, "block_structure");
  out.symmetric = is(weights, "symmetric", true);
  out.asymmetric = is(weights, "symmetric", false);
  return out;
}

bool is_filled(const json& node, const char* key) {
  const auto found = node.find(key);
  return found != node.end() && !found->is_null() && !found->empty() && *found != false;
}

/// "config.json says weight_block_size "96,96", which is not ...": a field that is there and was
/// not read, because it is not what it has to be. "" when it is that, null or not there.
std::string unread(const json& node, const char* key, bool was_read, const char* wanted) {
  const auto found = node.find(key);
  if (was_read || found == node.end() || found->is_null()) {
    return "";
  }
  constexpr std::size_t kShownMax = 60;
  return fmt::format(
      "config.json says {} {}, which is not {}", key,
      escaped(bounded(found->dump(-1, ' ', false, json::error_handler_t::replace), kShownMax)),
      wanted);
}

constexpr const char* kTwoSizes = "two positive whole numbers";

/// "config.json says ignore "lm_head", which is not a list of names": a field that is there and is
/// not what it has to be. "" when it is that, null or not there.
std::string unread_names(const json& node, const char* key) {
  const auto found = node.find(key);
  const bool names = found != node.end() && found->is_array() &&
                     std::ranges::all_of(*found, [](const json& one) { return one.is_string(); });
  return unread(node, key, names, "a list of names");
}

/// The first field about modules that is not what it has to be: lists of names, and groups of them.
std::string unread_modules(const json& node) {
  for (const char* key : kLeftOut) {
    if (std::string out = unread_names(node, key); !out.empty()) {
      return out;
    }
  }
  const auto groups = node.find("config_groups");
  if (groups == node.end() || !groups->is_object()) {
    return unread(node, "config_groups", false, "an object");
  }
  for (const auto& [name, group] : groups->items()) {
    if (group.is_array()) {  // a scheme by its name, with its targets
      continue;
    }
    std::string out = unread(*groups, name.c_str(), group.is_object(), "an object");
    if (out.empty() && group.is_object()) {
      const auto weights = group.find("weights");
      out = unread(group, "weights", weights != group.end() && weights->is_object(), "an object");
      out = out.empty() ? unread_names(group, "targets") : out;
    }
    if (!out.empty()) {
      return out;
    }
  }
  return "";
}

/// The first field of the weights of one group, or of all of them, that was not read.
std::string unread_of(const json& weights) {
  std::string out;
  for (const char* key : {"weight_block_size", "block_structure"}) {
    out = out.empty() ? unread(weights, key, !block_of(weights, key).empty(), kTwoSizes) : out;
  }
  for (const char* key : {"bits", "num_bits", "w_bit"}) {
    out = out.empty() ? unread(weights, key, whole(weights, key) > 0, "a positive whole number")
                      : out;
  }
  const auto group = weights.find("group_size");
  const bool whole_group = group != weights.end() && group->is_number_integer();
  return out.empty() ? unread(weights, "group_size", whole_group, "a whole number") : out;
}

/// The format that weights with many zeros are stored in; "" when none is said, or none is.
std::string sparsity_of(const json& node) {
  const auto sparsity = node.find("sparsity_config");
  const std::string format =
      sparsity != node.end() && sparsity->is_object() ? word(*sparsity, "format") : "";
  return format == "dense" ? "" : format;
}

/// What is said for all weights and makes other values than number x scale.
std::string against_all(const json& node, const Kind& all, const std::vector<Kind>& kinds) {
  std::string not_read = unread_of(node);
  not_read = not_read.empty() ? unread_modules(node) : not_read;
  for (const json* group : config_groups_of(node)) {
    not_read = not_read.empty() ? unread_of(group->at("weights")) : not_read;
  }
  if (!not_read.empty()) {
    return not_read;
  }
  const auto transform = node.find("transform_config");
  if (transform != node.end() && transform->is_object() && is_filled(*transform, "config_groups")) {
    return "config.json says transform_config: the weights are stored turned";
  }
  if (const std::string format = sparsity_of(node); !format.empty()) {
    return fmt::format("config.json says sparsity_config with format {}", format);
  }
  for (const Kind& one : kinds) {
    if (all.bits > 0 && one.bits != all.bits) {
      return fmt::format("config.json says {} bits for all weights, and {} bits in config_groups",
                         all.bits, one.bits);
    }
  }
  return "";
}

/// The modules that are left as they are, in every list that quantisers keep of them.
std::vector<LeftOutEntry> left_out_of(const json& node) {
  std::vector<LeftOutEntry> out;
  for (const char* key : kLeftOut) {
    const auto found = node.find(key);
    if (found == node.end() || !found->is_array()) {
      continue;
    }
    for (const json& one : *found) {
      if (one.is_string()) {
        out.push_back({key, one.get<std::string>()});
      }
    }
  }
  return out;
}

}  // namespace

Hints hints_of(const json& config) {
  Hints out;
  const Place place = place_of(config);
  if (place.node == nullptr) {
    out.against =
        place.other == nullptr ? "" : unread(config, place.path.c_str(), false, "an object");
    return out;
  }
  const json& node = *place.node;
  out.path = place.path;
  out.method = word(node, "quant_method");
  out.algorithm = word(node, "quant_algo");
  out.number = word(node, "fmt");
  out.scale_number = word(node, "scale_fmt");
  out.block = block_of(node, "weight_block_size");
  out.block_is_null = node.contains("weight_block_size") && node["weight_block_size"].is_null();
  if (is_mxfp8(out.method) && !node.contains("weight_block_size")) {
    out.block = {1, 32};  // of the form itself
  }
  out.sparsity = sparsity_of(node);
  Kind all;
  all.bits = bits_of(node);
  all.format = word(node, "format");
  std::vector<std::pair<std::size_t, const json*>> groups;
  for (const json* group : config_groups_of(node)) {
    Kind one = kind_of(*group, all);
    const auto known = std::ranges::find(out.kinds, one);
    groups.emplace_back(known - out.kinds.begin(), group);
    if (known == out.kinds.end()) {
      out.kinds.push_back(std::move(one));
    }
  }
  out.targets = targets_of(groups);
  out.left_out = left_out_of(node);
  out.against = against_all(node, all, out.kinds);
  if (out.kinds.empty()) {
    out.kinds.push_back(all);
  }
  const bool alike = std::ranges::all_of(
      out.kinds, [&](const Kind& one) { return one.bits == out.kinds.front().bits; });
  out.bits = alike ? std::max<std::int64_t>(out.kinds.front().bits, 0) : 0;
  if (out.kinds.size() == 1 && out.block.empty()) {  // else each holds for the modules it names
    out.block = out.kinds.front().block;
  }
  return out;
}

}  // namespace bv::quantised

#include "core/model/config_field.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <charconv>
#include <cmath>
#include <nlohmann/json.hpp>

#include "core/base/text.hpp"

namespace bv::model {
namespace {

using nlohmann::json;

constexpr std::size_t kShownMax = 60;

/// The node as text, cut: configs are untrusted.
std::string shown(const json& node) {
  if (node.is_number_float() && !std::isfinite(node.get<double>())) {
    const double value = node.get<double>();
    return std::isnan(value) ? "NaN" : value > 0 ? "Infinity" : "-Infinity";
  }
  std::string text = node.dump(-1, ' ', false, json::error_handler_t::replace);
  if (text.size() > kShownMax) {
    text.resize(kShownMax);
    text += "...";
  }
  return escaped(text);
}

std::string last_part(const std::string& path) {
  const std::size_t dot = path.rfind('.');
  return dot == std::string::npos ? path : path.substr(dot + 1);
}

}  // namespace

Result<const json*> find_field(const family::Family& family, const json& config,
                               const family::FieldPath& field) {
  const std::string path = family::dotted(family, field);
  const json* node = &config;
  for (std::size_t begin = 0; begin <= path.size();) {
    const std::size_t end = std::min(path.find('.', begin), path.size());
    if (node->is_null()) {
      return static_cast<const json*>(nullptr);
    }
    if (!node->is_object()) {
      return wrong_field(path.substr(0, begin == 0 ? 0 : begin - 1), *node, "an object");
    }
    const auto found = node->find(path.substr(begin, end - begin));
    if (found == node->end()) {
      return static_cast<const json*>(nullptr);
    }
    node = &*found;
    begin = end + 1;
  }
  return node;
}

Error wrong_field(const std::string& path, const json& node, const std::string& wanted) {
  return fail(Code::ConfigField,
              fmt::format("config.json {} is {}, wanted {}", escaped(path), shown(node), wanted))
      .at("config.json")
      .pair(node.is_null() ? "null" : fmt::format("a {}: {}", node.type_name(), shown(node)),
            wanted)
      .advise(fmt::format("correct the field, or overrule it with --set {}=VALUE", escaped(path)));
}

Result<std::int64_t> number_of(const json& node, const std::string& path, bool count) {
  if (count) {
    if (!node.is_array() && !node.is_object() && !node.is_string()) {
      return wrong_field(path, node, "a list, an object or a text of letters, which are counted");
    }
    return static_cast<std::int64_t>(node.is_string() ? node.get_ref<const std::string&>().size()
                                                      : node.size());
  }
  if (!node.is_number_integer() ||
      (node.is_number_unsigned() && node.get<std::uint64_t>() > INT64_MAX)) {
    return wrong_field(path, node, "a whole number");
  }
  return node.get<std::int64_t>();
}

Result<std::int64_t> flag_of(const json& node, const std::string& path) {
  if (!node.is_boolean()) {
    return wrong_field(path, node, "true or false");
  }
  return node.get<bool>() ? 1 : 0;
}

Result<std::int64_t> equals_of(const json& node, const std::string& path,
                               const std::vector<std::string>& words) {
  if (!node.is_string()) {
    return wrong_field(path, node, "a word");
  }
  return std::count(words.begin(), words.end(), node.get<std::string>()) > 0 ? 1 : 0;
}

Result<std::vector<std::string>> words_of(const json& node, const std::string& path) {
  std::vector<std::string> out;
  if (!node.is_array()) {
    return wrong_field(path, node, "a list of strings");
  }
  for (const json& item : node) {
    if (!item.is_string()) {
      return wrong_field(path, item, "a list of strings");
    }
    out.push_back(item.get<std::string>());
  }
  return out;
}

/// "1,2,3" -> 1, 2, 3.
Result<std::vector<std::int64_t>> numbers_of_text(const json& node, const std::string& path) {
  std::vector<std::int64_t> out;
  for (std::string_view text = node.get_ref<const std::string&>(); !text.empty();) {
    const std::string_view part = text.substr(0, text.find(','));
    text.remove_prefix(std::min(part.size() + 1, text.size()));
    std::int64_t number = 0;
    const auto read = std::from_chars(part.data(), part.data() + part.size(), number);
    if (read.ec != std::errc() || read.ptr != part.data() + part.size()) {
      return wrong_field(path, node, "whole numbers with commas between them");
    }
    out.push_back(number);
  }
  return out;
}

Result<std::vector<std::int64_t>> numbers_of(const json& node, const std::string& path) {
  std::vector<std::int64_t> out;
  if (node.is_string()) {
    return numbers_of_text(node, path);
  }
  if (!node.is_array()) {
    return wrong_field(path, node, "a list of whole numbers");
  }
  for (const json& item : node) {
    BV_TRY(number, number_of(item, path, false));
    out.push_back(number);
  }
  return out;
}

Error absent_field(const family::Family& family, const Geometry& geometry,
                   const family::SymbolRule& symbol, const std::string& needed_by,
                   const std::vector<std::string>& related) {
  const std::string path =
      symbol.fields.empty() ? symbol.name : family::dotted(family, symbol.fields.front());
  const std::size_t dot = path.rfind('.');
  const std::string level = dot == std::string::npos ? "" : " " + path.substr(0, dot);
  std::string there;
  for (const std::string& name : related) {
    const auto origin = geometry.origin.find(name);
    if (name != symbol.name && geometry.get(name) && origin != geometry.origin.end()) {
      there += fmt::format(" {}={}", last_part(origin->second), geometry.at(name));
    }
  }
  Error error = fail(Code::ConfigField, fmt::format("config.json{} has no {}; {} needs it", level,
                                                    last_part(path), needed_by))
                    .at("config.json")
                    .pair("no such field", path);
  if (!there.empty()) {
    error.facts.push_back("fields there:" + there);
  }
  if (symbol.fields.size() > 1) {
    std::vector<std::string> names;
    for (const family::FieldPath& field : symbol.fields) {
      names.push_back(family::dotted(family, field));
    }
    error.facts.push_back("looked for: " + join(names, ", "));
  }
  const auto usual = symbol.often.empty() ? std::nullopt : geometry.get(symbol.often);
  error.help =
      usual ? fmt::format("if equal to {} say so with --set {}={}", symbol.often, path, *usual)
            : fmt::format("add the field to config.json, or give it with --set {}=N", path);
  return error;
}

}  // namespace bv::model

#pragma once
// Headers and configs for the tests of core/model: from golden files, or made up from names.

#include <filesystem>
#include <fstream>
#include <map>
#include <nlohmann/json.hpp>
#include <set>
#include <string>
#include <vector>

#include "core/family/expression.hpp"
#include "core/model/model.hpp"
#include "tests/support/files.hpp"
#include "tests/support/library.hpp"

namespace bv::model::test {

using nlohmann::json;

using support::families;
using support::golden;
using support::golden_cases;
using support::read_json;

inline json golden_config(const std::string& name) {
  return read_json(golden("hf/" + name + "/config.json"));
}

/// The headers of every model*.safetensors of a golden case.
inline Headers golden_headers(const std::string& name) {
  Headers headers;
  for (const auto& entry : std::filesystem::directory_iterator(golden("hf/" + name))) {
    const std::string file = entry.path().filename().string();
    if (!file.starts_with("model") || !file.ends_with(".safetensors")) {
      continue;
    }
    std::ifstream in(entry.path(), std::ios::binary);
    std::uint64_t length = 0;
    in.read(reinterpret_cast<char*>(&length), sizeof length);
    std::string text(length, '\0');
    in.read(text.data(), static_cast<std::streamsize>(length));
    const json header = json::parse(text);
    for (const auto& [tensor, value] : header.items()) {
      if (tensor != "__metadata__") {
        headers[tensor] = {tensor, *dtype_from_name(value.at("dtype").get<std::string>()),
                           value.at("shape").get<Shape>()};
      }
    }
  }
  return headers;
}

inline Result<Model> resolve_with(const json& config, const Headers& headers,
                                  const ResolveOptions& options = {}) {
  BV_TRY(family, choose_family(config, families()));
  return resolve(family, config, headers, options);
}

inline Result<Model> resolve_golden(const std::string& name, const ResolveOptions& options = {}) {
  return resolve_with(golden_config(name), golden_headers(name), options);
}

/// Every HF name of the model's mappings, with repetitions.
inline std::vector<std::string> used_names(const Model& model) {
  std::vector<std::string> names;
  for (const Mapping& mapping : model.mappings) {
    names.insert(names.end(), mapping.hf.begin(), mapping.hf.end());
  }
  std::sort(names.begin(), names.end());
  return names;
}

/// Headers with exactly the names that the model asks for, of shape [1].
inline Headers wanted_headers(const Model& model) {
  Headers headers;
  for (const std::string& name : used_names(model)) {
    headers[name] = {name, DType::BF16, {1}};
  }
  return headers;
}

/// The model of a config alone.
inline Model from_config(const json& config) {
  ResolveOptions options;
  options.config_only = true;
  auto model = resolve_with(config, {}, options);
  if (!model) {
    throw std::runtime_error(model.error().message);
  }
  return *std::move(model);
}

/// Global Megatron names, experts of stacks counted out.
inline std::set<std::string> megatron_names(const Model& model) {
  std::set<std::string> names;
  for (const Mapping& mapping : model.mappings) {
    const bool stacked = mapping.rule->axes.contains("E");
    const std::int64_t experts =
        stacked ? *family::evaluate(mapping.rule->axes.at("E"), model.geometry.symbols) : 1;
    for (std::int64_t e = 0; e < experts; ++e) {
      names.insert(model.megatron_name(mapping, e));
    }
  }
  return names;
}

inline std::string all_faults(const Model& model) {
  std::string text;
  for (const NameFault& fault : model.faults) {
    text += label(fault.code) + " " + fault.message + "\n  found " + fault.found + "\n  wanted " +
            fault.wanted + "\n  help " + fault.help + "\n";
  }
  return text;
}

}  // namespace bv::model::test

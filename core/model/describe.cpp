// What was decided from config and names, for people: Model::detected.

#include <fmt/format.h>

#include <algorithm>

#include "core/base/text.hpp"
#include "core/family/symbols.hpp"
#include "core/model/resolve.hpp"

namespace bv::model {
namespace {

std::string origin_of(const Model& model, const std::string& name) {
  const auto found = model.geometry.origin.find(name);
  return found == model.geometry.origin.end() ? "family file" : found->second;
}

std::string count_text(std::size_t count) {
  return thousands(static_cast<std::int64_t>(count));
}

/// Every expression that gives a size to the rule.
std::string sizes_of(const Model& model, const family::Rule& rule) {
  std::string out = rule.experts + " " + model.family->sections[rule.section].over;
  for (const auto& [axis, size] : rule.axes) {
    out += " " + size;
  }
  for (const std::string& size : rule.rest) {
    out += " " + size;
  }
  return out;
}

}  // namespace

void describe_config(Model& model) {
  model.tied = model.geometry.ties_embeddings();
  model.detected.push_back({"embeddings", model.tied ? "tied" : "untied",
                            origin_of(model, std::string(family::symbols::kTied))});
  const auto& layers = model.geometry.layer_flags;
  for (const family::LayerFlag& flag : model.family->layer_flags) {
    const auto count = std::count_if(layers.begin(), layers.end(),
                                     [&](const auto& flags) { return flags.contains(flag.name); });
    model.detected.push_back({fmt::format("layers_{}", flag.name),
                              fmt::format("{} of {}", count, layers.size()),
                              origin_of(model, flag.name)});
  }
}

void describe_defaults(Model& model) {
  std::set<std::string> defaults;
  std::set<const family::Rule*> seen;
  for (const Mapping& mapping : model.mappings) {
    if (!seen.insert(mapping.rule).second) {
      continue;
    }
    const std::string sizes = sizes_of(model, *mapping.rule);
    for (const std::string& field : fields_behind(*model.family, model.geometry, sizes)) {
      if (const std::size_t at = field.find(" (default "); at != std::string::npos) {
        defaults.insert(field.substr(0, at));
      }
    }
  }
  if (!defaults.empty()) {
    model.detected.push_back({"config_defaults",
                              join(std::vector<std::string>(defaults.begin(), defaults.end()), " "),
                              "absent from config.json, or null: the defaults of transformers"});
  }
}

void describe_lists(const ResolveOptions& options, Model& model) {
  for (const auto& [because, names] : model.ignored_because) {
    model.detected.push_back({"ignored", count_text(names.size()), because});
  }
  if (!model.dropped.empty()) {
    model.detected.push_back({"dropped", count_text(model.dropped.size()), "--drop-mtp"});
  }
  if (!options.left_out.empty()) {
    const std::vector<std::string> names(options.left_out.begin(), options.left_out.end());
    model.detected.push_back({"excluded", tensors_text(names), "--exclude"});
  }
  if (!options.match.empty()) {
    model.detected.push_back(
        {"matched", fmt::format("{} rules at one place each", count_text(model.mappings.size())),
         "--match"});
  }
}

}  // namespace bv::model

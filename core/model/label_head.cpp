#include "core/model/label_head.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <nlohmann/json.hpp>

#include "core/base/shell.hpp"
#include "core/base/text.hpp"
#include "core/family/changed_family.hpp"
#include "core/family/family.hpp"
#include "core/family/symbols.hpp"
#include "core/model/resolve.hpp"

namespace bv::model {
namespace {

using family::HeadTensor;

constexpr std::string_view kScore = "score.";
constexpr std::array<std::string_view, 3> kLanguageEndings = {
    "ForCausalLM", "ForConditionalGeneration", "LMHeadModel"};

bool has_language_head(const Headers& headers) {
  return headers.contains("lm_head.weight");
}

/// A linear layer over the hidden states, one row a label.
std::vector<HeadTensor> label_head(std::string_view name, const Headers& headers,
                                   bool config_only) {
  const bool classifier =
      !headers.contains("score.weight") && headers.contains("classifier.weight");
  const std::string module = classifier ? "classifier." : std::string(kScore);
  std::vector<HeadTensor> out = {{module + "weight", "weight", {"num_labels", "hidden_size"}}};
  if (config_only ? name.ends_with("ForTokenClassification") : headers.contains(module + "bias")) {
    out.push_back({module + "bias", "bias", {"num_labels"}});
  }
  return out;
}

/// Layers that only the checkpoint knows: "score.0.weight", "score.2.weight".
std::vector<HeadTensor> reward_head(const Headers& headers) {
  std::vector<HeadTensor> out;
  for (const auto& [name, spec] : headers) {
    if (name.starts_with(kScore) && name.find('{') == std::string::npos) {
      HeadTensor& one = out.emplace_back();
      one.hf = name;
      one.leaf = name.substr(kScore.size());
      for (const std::int64_t extent : spec.shape) {
        one.extents.push_back(std::to_string(extent));
      }
    }
  }
  return out;
}

std::vector<HeadTensor> head_of(std::string_view name, const Headers& headers, bool config_only) {
  if (name.ends_with("ForSequenceClassification") || name.ends_with("ForTokenClassification")) {
    return label_head(name, headers, config_only);
  }
  return name.ends_with("RewardModel") ? reward_head(headers) : std::vector<HeadTensor>();
}

}  // namespace

family::FamilyPtr with_class_head(family::FamilyPtr family, const nlohmann::json& config,
                                  const Headers& headers, const ResolveOptions& options) {
  if (family->headless != nullptr) {
    family = family->headless;
  }
  const HeadClass known = head_class(*family, config);
  if (known.language || (!options.config_only && has_language_head(headers))) {
    return family;
  }
  std::vector<HeadTensor> head = head_of(known.name, headers, options.config_only);
  std::erase_if(head, [&](const HeadTensor& one) { return options.left_out.contains(one.hf); });
  if (head.empty() || family->symbol("hidden_size") == nullptr) {
    return family;
  }
  family::FamilyPtr out = family::with_head(family, head);
  return out == nullptr ? family : out;
}

Detected head_of_class(const family::Family& family, const family::Section& section,
                       const HeadClass& head) {
  const std::string& hf = family.rules[section.first_rule].hf.front().second;
  return {"output_layer", hf.substr(0, hf.find('.')), fmt::format("class {}", escaped(head.name))};
}

namespace {

bool is_there(const family::Section& section, const Ledger& ledger, const Model& model) {
  for (std::size_t i = section.first_rule; i < section.end_rule; ++i) {
    for (const auto& [source, text] : model.family->rules[i].hf) {
      const auto name = expand_hf(
          *model.family, text, {&model.prefixes, &model.geometry.symbols, section.variable, 0, 0});
      if (name && ledger.find(*name) != nullptr) {
        return true;
      }
    }
  }
  return false;
}

/// A class with a head puts a part before all names but those of the head: "model." of
/// "model.layers.0". A bare model that was saved by itself has names without it.
bool has_bare_names(const family::Section& section, const Model& model) {
  const auto own = model.family->prefixes.find("HF");
  const auto found = model.prefixes.find("HF");
  if (own == model.family->prefixes.end() || found == model.prefixes.end()) {
    return false;
  }
  const std::string part = own->second.substr(0, own->second.find('.') + 1);
  bool wanted = false;
  for (std::size_t i = section.first_rule; i < section.end_rule; ++i) {
    const family::Rule& rule = model.family->rules[i];
    if (rule.hf.front().second.starts_with('{') || rule.hf.front().second.starts_with(part)) {
      return false;
    }
    wanted = wanted || occurs(*model.family, section, rule.when, model.geometry, 1);
  }
  return wanted && !part.empty() && own->second == part + found->second &&
         model.prefixes.at("").empty();
}

}  // namespace

bool has_output(const family::Section& section, const nlohmann::json& config, const Ledger& ledger,
                const ResolveOptions& options, Model& model) {
  const HeadClass head = head_class(*model.family, config);
  if (section.of_class) {
    model.detected.push_back(head_of_class(*model.family, section, head));
  }
  if (section.of_class || model.family->headless != nullptr) {
    return section.of_class;
  }
  const bool bare = head.language && !options.config_only && has_bare_names(section, model);
  if ((head.language && !bare) || is_there(section, ledger, model)) {
    return true;
  }
  model.detected.push_back(
      {"output_layer", "none",
       bare ? fmt::format("no tensor of it, and the names are those of a bare model, though "
                          "config.json names the class {}",
                          escaped(head.name))
            : fmt::format("class {} has no language head", escaped(head.name))});
  return false;
}

std::string missing_head_help(const Model& model) {
  const std::string_view ending = language_ending(model.class_name);
  const std::string bare =
      model.class_name.substr(0, model.class_name.size() - ending.size()) + "Model";
  const auto& own = model.family->architectures;
  if (ending.empty() || std::ranges::find(own, bare) != own.end()) {
    return "";
  }
  return fmt::format(
      "if the model has no head, as embedding models have none, name its bare class: --set {}; "
      "if its head repeats the embedding: --set {}=true; else look for the shard that holds it",
      shell_quoted(fmt::format("architectures=[\"{}\"]", bare)),
      field_of(*model.family, model.geometry, family::symbols::kTied));
}

std::string_view language_ending(std::string_view class_name) {
  const auto found = std::ranges::find_if(
      kLanguageEndings, [&](std::string_view ending) { return class_name.ends_with(ending); });
  return found == kLanguageEndings.end() ? std::string_view() : *found;
}

}  // namespace bv::model

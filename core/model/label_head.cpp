#include "core/model/label_head.hpp"

#include <fmt/format.h>

#include <nlohmann/json.hpp>

#include "core/base/text.hpp"
#include "core/family/changed_family.hpp"
#include "core/family/family.hpp"

namespace bv::model {
namespace {

using family::HeadTensor;

constexpr std::string_view kScore = "score.";

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

}  // namespace bv::model

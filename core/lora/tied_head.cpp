#include "core/lora/tied_head.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <nlohmann/json.hpp>
#include <vector>

#include "core/checkpoint/config_edit.hpp"
#include "core/checkpoint/config_text.hpp"
#include "core/family/family.hpp"
#include "core/family/symbols.hpp"
#include "core/io/fault_text.hpp"
#include "core/model/conditions.hpp"

namespace bv::lora {
namespace {

constexpr std::string_view kHead = "lm_head.weight";  // where no family says otherwise
constexpr std::string_view kOutput = "output_layer.weight";
constexpr std::string_view kEmbedding = "embedding.word_embeddings.weight";
const std::string kTied(family::symbols::kTied);

/// The HF name of the embedding; "" when no rule makes one.
std::string embedding_of(const checkpoint::HfModel& base) {
  for (const model::Mapping& mapping : base.model.mappings) {
    if (mapping.rule->megatron.ends_with(kEmbedding) && mapping.hf.size() == 1) {
      return mapping.hf.front();
    }
  }
  return "";
}

/// What the config alone says.
std::string embedding_without_family(const checkpoint::HfModel& base) {
  const auto config = checkpoint::parse_config(base.config_text, "config.json");
  if (!config || !config->is_object() ||
      config->value("tie_word_embeddings", nlohmann::json()) != nlohmann::json(true)) {
    return "";
  }
  const nlohmann::json rows = config->value("vocab_size", nlohmann::json());
  std::vector<std::string> found;
  for (const auto& [name, spec] : base.headers) {
    if (rows.is_number_integer() && spec.shape.size() == 2 &&
        spec.shape.front() == rows.get<std::int64_t>()) {
      found.push_back(name);
    }
  }
  return found.size() == 1 ? found.front() : "";
}

/// Dotted paths of the objects between the root of config.json and what the family reads.
std::vector<std::string> levels_of(const checkpoint::HfModel& base) {
  std::vector<std::string> out;
  const std::string level = base.base == nullptr ? "" : base.base->level;
  for (std::size_t at = 0; !level.empty() && at != std::string::npos;) {
    at = level.find_first_of("./", at + 1);
    std::string path = level.substr(0, at);
    std::replace(path.begin(), path.end(), '/', '.');
    out.push_back(std::move(path));
  }
  return out;
}

const nlohmann::json* member_at(const nlohmann::json& config, std::string_view path) {
  const nlohmann::json* out = &config;
  while (out != nullptr && !path.empty()) {
    const std::size_t dot = std::min(path.find('.'), path.size());
    const auto at = out->is_object() ? out->find(path.substr(0, dot)) : out->end();
    out = at == out->end() ? nullptr : &*at;
    path.remove_prefix(std::min(path.size(), dot + 1));
  }
  return out;
}

Error stays_tied(const checkpoint::HfModel& base, const std::string& why) {
  return fail(Code::MergeTied, fmt::format("the output layer of {} cannot be untied: {}",
                                           io::printable(base.architecture), why))
      .pair("a change of the embedding alone, or of the output layer alone",
            "the same change for both")
      .advise("use the adapter beside its base, or train it on neither of the two");
}

}  // namespace

std::string head_name(const checkpoint::HfModel& base) {
  const family::FamilyPtr& family = base.model.family;
  if (family == nullptr) {
    return std::string(kHead);
  }
  const family::NameValues values{&base.model.prefixes, &base.model.geometry.symbols, "", -1, -1};
  const auto expanded = [&](const std::string& text) {
    const auto name = model::expand_hf(*family, text, values);
    return name ? *name : std::string(kHead);
  };
  for (const family::Rule& rule : family::rules(*family)) {
    if (rule.megatron.ends_with(kOutput) && rule.vocabulary && rule.hf.size() == 1) {
      return expanded(rule.hf.front().second);
    }
  }
  for (const family::Section& section : family->sections) {
    for (const family::Copy& copy : section.copies) {
      if (std::find(copy.when.begin(), copy.when.end(), kTied) != copy.when.end()) {
        return expanded(copy.copy);
      }
    }
  }
  return std::string(kHead);
}

std::vector<std::pair<std::string, std::string>> untied_members(const checkpoint::HfModel& base) {
  std::vector<std::pair<std::string, std::string>> out;
  const auto config = checkpoint::parse_config(base.config_text, "config.json");
  for (const std::string& level : levels_of(base)) {
    const nlohmann::json* object = config ? member_at(*config, level) : nullptr;
    if (object != nullptr && object->is_object() && object->contains(kTied)) {
      out.emplace_back(level + "." + kTied, "false");
    }
  }
  const auto origin = base.model.geometry.origin.find(kTied);
  const std::string path = origin == base.model.geometry.origin.end() ? "" : origin->second;
  if (path.ends_with("." + kTied) &&
      std::find(out.begin(), out.end(), std::pair(path, std::string("false"))) == out.end()) {
    out.emplace_back(path, "false");
  }
  out.emplace_back(kTied, "false");
  return out;
}

Status check_unties(const checkpoint::HfModel& base) {
  if (base.base == nullptr) {
    return Done{};
  }
  std::string text = base.config_text;
  for (const auto& [path, value] : untied_members(base)) {
    text = checkpoint::with_member(text, path, value);
  }
  BV_TRY(config, checkpoint::parse_config(text, "config.json"));
  const auto geometry = model::read_geometry(*base.base, config);
  if (!geometry) {
    const Error& why = geometry.error();
    return stays_tied(base, why.facts.empty() ? why.message : why.facts.front());
  }
  return geometry->ties_embeddings()
             ? Status(stays_tied(base, "its class ties it whatever config.json says"))
             : Status(Done{});
}

std::optional<TiedHead> tied_head(const checkpoint::HfModel& base) {
  const std::string head = head_name(base);
  if (base.headers.contains(head) || (base.model.family && !base.model.tied)) {
    return std::nullopt;
  }
  const std::string embedding =
      base.model.family ? embedding_of(base) : embedding_without_family(base);
  const auto stored = base.headers.find(embedding);
  if (stored == base.headers.end()) {
    return std::nullopt;
  }
  TiedHead out{stored->second, embedding};
  out.weight.name = head;
  return out;
}

}  // namespace bv::lora

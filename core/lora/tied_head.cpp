#include "core/lora/tied_head.hpp"

#include <nlohmann/json.hpp>
#include <vector>

#include "core/checkpoint/config_text.hpp"

namespace bv::lora {
namespace {

constexpr std::string_view kHead = "lm_head.weight";  // of every tied model of transformers
constexpr std::string_view kEmbedding = "embedding.word_embeddings.weight";

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

}  // namespace

std::optional<TiedHead> tied_head(const checkpoint::HfModel& base) {
  if (base.headers.contains(kHead) || (base.model.family && !base.model.tied)) {
    return std::nullopt;
  }
  const std::string embedding =
      base.model.family ? embedding_of(base) : embedding_without_family(base);
  const auto stored = base.headers.find(embedding);
  if (stored == base.headers.end()) {
    return std::nullopt;
  }
  TiedHead out{stored->second, embedding};
  out.weight.name = kHead;
  return out;
}

}  // namespace bv::lora

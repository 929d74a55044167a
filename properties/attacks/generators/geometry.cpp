#include "properties/attacks/generators/geometry.hpp"

#include <nlohmann/json.hpp>

namespace bv::generators {
namespace {

using nlohmann::json;

constexpr std::int64_t kHeadUnit = 8;
constexpr std::int64_t kHiddenUnit = 8;
constexpr std::int64_t kVocabularyMin = 83;

constexpr std::array kGeometryFields = {
    field("groups", &Geometry::groups, {1, 2, 3, 4, 8}),
    field("heads_each", &Geometry::heads_each, {1, 2, 3, 4}),
    field("head_unit", &Geometry::head_unit, {1, 2, 3}),
    field("hidden", &Geometry::hidden, {3, 2, 5}),
    field("ffn_unit", &Geometry::ffn_unit, {8, 12}),
    field("ffn_each", &Geometry::ffn_each, {1, 2, 3}),
    field("key_heads", &Geometry::key_heads, {1, 2, 4, 6, 8}),
    field("value_each", &Geometry::value_each, {1, 2, 3}),
    field("experts", &Geometry::experts, {4, 6, 8}),
    field("vocabulary", &Geometry::vocabulary, {1, 2, 5, 13, 40}),
    field("tied", &Geometry::tied, {0, 1}),
    field("mtp", &Geometry::mtp, {0, 1}),
};

/// Collects replacements of one level of the config.
class Level {
 public:
  Level(const json& level, std::string prefix, Settings& out)
      : level_(level), prefix_(std::move(prefix)), out_(out) {}

  [[nodiscard]] bool has(const char* field) const { return level_.contains(field); }

  [[nodiscard]] bool equal(const char* one, const char* other) const {
    return has(one) && has(other) && level_[one] == level_[other];
  }

  void integer(const char* field, std::int64_t value) {
    if (has(field) && level_[field].is_number_integer()) {
      out_.emplace_back(prefix_ + field, std::to_string(value));
    }
  }
  /// Sets a flag that is off; some families want theirs on.
  void raise(const char* field, bool value) {
    if (value && has(field) && level_[field] == false) {
      out_.emplace_back(prefix_ + field, "true");
    }
  }
  /// Lists of one entry a layer go on as they began, whatever they are called; so do texts of one
  /// letter a layer. Some have entries for MTP layers behind.
  void cycle_layers(std::int64_t layers, const Geometry& g) {
    const std::size_t own = layers_of_sample();
    const std::size_t more =
        has("num_nextn_predict_layers") && level_["num_nextn_predict_layers"].is_number_integer()
            ? level_["num_nextn_predict_layers"].get<std::size_t>()
            : 0;
    for (const auto& [field, value] : level_.items()) {
      const bool behind = more > 0 && value.size() == own + more;
      const auto wanted = static_cast<std::size_t>(layers + (behind ? g.mtp : 0));
      if (own > 0 && value.is_string() && field == "hybrid_override_pattern") {
        std::string letters;
        for (std::size_t i = 0; i < wanted; ++i) {
          const std::string& text = value.get_ref<const std::string&>();
          letters += text[i % text.size()];
        }
        out_.emplace_back(prefix_ + field, json(letters).dump());
      } else if (own > 0 && value.is_array() && (value.size() == own || behind) &&
                 field != "mlp_only_layers") {
        json list = json::array();
        for (std::size_t i = 0; i < wanted; ++i) {
          list.push_back(with_heads(value[i % value.size()], g));
        }
        out_.emplace_back(prefix_ + field, list.dump());
      }
    }
  }
  /// A list of layer numbers keeps those of layers that are there, all but the last.
  void inside(const char* field, std::int64_t layers) {
    if (!has(field) || level_[field].empty()) {
      return;
    }
    if (level_[field].is_string()) {  // "1,2,3": all but the first
      std::string text;
      for (std::int64_t i = 1; i < layers; ++i) {
        text += (text.empty() ? "" : ",") + std::to_string(i);
      }
      out_.emplace_back(prefix_ + field, json(text).dump());
      return;
    }
    if (!level_[field].is_array()) {
      return;
    }
    json list = json::array();
    for (const json& number : level_[field]) {
      if (number.get<std::int64_t>() + 1 < layers) {
        list.push_back(number);
      }
    }
    out_.emplace_back(prefix_ + field, list.dump());
  }

 private:
  [[nodiscard]] std::size_t layers_of_sample() const {
    if (has("num_hidden_layers") && level_["num_hidden_layers"].is_number_integer()) {
      return level_["num_hidden_layers"].get<std::size_t>();
    }
    return has("layers_block_type") ? level_["layers_block_type"].size() : 0;
  }

  /// A layer that says how many heads share a key has those of this geometry.
  static json with_heads(json entry, const Geometry& g) {
    if (entry.is_object() && entry.contains("attention") &&
        entry["attention"].value("n_heads_in_group", json()).is_number()) {
      entry["attention"]["n_heads_in_group"] = g.heads_each;
    }
    return entry;
  }

  const json& level_;
  std::string prefix_;
  Settings& out_;
};

void attention(Level& level, const Geometry& g) {
  const std::int64_t heads = g.groups * g.heads_each;
  const bool latent = level.has("kv_lora_rank");
  // Some architectures have one key-value head for each query head: a sample that has them keeps
  // so.
  const bool each = latent || level.equal("num_key_value_heads", "num_attention_heads");
  level.integer("num_attention_heads", heads);
  level.integer("num_key_value_heads", each ? heads : g.groups);
  level.integer("num_attention_groups", g.groups);
  level.integer("num_global_key_value_heads", g.groups);
  level.integer("swa_num_key_value_heads", heads);
  if (!latent) {
    level.integer("head_dim", g.head_unit * kHeadUnit);
  }
  level.integer("linear_num_key_heads", g.key_heads);
  level.integer("linear_num_value_heads", g.key_heads * g.value_each);
}

void feed_forward(Level& level, const Geometry& g, std::int64_t layers) {
  level.integer("intermediate_size", g.ffn_unit * g.ffn_each);
  level.integer("moe_intermediate_size", g.ffn_unit * (g.ffn_each % 3 + 1));
  level.integer("shared_expert_intermediate_size", g.ffn_unit * 2);
  for (const char* field : {"num_experts", "num_local_experts", "n_routed_experts"}) {
    level.integer(field, g.experts);
  }
  level.integer("first_k_dense_replace", layers > 1 ? 1 : 0);
  level.inside("mlp_only_layers", layers);
  level.inside("moe_layers_enum", layers);
}

/// A config without a size of heads divides the hidden size among them.
std::int64_t hidden_size(const Level& level, const Geometry& g) {
  const bool divided = !level.has("head_dim") && !level.has("kv_lora_rank");
  return divided ? g.groups * g.heads_each * g.head_unit * kHeadUnit : g.hidden * kHiddenUnit;
}

}  // namespace

std::span<const Field<Geometry>> geometry_fields() {
  return kGeometryFields;
}

Settings settings_of(const json& config, const Geometry& g, std::int64_t layers) {
  Settings out;
  const bool thinks = config.contains("thinker_config");  // the Omni models
  const json& model = thinks ? config["thinker_config"] : config;
  const std::string level = thinks ? "thinker_config." : "";
  const std::string inner = model.contains("llm_config") ? "llm_config" : "text_config";
  const bool nested = model.contains(inner);
  Level text(nested ? model[inner] : model, nested ? level + inner + "." : level, out);
  attention(text, g);
  feed_forward(text, g, layers);
  text.integer("hidden_size", hidden_size(text, g));
  text.integer("vocab_size", kVocabularyMin + g.vocabulary);
  text.integer("num_hidden_layers", layers);
  text.cycle_layers(layers, g);
  for (const char* field : {"mtp_num_hidden_layers", "num_nextn_predict_layers"}) {
    text.integer(field, g.mtp);
  }
  text.raise("tie_word_embeddings", g.tied != 0);
  if (nested) {
    Level(model, level, out).raise("tie_word_embeddings", g.tied != 0);
  }
  if (model.contains("vision_config")) {
    Level vision(model["vision_config"], level + "vision_config.", out);
    vision.integer("out_hidden_size", hidden_size(text, g));
    vision.integer("intermediate_size", g.ffn_unit * 5);
  }
  std::sort(out.begin(), out.end());  // as a saved world has them
  return out;
}

}  // namespace bv::generators

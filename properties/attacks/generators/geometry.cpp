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
  /// A list of one entry a layer goes on as it began.
  void cycle(const char* field, std::int64_t layers) {
    if (!has(field) || !level_[field].is_array() || level_[field].empty()) {
      return;
    }
    json list = json::array();
    for (std::int64_t i = 0; i < layers; ++i) {
      list.push_back(level_[field][static_cast<std::size_t>(i) % level_[field].size()]);
    }
    out_.emplace_back(prefix_ + field, list.dump());
  }
  /// Lists of one word a layer, whatever they are called.
  void cycle_words(std::int64_t layers) {
    if (!has("num_hidden_layers")) {
      return;
    }
    for (const auto& [field, value] : level_.items()) {
      const bool words =
          value.is_array() && level_["num_hidden_layers"] == value.size() &&
          std::all_of(value.begin(), value.end(), [](const json& one) { return one.is_string(); });
      if (words) {
        cycle(field.c_str(), layers);
      }
    }
  }
  /// A list of layer numbers keeps those of layers that are there, all but the last.
  void inside(const char* field, std::int64_t layers) {
    if (!has(field) || !level_[field].is_array() || level_[field].empty()) {
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
  const bool nested = model.contains("text_config");
  Level text(nested ? model["text_config"] : model, level + (nested ? "text_config." : ""), out);
  attention(text, g);
  feed_forward(text, g, layers);
  text.integer("hidden_size", hidden_size(text, g));
  text.integer("vocab_size", kVocabularyMin + g.vocabulary);
  text.integer("num_hidden_layers", layers);
  text.cycle_words(layers);
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

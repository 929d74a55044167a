// Where the usual numbers stand in the config.json of an architecture that no family knows.

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <nlohmann/json.hpp>
#include <set>

#include "core/foreign/usual.hpp"

namespace bv::foreign {
namespace {

using nlohmann::json;

/// Objects that hold the config of the text model, the likeliest first.
constexpr std::array kTextLevels = {"text_config", "thinker_config", "llm_config",
                                    "language_config", "language_model_config"};
constexpr std::array kVisionLevels = {"vision_config", "visual_config", "vit_config"};

/// A number and the fields that may hold it.
struct Field {
  const char* number;
  std::vector<const char*> fields;
};
const std::vector<Field>& fields() {
  static const std::vector<Field> table = {
      {"vocab_size", {"vocab_size"}},
      {"hidden_size", {"hidden_size", "n_embd", "d_model"}},
      {"num_hidden_layers", {"num_hidden_layers", "num_layers", "n_layers", "n_layer"}},
      {"num_attention_heads", {"num_attention_heads", "num_heads", "n_heads", "n_head"}},
      {"num_key_value_heads", {"num_key_value_heads", "num_query_groups", "n_kv_heads"}},
      {"head_dim", {"head_dim", "attention_head_dim", "kv_channels"}},
      {"intermediate_size", {"intermediate_size", "ffn_hidden_size", "n_inner"}},
      {"num_experts", {"num_experts", "num_local_experts", "n_routed_experts", "moe_num_experts"}},
      {"moe_intermediate_size", {"moe_intermediate_size", "expert_hidden_dim"}},
      {"mtp_num_layers", {"num_nextn_predict_layers", "mtp_num_hidden_layers", "mtp_num_layers"}},
      {"linear_num_key_heads", {"linear_num_key_heads"}},
      {"linear_num_value_heads", {"linear_num_value_heads"}},
      {"linear_key_head_dim", {"linear_key_head_dim"}},
      {"linear_value_head_dim", {"linear_value_head_dim"}},
      {"mamba_num_heads", {"mamba_num_heads", "mamba_n_heads"}},
      {"mamba_head_dim", {"mamba_head_dim", "mamba_d_head"}},
      {"mamba_state_dim", {"mamba_state_dim", "ssm_state_size", "mamba_d_state"}},
      {"mamba_num_groups", {"mamba_num_groups", "mamba_n_groups", "n_groups"}},
      {"q_lora_rank", {"q_lora_rank"}},
      {"kv_lora_rank", {"kv_lora_rank"}},
      {"qk_nope_head_dim", {"qk_nope_head_dim"}},
      {"qk_rope_head_dim", {"qk_rope_head_dim"}},
      {"v_head_dim", {"v_head_dim"}}};
  return table;
}

/// Fields that give each layer a structure of its own, in any of the ways that configs have.
constexpr std::array kLayerStructures = {
    "layers_block_type",  "hybrid_override_pattern", "block_configs",          "attn_layer_indices",
    "attn_layer_period",  "attn_layer_offset",       "attn_type_list",         "full_attn_idxs",
    "linear_attn_config", "num_kv_shared_layers",    "full_attention_interval"};
/// Kinds of layers that have the same parameters.
const std::set<std::string, std::less<>> kEqualLayers = {"full_attention", "sliding_attention",
                                                         "chunked_attention", "attention"};

const json* object_at(const json& node, const char* key) {
  const auto found = node.find(key);
  return found != node.end() && found->is_object() ? &*found : nullptr;
}

const json* set_field(const json& node, const char* key) {
  const auto found = node.find(key);
  return found != node.end() && !found->is_null() ? &*found : nullptr;
}

/// The text model's object and the objects on the way to it, the top first.
struct Levels {
  std::vector<const json*> path;
  std::string name;
};

Levels levels_of(const json& config) {
  Levels out{{&config}, ""};
  for (bool deeper = true; deeper;) {
    deeper = false;
    for (const char* key : kTextLevels) {
      if (const json* inner = object_at(*out.path.back(), key); inner != nullptr && !deeper) {
        out.path.push_back(inner);
        out.name += (out.name.empty() ? "" : ".") + std::string(key);
        deeper = true;
      }
    }
  }
  return out;
}

/// The number in a field: a whole number that is not negative.
std::optional<std::int64_t> number_in(const json& node) {
  constexpr std::int64_t kMost = std::int64_t{1} << 40;
  const bool fits = node.is_number_unsigned()
                        ? node.get<std::uint64_t>() <= static_cast<std::uint64_t>(kMost)
                        : node.is_number_integer() && node.get<std::int64_t>() >= 0 &&
                              node.get<std::int64_t>() <= kMost;
  return fits ? std::optional(node.get<std::int64_t>()) : std::nullopt;
}

/// A list with one entry a layer, or a text with one letter a layer.
std::optional<std::int64_t> layers_listed(const json& text, std::string& from) {
  for (const char* key : {"layer_types", "layers_block_type", "hybrid_override_pattern"}) {
    const json* node = set_field(text, key);
    if (node == nullptr) {
      continue;
    }
    from = key;
    if (node->is_array()) {
      return static_cast<std::int64_t>(node->size());
    }
    if (node->is_string()) {
      const auto& letters = node->get_ref<const std::string&>();
      return std::count_if(letters.begin(), letters.end(),
                           [](char c) { return c != ' ' && c != '|' && c != '/' && c != ','; });
    }
  }
  return std::nullopt;
}

bool layers_differ(const json& text) {
  if (std::any_of(kLayerStructures.begin(), kLayerStructures.end(),
                  [&](const char* key) { return set_field(text, key) != nullptr; })) {
    return true;
  }
  const json* types = set_field(text, "layer_types");
  return types != nullptr && types->is_array() &&
         std::any_of(types->begin(), types->end(), [](const json& type) {
           return !type.is_string() || !kEqualLayers.contains(type.get_ref<const std::string&>());
         });
}

/// Lists of words or numbers that sort the layers: one entry a layer, more than one value, and not
/// another one for each.
std::map<std::string, std::vector<std::string>> layer_kinds(const json& text, std::size_t layers) {
  std::map<std::string, std::vector<std::string>> out;
  for (const auto& [key, node] : text.items()) {
    if (!node.is_array() || node.size() != layers) {
      continue;
    }
    std::vector<std::string> words;
    for (const json& entry : node) {
      if (entry.is_primitive()) {
        words.push_back(entry.dump(-1, ' ', false, json::error_handler_t::replace));
      }
    }
    const std::size_t kinds = std::set(words.begin(), words.end()).size();
    if (words.size() == layers && kinds > 1 && kinds < layers) {
      out.emplace(key, std::move(words));
    }
  }
  return out;
}

class UsualReader {
 public:
  UsualReader(const json& config, json& flat)
      : config_(config), flat_(flat), levels_(levels_of(config)), text_(*levels_.path.back()) {}

  UsualConfig run() {
    out_.level = levels_.name;
    flat_ = json::object();
    for (const char* key : {"architectures", "model_type"}) {
      if (const json* node = set_field(config_, key)) {
        flat_[key] = *node;
      }
    }
    for (const Field& field : fields()) {
      for (const char* key : field.fields) {
        if (take(field.number, text_, key, levels_.name)) {
          break;
        }
      }
    }
    read_derived();
    read_tie();
    read_vision();
    const json* gate = set_field(text_, "attn_output_gate");
    if (gate != nullptr && gate->is_boolean()) {
      flat_["attn_output_gate"] = *gate;
    }
    out_.layers_differ = layers_differ(text_);
    if (const auto layers = flat_.find("num_hidden_layers");
        layers != flat_.end() && layers->is_number_integer()) {
      out_.layer_kinds = layer_kinds(text_, layers->get<std::size_t>());
    }
    out_.mtp_layers = flat_.value("mtp_num_layers", std::int64_t{0});
    return std::move(out_);
  }

 private:
  static std::string dotted(const std::string& level, const char* key) {
    return level.empty() ? key : level + "." + key;
  }

  bool take(const char* number, const json& object, const char* key, const std::string& level) {
    const json* node = set_field(object, key);
    const auto value = node == nullptr ? std::nullopt : number_in(*node);
    // Zero means that the model has none of it; a family file would say the same of an absent one.
    if (!value || (*value == 0 && std::string_view(number) != "num_experts")) {
      return false;
    }
    flat_[number] = *value;
    out_.origins[number] = dotted(level, key);
    return true;
  }

  void derive(const char* number, std::int64_t value, std::string origin) {
    if (!flat_.contains(number)) {
      flat_[number] = value;
      out_.origins[number] = std::move(origin);
    }
  }

  [[nodiscard]] std::int64_t at(const char* number) const {
    return flat_.value(number, std::int64_t{0});
  }

  void read_derived() {
    std::string from;
    if (const auto layers =
            flat_.contains("num_hidden_layers") ? std::nullopt : layers_listed(text_, from)) {
      derive("num_hidden_layers", *layers, "the length of " + dotted(levels_.name, from.c_str()));
    }
    if (at("num_attention_heads") > 0) {
      derive("num_key_value_heads", at("num_attention_heads"), "num_attention_heads");
      if (at("hidden_size") > 0 && at("hidden_size") % at("num_attention_heads") == 0) {
        derive("head_dim", at("hidden_size") / at("num_attention_heads"),
               "hidden_size / num_attention_heads");
      }
    }
    if (at("intermediate_size") > 0) {
      derive("moe_intermediate_size", at("intermediate_size"), "intermediate_size");
    }
  }

  /// The flag of the whole model and that of the text model say the same, or nothing is known.
  void read_tie() {
    std::set<bool> said;
    for (const json* level : levels_.path) {
      const json* node = set_field(*level, "tie_word_embeddings");
      if (node != nullptr && node->is_boolean()) {
        said.insert(node->get<bool>());
      }
    }
    out_.tie_is_said = said.size() == 1;
    out_.untied_is_said = said.contains(false);
    if (out_.tie_is_said) {
      flat_["tie_word_embeddings"] = *said.begin();
      out_.origins["tie_word_embeddings"] = "tie_word_embeddings";
    }
  }

  /// The config of a vision tower stands beside that of the text model, or above.
  void read_vision() {
    for (const json* level : levels_.path) {
      for (const char* key : kVisionLevels) {
        const json* vision = object_at(*level, key);
        if (vision == nullptr) {
          continue;
        }
        for (const char* heads : {"num_heads", "num_attention_heads"}) {
          if (!flat_.contains("vision_num_heads")) {
            take("vision_num_heads", *vision, heads, key);
          }
        }
        take("vision_num_query_groups", *vision, "num_key_value_heads", key);
      }
    }
    if (at("vision_num_heads") > 0) {
      derive("vision_num_query_groups", at("vision_num_heads"), "the heads of the vision tower");
    }
  }

  const json& config_;
  json& flat_;
  Levels levels_;
  const json& text_;
  UsualConfig out_;
};

}  // namespace

UsualConfig read_usual(const json& config, json& flat) {
  return UsualReader(config, flat).run();
}

json flat_config(const json& config) {
  json flat;
  (void)read_usual(config, flat);
  return flat;
}

}  // namespace bv::foreign

#include "properties/claims/small_config.hpp"

#include <algorithm>
#include <array>
#include <nlohmann/json.hpp>
#include <numeric>
#include <set>

#include "core/base/arith.hpp"

namespace bv::claims {
namespace {

using nlohmann::json;

constexpr std::int64_t kLeastWidth = 4;
constexpr std::int64_t kLeastLayers = 2;
constexpr std::int64_t kVocabulary = 96;
constexpr std::int64_t kTopK = 2;
constexpr std::int64_t kLeastExperts = 4;
constexpr std::int64_t kGridSide = 5;
constexpr std::int64_t kDeepstack = 2;
constexpr std::int64_t kLargestScale = 256;

constexpr std::array kTextWidths = {"hidden_size",
                                    "head_dim",
                                    "intermediate_size",
                                    "moe_intermediate_size",
                                    "shared_expert_intermediate_size",
                                    "linear_key_head_dim",
                                    "linear_value_head_dim",
                                    "q_lora_rank",
                                    "kv_lora_rank",
                                    "qk_nope_head_dim",
                                    "qk_rope_head_dim",
                                    "v_head_dim"};
constexpr std::array kExpertCounts = {"num_experts", "num_local_experts", "n_routed_experts"};
constexpr std::array kMtpCounts = {"num_nextn_predict_layers", "mtp_num_hidden_layers"};

std::optional<std::int64_t> integer_at(const json& object, const char* key) {
  const auto found = object.is_object() ? object.find(key) : object.end();
  return object.is_object() && found != object.end() && found->is_number_integer()
             ? std::optional(found->get<std::int64_t>())
             : std::nullopt;
}

std::optional<double> number_at(const json& object, const char* key) {
  const auto found = object.find(key);
  return found != object.end() && found->is_number() ? std::optional(found->get<double>())
                                                     : std::nullopt;
}

/// The object that holds the sizes of the text model.
template <class Json>
Json& text_of(Json& config) {
  const auto inner = config.find("text_config");
  return inner != config.end() && inner->is_object() ? *inner : config;
}

bool has_vision(const json& config) {
  const auto found = config.find("vision_config");
  return found != config.end() && found->is_object();
}

/// Exactly width / scale where that is whole and wide enough; else a multiple of what the ranks cut
/// it into.
std::int64_t scaled(std::int64_t width, std::int64_t scale, std::int64_t ranks) {
  if (width % scale == 0 && width / scale >= kLeastWidth) {
    return width / scale;
  }
  const std::int64_t step = std::gcd(width, 2 * ranks);
  const std::int64_t wanted = std::max(div_ceil(width, scale), kLeastWidth);
  return std::min(width, div_ceil(wanted, step) * step);
}

void scale_field(json& object, const char* key, std::int64_t scale, std::int64_t ranks) {
  if (const auto width = integer_at(object, key); width && *width > 0) {
    object[key] = scaled(*width, scale, ranks);
  }
}

/// Padded or not as before: a multiple of what the ranks take stays one, and another does not
/// become one.
std::int64_t small_vocabulary(std::int64_t rows, const parallel::Layout& layout) {
  const std::int64_t multiple = layout.tp * layout.vocab_divisor.value_or(1);
  if (rows <= kVocabulary) {
    return rows;
  }
  const std::int64_t whole = div_ceil(kVocabulary, multiple) * multiple;
  return std::min(rows, rows % multiple == 0 ? whole : whole + 1);
}

/// Two experts a rank where there were two, and enough for the router to choose from.
void shrink_experts(json& text, const parallel::Layout& layout) {
  const std::int64_t topk = std::min(integer_at(text, "num_experts_per_tok").value_or(1), kTopK);
  const std::int64_t groups = std::min<std::int64_t>(integer_at(text, "n_group").value_or(1), 2);
  for (const char* key : kExpertCounts) {
    const auto experts = integer_at(text, key);
    if (!experts || *experts < 1) {
      continue;
    }
    const std::int64_t step = std::lcm(layout.ep, groups);
    const std::int64_t local = std::min<std::int64_t>(*experts / layout.ep, 2);
    const std::int64_t wanted = std::max({kLeastExperts, layout.ep * local, 2 * groups, topk + 1});
    text[key] = std::min(*experts, div_ceil(wanted, step) * step);
  }
  if (text.contains("num_experts_per_tok") && !text["num_experts_per_tok"].is_null()) {
    text["num_experts_per_tok"] = topk;
  }
  for (const char* key : {"n_group", "topk_group"}) {
    if (const auto count = integer_at(text, key)) {
      text[key] = std::min(*count, groups);
    }
  }
}

/// Lists with one entry a layer lose their ends, lists of layer numbers the numbers beyond.
void shorten_layers(json& text, std::int64_t layers) {
  const auto before = integer_at(text, "num_hidden_layers");
  if (!before) {
    return;
  }
  for (auto& [key, value] : text.items()) {
    if (value.is_array() && static_cast<std::int64_t>(value.size()) == *before) {
      value.erase(value.begin() + static_cast<std::ptrdiff_t>(layers), value.end());
    }
  }
  if (const auto numbers = text.find("mlp_only_layers");
      numbers != text.end() && numbers->is_array()) {
    json kept = json::array();
    for (const json& number : *numbers) {
      if (number.is_number_integer() && number.get<std::int64_t>() < layers) {
        kept.push_back(number);
      }
    }
    *numbers = kept;
  }
  if (const auto dense = integer_at(text, "first_k_dense_replace")) {
    text["first_k_dense_replace"] = std::min(*dense, layers);
  }
  text["num_hidden_layers"] = layers;
}

/// The sections of the rotary part share its half as before, the first taking what is left over.
void shrink_rope(json& text) {
  const auto head = integer_at(text, "head_dim");
  for (const char* key : {"rope_parameters", "rope_scaling"}) {
    const auto rope = text.find(key);
    if (rope == text.end() || !rope->is_object() || !rope->contains("mrope_section") || !head) {
      continue;
    }
    json& sections = (*rope)["mrope_section"];
    const bool three = sections.is_array() && sections.size() == 3 &&
                       std::all_of(sections.begin(), sections.end(),
                                   [](const json& one) { return one.is_number_integer(); });
    if (!three) {
      continue;
    }
    const double part = number_at(*rope, "partial_rotary_factor")
                            .value_or(number_at(text, "partial_rotary_factor").value_or(1.0));
    const auto half = static_cast<std::int64_t>(static_cast<double>(*head) * part) / 2;
    std::int64_t total = 0;
    for (const json& one : sections) {
      total += one.get<std::int64_t>();
    }
    std::int64_t left = half;
    for (const std::size_t i : {2U, 1U}) {
      const std::int64_t share = total > 0 ? sections[i].get<std::int64_t>() * half / total : 0;
      sections[i] = share;
      left -= share;
    }
    sections[0] = left;
  }
}

void shrink_vision(json& config, std::int64_t scale, std::int64_t hidden, std::int64_t layers,
                   std::int64_t ranks) {
  json& vision = config["vision_config"];
  scale_field(vision, "hidden_size", scale, ranks);
  scale_field(vision, "intermediate_size", scale, ranks);
  if (vision.contains("out_hidden_size")) {
    vision["out_hidden_size"] = hidden;
  }
  if (const auto places = integer_at(vision, "num_position_embeddings")) {
    vision["num_position_embeddings"] = std::min(*places, kGridSide * kGridSide);
  }
  std::int64_t levels = 0;
  if (const auto indexes = vision.find("deepstack_visual_indexes");
      indexes != vision.end() && indexes->is_array()) {
    levels = std::min({static_cast<std::int64_t>(indexes->size()), kDeepstack, layers});
    *indexes = json::array();
    for (std::int64_t level = 0; level < levels; ++level) {
      indexes->push_back(level);
    }
  }
  if (const auto depth = integer_at(vision, "depth")) {
    vision["depth"] = std::min(*depth, std::max(kLeastLayers, levels));
  }
}

}  // namespace

std::optional<std::int64_t> least_layers(const Structure& structure) {
  const model::Geometry& geometry = structure.model->geometry;
  const std::int64_t all = geometry.layers();
  std::set<std::set<std::string, std::less<>>> kinds;
  std::int64_t least = std::min(kLeastLayers, all);
  for (std::size_t i = 0; i < geometry.layer_flags.size(); ++i) {
    if (kinds.insert(geometry.layer_flags[i]).second) {
      least = std::max(least, static_cast<std::int64_t>(i) + 1);
    }
  }
  for (std::int64_t layers = least; layers <= all; ++layers) {
    if (parallel::plan_stages(structure.layout, layers, structure.model->mtp_layers)) {
      return layers;
    }
  }
  return std::nullopt;
}

json shrunk_config(const json& config, const Structure& structure, std::int64_t layers,
                   const Scale& scale) {
  const parallel::Layout& layout = structure.layout;
  const std::int64_t ranks = std::lcm(layout.tp, layout.etp);
  json out = config;
  json& text = text_of(out);
  for (const char* key : kTextWidths) {
    scale_field(text, key, scale.text, ranks);
  }
  if (const auto rows = integer_at(text, "vocab_size")) {
    text["vocab_size"] = small_vocabulary(*rows, layout);
  }
  shrink_experts(text, layout);
  shorten_layers(text, layers);
  shrink_rope(text);
  bool counted = structure.model->mtp_layers == 0;
  for (const char* key : kMtpCounts) {
    if (integer_at(text, key)) {
      text[key] = structure.model->mtp_layers;
      counted = true;
    }
  }
  if (!counted) {  // counted in the headers before
    text[kMtpCounts.back()] = structure.model->mtp_layers;
  }
  if (has_vision(out)) {
    shrink_vision(out, scale.vision, integer_at(text, "hidden_size").value_or(0), layers, ranks);
    // Any row of the embedding may stand for the image.
    out["image_token_id"] = integer_at(text, "vocab_size").value_or(2) - 2;
  }
  return out;
}

std::vector<Scale> scales_of(const json& config) {
  std::vector<std::int64_t> vision{1};
  if (has_vision(config)) {
    const json& object = config["vision_config"];
    const std::int64_t heads = integer_at(object, "num_heads").value_or(1);
    const std::int64_t head =
        integer_at(object, "hidden_size").value_or(1) / std::max<std::int64_t>(heads, 1);
    vision.clear();
    for (std::int64_t divisor = head / kLeastWidth; divisor >= 1; --divisor) {
      if (head % (kLeastWidth * divisor) == 0) {  // a rotary head is a multiple of four
        vision.push_back(divisor);
      }
    }
    vision.push_back(1);
  }
  std::vector<Scale> out;
  for (const std::int64_t divisor : vision) {
    for (std::int64_t text = kLargestScale; text >= 1; --text) {
      out.push_back({text, divisor});
    }
  }
  return out;
}

}  // namespace bv::claims

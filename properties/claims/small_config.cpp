#include "properties/claims/small_config.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <nlohmann/json.hpp>
#include <numeric>
#include <set>

#include "core/base/arith.hpp"
#include "properties/claims/size_roles.hpp"

namespace bv::claims {
namespace {

using nlohmann::json;

constexpr std::int64_t kLeastWidth = 4;
constexpr std::int64_t kLeastLayers = 2;
constexpr std::int64_t kVocabulary = 96;
constexpr std::int64_t kTopK = 2;
constexpr std::int64_t kIndexed = 3;  // tokens that an indexer chooses of seven
constexpr std::int64_t kBlock = 2;    // tokens of a block, and blocks of four that are chosen
constexpr const char* kSparse = "sparse_attention_config";  // of older configs of MiniMax-M3
constexpr std::int64_t kLeastExperts = 4;
constexpr std::int64_t kGridSide = 5;
constexpr std::int64_t kDeepstack = 2;
constexpr std::int64_t kLargestScale = 256;

constexpr std::array kExpertCounts = {"num_experts", "num_local_experts", "n_routed_experts",
                                      "moe_num_experts"};
constexpr std::array kMtpCounts = {"num_nextn_predict_layers", "mtp_num_hidden_layers"};
constexpr std::array kLayerNumbers = {"mlp_only_layers", "moe_layers"};  // lists of them
constexpr std::array kLastLayers = {"first_k_dense_replace", "moe_layer_end_index"};
constexpr std::array kLayerLetters = {"hybrid_override_pattern", "index_topk_pattern"};

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

/// Where a field stands: the object, and its name there.
struct Place {
  json* object = nullptr;  // nullptr where the path leads nowhere
  std::string name;
};
Place place_of(json& config, const std::string& path) {
  json* object = &config;
  std::size_t begin = 0;
  for (std::size_t dot = path.find('.'); dot != std::string::npos; dot = path.find('.', begin)) {
    const auto inner = object->find(path.substr(begin, dot - begin));
    if (inner == object->end() || !inner->is_object()) {
      return {};
    }
    object = &*inner;
    begin = dot + 1;
  }
  return {object, path.substr(begin)};
}

/// The number at a path; "sizes.0" is the first of a list, or the one number in its place.
json* number_of(json& config, const std::string& path) {
  const Place place = place_of(config, path);
  if (place.object != nullptr) {
    const auto found = place.object->find(place.name);
    return found != place.object->end() && found->is_number_integer() ? &*found : nullptr;
  }
  const std::size_t dot = path.rfind('.');
  const std::string last = path.substr(dot + 1);
  if (dot == std::string::npos || last.find_first_not_of("0123456789") != std::string::npos) {
    return nullptr;
  }
  const Place list = place_of(config, path.substr(0, dot));
  const auto found = list.object == nullptr ? json::iterator() : list.object->find(list.name);
  if (list.object == nullptr || found == list.object->end()) {
    return nullptr;
  }
  const std::size_t index = std::stoul(last);
  json* number = found->is_array() && index < found->size() ? &(*found)[index] : &*found;
  return number->is_number_integer() ? number : nullptr;
}

Place place_of(json& config, const model::Model& model, std::string_view symbol) {
  return place_of(config, model::field_of(*model.family, model.geometry, symbol));
}

/// The object that holds the sizes of the text model.
json& text_of(json& config, const model::Model& model) {
  const Place place = place_of(config, model, "hidden_size");
  return place.object != nullptr ? *place.object : config;
}

bool has_vision(const json& config, const Structure& structure) {
  const auto found = config.find("vision_config");
  return structure.sees && found != config.end() && found->is_object();
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
void shrink_experts(json& text, const Structure& structure) {
  const parallel::Layout& layout = structure.layout;
  const char* per_token = structure.topk.c_str();
  const std::int64_t topk = std::min(integer_at(text, per_token).value_or(1), kTopK);
  const std::int64_t groups = std::min<std::int64_t>(integer_at(text, "n_group").value_or(1), 2);
  const auto fewer = [&](json& count) {
    const auto experts = count.is_number_integer() ? count.get<std::int64_t>() : 0;
    if (experts < 1) {
      return;
    }
    const std::int64_t step = std::lcm(layout.ep, groups);
    const std::int64_t local = std::min<std::int64_t>(experts / layout.ep, 2);
    const std::int64_t wanted = std::max({kLeastExperts, layout.ep * local, 2 * groups, topk + 1});
    count = std::min(experts, div_ceil(wanted, step) * step);
  };
  for (const char* key : kExpertCounts) {
    if (const auto found = text.find(key); found != text.end() && found->is_array()) {
      std::for_each(found->begin(), found->end(), fewer);  // one a pool
    } else if (found != text.end()) {
      fewer(*found);
    }
  }
  if (integer_at(text, per_token)) {
    text[per_token] = topk;
  }
  for (const char* key : {"n_group", "topk_group"}) {
    if (const auto count = integer_at(text, key)) {
      text[key] = std::min(*count, groups);
    }
  }
}

/// Lists with one entry a layer (and one an MTP layer behind) lose their ends, so do letters; lists
/// of layer numbers lose the numbers beyond.
void shorten_layers(json& text, const model::Model& model, std::int64_t layers) {
  const std::int64_t before = model.geometry.layers();
  const auto cut = [&](auto& list) {
    const auto size = static_cast<std::int64_t>(list.size());
    if (size == before || size == before + model.mtp_layers) {
      list.erase(list.begin() + static_cast<std::ptrdiff_t>(layers),
                 list.begin() + static_cast<std::ptrdiff_t>(before));
    }
  };
  for (auto& [key, value] : text.items()) {
    if (value.is_array()) {
      cut(value);
    } else if (value.is_object() && key == kSparse) {
      for (auto& inner : value) {
        if (inner.is_array()) cut(inner);
      }
    } else if (value.is_string() && std::ranges::count(kLayerLetters, key) > 0) {
      cut(value.template get_ref<std::string&>());
    }
  }
  for (const char* key : kLayerNumbers) {
    if (const auto numbers = text.find(key); numbers != text.end() && numbers->is_array()) {
      json kept = json::array();
      for (const json& number : *numbers) {
        if (number.is_number_integer() && number.get<std::int64_t>() < layers) {
          kept.push_back(number);
        }
      }
      *numbers = kept;
    }
  }
  for (const char* key : kLastLayers) {
    if (const auto last = integer_at(text, key)) {
      text[key] = std::min(*last, layers);
    }
  }
  if (const auto full = integer_at(text, "max_window_layers"); full && *full < before) {
    text["max_window_layers"] = std::min(*full, layers - 1);  // one layer still slides
  }
  if (const auto shared = integer_at(text, "num_kv_shared_layers"); shared && *shared > 0) {
    text["num_kv_shared_layers"] = *shared - (before - layers);  // counted from the end
  }
}

/// How many layers the config says, where it says that as a number.
void put_layers(json& config, const model::Model& model, std::int64_t layers) {
  const Place place = place_of(config, model, "num_hidden_layers");
  if (place.object != nullptr &&
      (!place.object->contains(place.name) || (*place.object)[place.name].is_number_integer())) {
    (*place.object)[place.name] = layers;
  }
  json& text = text_of(config, model);
  if (integer_at(text, "num_hidden_layers")) {
    text["num_hidden_layers"] = layers;
  }
}

/// Every width of the rules, where it is a number of the config or a default that is one.
void shrink_widths(json& config, const Structure& structure, std::int64_t scale,
                   std::int64_t ranks) {
  const model::Model& model = *structure.model;
  std::set<std::string> done;
  for (const auto& [symbol, size] : model.geometry.symbols) {
    const auto role = role_of(symbol);
    if (size < 1 || (role != SizeRole::Width && role != SizeRole::Vocabulary)) {
      continue;
    }
    const std::string path = model::field_of(*model.family, model.geometry, symbol);
    const Place place = place_of(config, path);
    json* there = number_of(config, path);
    const auto origin = model.geometry.origin.find(symbol);
    const bool assumed = place.object != nullptr && !place.object->contains(place.name) &&
                         origin != model.geometry.origin.end() &&
                         origin->second.starts_with(fmt::format("default {}:", size));
    if (done.contains(path) || (!assumed && (there == nullptr || *there != size))) {
      continue;
    }
    done.insert(path);
    there = assumed ? &(*place.object)[place.name] : there;
    *there = role == SizeRole::Width ? scaled(size, scale, ranks)
                                     : small_vocabulary(size, structure.layout);
  }
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

/// An indexer that chooses blocks leaves some out.
void shrink_blocks(json& object, const char* size, const char* topk) {
  if (const auto tokens = integer_at(object, size)) {
    object[size] = std::min(*tokens, kBlock);
    object[topk] = std::min(integer_at(object, topk).value_or(kBlock), kBlock);
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
  const model::Model& model = *structure.model;
  const std::int64_t ranks = std::lcm(structure.layout.tp, structure.layout.etp);
  json out = config;
  shrink_widths(out, structure, scale.text, ranks);
  json& text = text_of(out, model);
  shrink_experts(text, structure);
  if (const auto seen = integer_at(text, "index_topk")) {
    text["index_topk"] = std::min(*seen, kIndexed);
  }
  shrink_blocks(text, "index_block_size", "index_topk_blocks");
  if (const auto sparse = text.find(kSparse); sparse != text.end() && sparse->is_object()) {
    shrink_blocks(*sparse, "sparse_block_size", "sparse_topk_blocks");
  }
  shorten_layers(text, model, layers);
  put_layers(out, model, layers);
  shrink_rope(text);
  bool counted = model.mtp_layers == 0;
  for (const char* key : kMtpCounts) {
    if (integer_at(text, key)) {
      text[key] = model.mtp_layers;
      counted = true;
    }
  }
  if (!counted) {  // counted in the headers before
    text[kMtpCounts.back()] = model.mtp_layers;
  }
  if (has_vision(out, structure)) {
    shrink_vision(out, scale.vision, integer_at(text, "hidden_size").value_or(0), layers, ranks);
    // Any row of the embedding may stand for the image.
    out["image_token_id"] = integer_at(text, "vocab_size").value_or(2) - 2;
  }
  return out;
}

std::vector<Scale> scales_of(const json& config, const Structure& structure) {
  std::vector<std::int64_t> vision{1};
  if (has_vision(config, structure)) {
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

#include "core/lora/adapter_record.hpp"

#include <fmt/format.h>

#include <cmath>
#include <nlohmann/json.hpp>
#include <set>

#include "core/base/json_text.hpp"
#include "core/base/text.hpp"
#include "core/checkpoint/config_text.hpp"
#include "core/io/fault_text.hpp"

namespace bv::lora {
namespace {

using Json = nlohmann::json;

constexpr std::int64_t kNumberMax = std::int64_t{1} << 30;

class RecordReader {
 public:
  explicit RecordReader(const std::string& file) : file_(file) {}

  Result<AdapterRecord> read(const Json& json) {
    AdapterRecord out;
    if (!known(
            json, "adapter.json",
            {"schema", "layout", "first_stage_layers", "last_stage_layers", "transformer_engine",
             "grouped_experts", "config", "layers", "files", "weights", "tensors", "text_model"}) ||
        json.value("schema", Json()) != Json(kRecordSchema)) {
      return wrong("schema", std::string(kRecordSchema));
    }
    if (!json.contains("layout") || !json["layout"].is_string()) {
      return wrong("layout", "a layout id");
    }
    BV_TRY(layout, parallel::layout_from_id(json["layout"].get<std::string>()));
    out.layout = layout;
    const auto truth = [&](const char* key, bool& value) {
      const bool right = json.contains(key) && json[key].is_boolean();
      value = right && json[key].get<bool>();
      return right;
    };
    if (!truth("transformer_engine", out.spelling.transformer_engine) ||
        !truth("grouped_experts", out.spelling.grouped_experts)) {
      return wrong("transformer_engine, grouped_experts", "true or false");
    }
    if (json.contains("text_model") && !truth("text_model", out.text_model)) {
      return wrong("text_model", "true or false");
    }
    for (auto [key, value] : {std::pair{"first_stage_layers", &out.layout.first_stage_layers},
                              std::pair{"last_stage_layers", &out.layout.last_stage_layers}}) {
      if (json.contains(key)) {
        std::int64_t number = 0;
        if (!whole(json[key], 1, number)) {
          return wrong(key, "a number of layers");
        }
        *value = number;
      }
    }
    for (const auto& [key, text] :
         {std::pair{"config", &out.config}, std::pair{"weights", &out.weights},
          std::pair{"tensors", &out.tensors}}) {
      if (json.contains(key) && !json[key].is_string()) {
        return wrong(key, "a text");
      }
      *text = json.value(key, std::string());
    }
    if (!json.contains("files") || !json["files"].is_object()) {
      return wrong("files", "the shards and their fingerprints");
    }
    for (const auto& [name, digest] : json["files"].items()) {
      if (!digest.is_string()) {
        return wrong("files", "fingerprints");
      }
      out.files[name] = digest.get<std::string>();
    }
    if (!json.contains("layers") || !json["layers"].is_object()) {
      return wrong("layers", "an object of layers");
    }
    for (const auto& [module, layer] : json["layers"].items()) {
      if (!read_layer(layer, out.layers[module])) {
        return wrong("layers: " + bounded(io::printable(module), 100), "rank, alpha and blocks");
      }
    }
    return out;
  }

 private:
  Error wrong(const std::string& key, const std::string& wanted) const {
    return fail(Code::AdapterInvalid,
                fmt::format("{} of {} is not as lora convert writes it", key, file_))
        .at(file_)
        .pair("another value", wanted)
        .advise("convert the adapter again; the file is not edited by hand");
  }
  static bool known(const Json& json, const char*, const std::set<std::string>& keys) {
    if (!json.is_object()) {
      return false;
    }
    for (const auto& [key, value] : json.items()) {
      if (!keys.contains(key)) {
        return false;
      }
    }
    return true;
  }
  static bool whole(const Json& value, std::int64_t least, std::int64_t& out) {
    if (!value.is_number_unsigned() || value.get<std::uint64_t>() > std::uint64_t{kNumberMax}) {
      return false;
    }
    out = value.get<std::int64_t>();
    return out >= least;
  }
  static bool is_exponent(const Json& value, int& out) {
    constexpr int kMost = 2048;  // beyond what doubles have
    const bool right = value.is_number_integer() && value.get<std::int64_t>() >= -kMost &&
                       value.get<std::int64_t>() <= kMost;
    out = right ? value.get<int>() : 0;
    return right;
  }
  static bool read_layer(const Json& json, LayerRecord& out) {
    if (!known(json, "layer", {"rank", "alpha", "blocks"}) || !json.contains("rank") ||
        !json.contains("alpha") || !whole(json["rank"], 1, out.rank) ||
        !json["alpha"].is_number() || !std::isfinite(json["alpha"].get<double>())) {
      return false;
    }
    out.alpha = json["alpha"].get<double>();
    if (!json.contains("blocks")) {
      return true;
    }
    if (!json["blocks"].is_array()) {
      return false;
    }
    for (const Json& block : json["blocks"]) {
      RecordBlock one;
      if (!block.is_array() || block.size() < 3 || block.size() > 4 ||
          !whole(block[0], 0, one.hf) || !whole(block[1], 1, one.rank) ||
          !whole(block[2], 0, one.at) || one.at + one.rank > out.rank ||
          (block.size() == 4 && !is_exponent(block[3], one.fold))) {
        return false;
      }
      out.blocks.push_back(one);
    }
    return true;
  }

  const std::string& file_;
};

}  // namespace

std::string record_text(const AdapterRecord& record) {
  Json layers = Json::object();
  for (const auto& [module, layer] : record.layers) {
    Json one = {{"rank", layer.rank}, {"alpha", layer.alpha}};
    if (!layer.blocks.empty()) {
      Json blocks = Json::array();
      for (const RecordBlock& block : layer.blocks) {
        Json numbers = {block.hf, block.rank, block.at};
        if (block.fold != 0) {
          numbers.push_back(block.fold);
        }
        blocks.push_back(std::move(numbers));
      }
      one["blocks"] = std::move(blocks);
    }
    layers[module] = std::move(one);
  }
  Json json = {{"schema", kRecordSchema},
               {"layout", parallel::layout_id(record.layout)},
               {"transformer_engine", record.spelling.transformer_engine},
               {"grouped_experts", record.spelling.grouped_experts},
               {"layers", std::move(layers)},
               {"files", record.files}};
  if (record.layout.first_stage_layers) {
    json["first_stage_layers"] = *record.layout.first_stage_layers;
  }
  if (record.layout.last_stage_layers) {
    json["last_stage_layers"] = *record.layout.last_stage_layers;
  }
  for (const auto& [key, text] :
       {std::pair{"config", &record.config}, std::pair{"weights", &record.weights},
        std::pair{"tensors", &record.tensors}}) {
    if (!text->empty()) {
      json[key] = *text;
    }
  }
  if (record.text_model) {
    json["text_model"] = true;
  }
  return json_text(json, 1) + "\n";
}

Result<AdapterRecord> parse_record(std::string_view text, const std::string& file) {
  auto json = checkpoint::parse_config(text, file);
  if (!json) {
    Error error = std::move(json).error();
    error.code = Code::AdapterInvalid;
    return error;
  }
  return RecordReader(file).read(*json);
}

}  // namespace bv::lora

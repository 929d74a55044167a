#include "core/lora/adapter_config.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <cmath>
#include <functional>
#include <map>
#include <nlohmann/json.hpp>

#include "core/base/json_text.hpp"
#include "core/base/path_pattern.hpp"
#include "core/base/text.hpp"
#include "core/checkpoint/config_text.hpp"
#include "core/io/fault_text.hpp"
#include "core/io/json_cursor.hpp"

namespace bv::lora {
namespace {

using Json = nlohmann::json;

constexpr std::int64_t kRankMax = std::int64_t{1} << 20;
constexpr std::size_t kListMax = std::size_t{1} << 20;

/// What training alone reads: any value is fine.
constexpr std::array kOfTraining = {"auto_mapping",     "corda_config",   "eva_config",
                                    "loftq_config",     "lora_ga_config", "revision",
                                    "inference_mode",   "velora_config",  "megatron_config",
                                    "megatron_core",    "runtime_config", "ensure_weight_tying",
                                    "qalora_group_size"};
/// Initialisations after which the base is no longer the published one.
constexpr std::array kChangesBase = {"pissa", "olora", "corda", "loftq", "lora_ga"};

class ConfigReader {
 public:
  ConfigReader(const Json& json, const std::string& file) : json_(json), file_(file) {}

  Result<AdapterConfig> read() {
    text("peft_type", kind_);
    positive("r", out_.r);
    number("lora_alpha", out_.lora_alpha);
    flag("use_dora", out_.use_dora);
    flag("lora_bias", out_.lora_bias);
    flag("fan_in_fan_out", out_.fan_in_fan_out);
    bool rslora = false;
    flag("use_rslora", rslora);
    out_.scale = rslora ? ScaleKind::RsLora : ScaleKind::Lora;
    read_bias();
    number("lora_dropout", out_.lora_dropout);
    modules("target_modules", out_.target_modules);
    modules("exclude_modules", out_.exclude_modules);
    names("target_parameters", out_.target_parameters);
    names("modules_to_save", out_.modules_to_save);
    names("layers_pattern", out_.layers_pattern);
    numbers("layers_to_transform", out_.layers_to_transform);
    text("base_model_name_or_path", out_.base_model);
    text("task_type", out_.task_type);
    read_version();
    read_patterns();
    read_initialisation();
    for (const auto& [key, value] : json_.items()) {
      check_other(key, value);
    }
    check_presence();
    if (error_) {
      return std::move(*error_);
    }
    return std::move(out_);
  }

 private:
  void wrong(const std::string& key, const std::string& found, const std::string& wanted,
             const std::string& help) {
    if (!error_) {
      error_ = fail(Code::AdapterInvalid,
                    fmt::format("{} of {} cannot be used", key, io::printable(file_)))
                   .at(file_)
                   .pair(found, wanted)
                   .advise(help);
    }
  }
  void wrong_type(const std::string& key, const Json& value, const std::string& wanted) {
    wrong(key,
          io::printable(bounded(value.dump(-1, ' ', false, Json::error_handler_t::replace), 80)),
          wanted, fmt::format("write {} as PEFT writes it", key));
  }

  /// Null stands for the default.
  const Json* find(const std::string& key) {
    read_.push_back(key);
    const auto found = json_.find(key);
    return found == json_.end() || found->is_null() ? nullptr : &*found;
  }
  void text(const std::string& key, std::string& out) {
    if (const Json* value = find(key)) {
      value->is_string() ? void(out = value->get<std::string>())
                         : wrong_type(key, *value, "a string");
    }
  }
  void flag(const std::string& key, bool& out) {
    if (const Json* value = find(key)) {
      value->is_boolean() ? void(out = value->get<bool>())
                          : wrong_type(key, *value, "true or false");
    }
  }
  void number(const std::string& key, double& out) {
    if (const Json* value = find(key)) {
      is_finite(*value) ? void(out = value->get<double>())
                        : wrong_type(key, *value, "a finite number");
    }
  }
  void positive(const std::string& key, std::int64_t& out) {
    if (const Json* value = find(key)) {
      is_rank(*value) ? void(out = value->get<std::int64_t>())
                      : wrong_type(key, *value, fmt::format("a number from 1 to {}", kRankMax));
    }
  }
  /// A merge computes in float32.
  static bool is_finite(const Json& value) {
    return value.is_number() && std::isfinite(static_cast<float>(value.get<double>()));
  }
  static bool is_rank(const Json& value) {
    return value.is_number_integer() &&
           !(value.is_number_unsigned() &&
             value.get<std::uint64_t>() > static_cast<std::uint64_t>(kRankMax)) &&
           value.get<std::int64_t>() >= 1 && value.get<std::int64_t>() <= kRankMax;
  }

  void names(const std::string& key, std::vector<std::string>& out) {
    const Json* value = find(key);
    if (value == nullptr) {
      return;
    }
    if (value->is_string()) {
      out = {value->get<std::string>()};
      return;
    }
    const bool right =
        value->is_array() && value->size() <= kListMax &&
        std::all_of(value->begin(), value->end(), [](const Json& one) { return one.is_string(); });
    right ? void(out = value->get<std::vector<std::string>>())
          : wrong_type(key, *value, "a list of strings");
  }
  void modules(const std::string& key, ModuleNames& out) {
    const Json* value = find(key);
    if (value != nullptr && value->is_string()) {
      out.regex = value->get<std::string>();
      if (out.regex != "all-linear") {
        compile(key, out.regex, PathPattern::Extent::Whole);
      }
      return;
    }
    names(key, out.names);
  }
  void numbers(const std::string& key, std::vector<std::int64_t>& out) {
    const Json* value = find(key);
    if (value == nullptr) {
      return;
    }
    if (value->is_number_unsigned() && is_layer(*value)) {
      out = {value->get<std::int64_t>()};
      return;
    }
    const bool right = value->is_array() && value->size() <= kListMax &&
                       std::all_of(value->begin(), value->end(), is_layer);
    right ? void(out = value->get<std::vector<std::int64_t>>())
          : wrong_type(key, *value, "a list of layer numbers");
  }
  static bool is_layer(const Json& value) {
    return value.is_number_unsigned() && value.get<std::uint64_t>() < (std::uint64_t{1} << 31);
  }

  void compile(const std::string& key, const std::string& pattern, PathPattern::Extent extent) {
    if (auto compiled = PathPattern::compile(pattern, extent); !compiled && !error_) {
      error_ = std::move(compiled).error().at(file_).fact("in " + key);
    }
  }

  void read_bias() {
    std::string word = "none";
    text("bias", word);
    if (word == "all" || word == "lora_only") {
      out_.bias = word == "all" ? Bias::All : Bias::LoraOnly;
    } else if (word != "none") {
      wrong("bias", io::in_quotes(word), "none, all or lora_only", "write one of the three");
    }
  }

  void read_version() {
    std::string version;
    text("peft_version", version);
    if (!version.empty()) {
      out_.peft_version = version;
    }
  }

  /// The order of the file is that of its sorted keys: PEFT writes and reads it so.
  void read_patterns() {
    if (const Json* ranks = pattern_object("rank_pattern")) {
      for (const auto& [pattern, value] : ranks->items()) {
        is_rank(value) ? void(out_.rank_pattern.emplace_back(pattern, value.get<std::int64_t>()))
                       : wrong_type("rank_pattern", value, "numbers from 1 up");
        compile("rank_pattern", pattern, PathPattern::Extent::Suffix);
      }
    }
    if (const Json* alphas = pattern_object("alpha_pattern")) {
      for (const auto& [pattern, value] : alphas->items()) {
        is_finite(value) ? void(out_.alpha_pattern.emplace_back(pattern, value.get<double>()))
                         : wrong_type("alpha_pattern", value, "finite numbers");
        compile("alpha_pattern", pattern, PathPattern::Extent::Suffix);
      }
    }
  }
  const Json* pattern_object(const std::string& key) {
    const Json* value = find(key);
    if (value != nullptr && (!value->is_object() || value->size() > kListMax)) {
      wrong_type(key, *value, "an object of patterns");
      return nullptr;
    }
    return value;
  }

  void read_initialisation() {
    const Json* value = find("init_lora_weights");
    if (value == nullptr || !value->is_string()) {
      return;
    }
    const auto word = value->get<std::string>();
    for (const char* one : kChangesBase) {
      if (lower(word).starts_with(one)) {
        wrong("init_lora_weights", io::in_quotes(word),
              "an initialisation that leaves the base alone",
              "save it with path_initial_model_for_weight_conversion, so that it fits the "
              "published base");
      }
    }
  }
  static std::string lower(std::string text) {
    std::transform(text.begin(), text.end(), text.begin(),
                   [](unsigned char c) { return static_cast<char>(std::tolower(c)); });
    return text;
  }

  /// A key that is not read may change what the adapter computes, unless it says nothing.
  void check_other(const std::string& key, const Json& value) {
    const bool known = std::find(read_.begin(), read_.end(), key) != read_.end() ||
                       std::find(kOfTraining.begin(), kOfTraining.end(), key) != kOfTraining.end();
    const bool says_nothing = value.is_null() || value == false || value == "" ||
                              ((value.is_array() || value.is_object()) && value.empty());
    if (!known && !says_nothing) {
      wrong(bounded(io::printable(key), 80),
            io::printable(bounded(value.dump(-1, ' ', false, Json::error_handler_t::replace), 80)),
            "null: a plain LoRA adapter has nothing there",
            "merge the adapter with the PEFT that made it");
    }
  }

  void check_presence() {
    if (kind_ != "LORA") {
      wrong("peft_type", kind_.empty() ? "nothing" : io::in_quotes(kind_), "LORA",
            "give a LoRA adapter");
    }
    for (const char* key : {"r", "lora_alpha"}) {
      if (!json_.contains(key) || json_[key].is_null()) {
        wrong(key, "nothing", "the number that it was trained with",
              fmt::format("write {}: the scale of every pair hangs on it", key));
      }
    }
  }

  const Json& json_;
  const std::string& file_;
  std::string kind_;
  AdapterConfig out_;
  std::vector<std::string> read_;
  std::optional<Error> error_;
};

/// Python keeps the last of two equal keys: a gate does not guess.
Status no_key_twice(std::string_view text, const std::string& file) {
  io::JsonCursor cursor(text);
  std::optional<Error> error;
  const std::function<bool()> value = [&] {
    if (!cursor.next_is('{')) {
      return cursor.next_is('[') ? cursor.array(value) : cursor.skip_value();
    }
    std::vector<std::string> seen;
    const bool read = cursor.object([&](const io::JsonString& key) {
      seen.push_back(io::unescaped(key));
      return value();
    });
    std::sort(seen.begin(), seen.end());
    const auto twice = std::adjacent_find(seen.begin(), seen.end());
    if (twice != seen.end() && !error) {
      error = fail(Code::DuplicateKey, fmt::format("{} appears twice in one object of {}",
                                                   io::in_quotes(*twice), io::printable(file)))
                  .at(file)
                  .advise("keep the one that is meant");
    }
    return read;
  };
  static_cast<void>(value());  // what is no JSON was refused before
  return error ? Status(std::move(*error)) : Status(Done{});
}

Json sorted_object(const auto& patterns) {
  Json out = Json::object();
  for (const auto& [pattern, value] : patterns) {
    out[pattern] = value;
  }
  return out;
}

Json or_null(const std::vector<std::string>& names) {
  return names.empty() ? Json(nullptr) : Json(names);
}

Json modules_json(const ModuleNames& modules, bool null_when_empty) {
  if (!modules.regex.empty()) {
    return modules.regex;
  }
  return null_when_empty ? or_null(modules.names) : Json(modules.names);
}

/// 16 rather than 16.0, as PEFT has it.
Json number_json(double value) {
  const bool whole = std::floor(value) == value && std::abs(value) < 1e15;
  return whole ? Json(static_cast<std::int64_t>(value)) : Json(value);
}

}  // namespace

Result<AdapterConfig> parse_adapter_config(std::string_view text, const std::string& file) {
  auto json = checkpoint::parse_config(text, file);
  if (!json) {
    Error error = std::move(json).error();
    error.code = Code::AdapterInvalid;
    return error;
  }
  BV_CHECK(no_key_twice(text, file));
  if (!json->is_object()) {
    return fail(Code::AdapterInvalid, io::printable(file) + " is not an object")
        .at(file)
        .advise("give the adapter_config.json that PEFT wrote");
  }
  return ConfigReader(*json, file).read();
}

std::string adapter_config_text(const AdapterConfig& config) {
  Json alphas = Json::object();
  for (const auto& [pattern, alpha] : config.alpha_pattern) {
    alphas[pattern] = number_json(alpha);
  }
  constexpr std::array kBiasWords = {"none", "all", "lora_only"};
  const Json json = {
      {"alpha_pattern", std::move(alphas)},
      {"auto_mapping", nullptr},
      {"base_model_name_or_path", config.base_model},
      {"bias", kBiasWords[static_cast<std::size_t>(config.bias)]},
      {"exclude_modules", modules_json(config.exclude_modules, true)},
      {"fan_in_fan_out", config.fan_in_fan_out},
      {"inference_mode", true},
      {"init_lora_weights", true},
      {"layers_pattern", or_null(config.layers_pattern)},
      {"layers_to_transform",
       config.layers_to_transform.empty() ? Json(nullptr) : Json(config.layers_to_transform)},
      {"lora_alpha", number_json(config.lora_alpha)},
      {"lora_bias", config.lora_bias},
      {"lora_dropout", config.lora_dropout},
      {"modules_to_save", or_null(config.modules_to_save)},
      {"peft_type", "LORA"},
      {"peft_version", config.peft_version ? Json(*config.peft_version) : Json(nullptr)},
      {"r", config.r},
      {"rank_pattern", sorted_object(config.rank_pattern)},
      {"target_modules", modules_json(config.target_modules, false)},
      {"target_parameters", or_null(config.target_parameters)},
      {"task_type", config.task_type},
      {"use_dora", config.use_dora},
      {"use_rslora", config.scale == ScaleKind::RsLora},
  };
  return json_text(json, 2) + "\n";
}

double scale64(ScaleKind kind, double alpha, std::int64_t r) {
  const auto rank = static_cast<double>(r);
  return alpha / (kind == ScaleKind::RsLora ? std::sqrt(rank) : rank);
}

float scale32(ScaleKind kind, double alpha, std::int64_t r) {
  return static_cast<float>(scale64(kind, alpha, r));
}

}  // namespace bv::lora

#pragma once
// adapter_config.json of a PEFT adapter, read strictly: what changes a weight is understood or
// refused.

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "core/base/result.hpp"

namespace bv::lora {

/// Which biases were trained.
enum class Bias { None, All, LoraOnly };

/// s = alpha / r, or alpha / sqrt(r).
enum class ScaleKind { Lora, RsLora };

/// Names of modules: suffixes and full paths, or one regular expression of the whole path.
struct ModuleNames {
  std::vector<std::string> names;
  std::string regex;  // "" unless the file gives one string; "all-linear" is kept as such
  bool operator==(const ModuleNames&) const = default;
};

/// Fields that PEFT reads back; those of other tuners must be at their defaults.
struct AdapterConfig {
  std::int64_t r = 0;
  double lora_alpha = 0;
  /// Pattern of a module path -> number, in the order of the file: PEFT takes the first match.
  std::vector<std::pair<std::string, std::int64_t>> rank_pattern;
  std::vector<std::pair<std::string, double>> alpha_pattern;
  ScaleKind scale = ScaleKind::Lora;
  bool use_dora = false;
  bool lora_bias = false;
  bool fan_in_fan_out = false;
  Bias bias = Bias::None;
  double lora_dropout = 0;
  ModuleNames target_modules;
  ModuleNames exclude_modules;
  std::vector<std::string> target_parameters;
  std::vector<std::string> modules_to_save;
  std::vector<std::int64_t> layers_to_transform;
  std::vector<std::string> layers_pattern;
  std::string base_model;  // base_model_name_or_path
  std::string task_type = "CAUSAL_LM";
  std::optional<std::string> peft_version;  // 0.18 and newer write it
  bool operator==(const AdapterConfig&) const = default;
};

inline constexpr std::uint64_t kAdapterConfigBytesMax = std::uint64_t{16} << 20;

/// `file` is for messages. Errors: AdapterInvalid (a key that is missing, of the wrong type, out of
/// range, or of another tuner), DuplicateKey.
[[nodiscard]] Result<AdapterConfig> parse_adapter_config(std::string_view text,
                                                         const std::string& file);
/// What PEFT reads as the same config: keys sorted, patterns too.
[[nodiscard]] std::string adapter_config_text(const AdapterConfig& config);

/// alpha / r or alpha / sqrt(r) in float64.
[[nodiscard]] double scale64(ScaleKind kind, double alpha, std::int64_t r);
/// The same rounded once to float32: what a merge multiplies by.
[[nodiscard]] float scale32(ScaleKind kind, double alpha, std::int64_t r);

}  // namespace bv::lora

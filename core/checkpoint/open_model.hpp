#pragma once
// A model directory -> an HfModel: config, headers, family, mappings.

#include <filesystem>
#include <functional>
#include <nlohmann/json_fwd.hpp>
#include <string>
#include <vector>

#include "core/checkpoint/hf_model.hpp"

namespace bv::checkpoint {

struct OpenOptions {
  model::ResolveOptions resolve;
  std::vector<std::pair<std::string, std::string>>
      settings;                     // --set PATH=VALUE, applied to the config
  std::string family;               // --family or --rules NAME; "" chooses by the config
  family::FamilyPtr fallback = {};  // taken when no family knows the architecture
  /// The config as the fallback reads it; none: as it stands.
  std::function<nlohmann::json(const nlohmann::json&)> fallback_view = {};
  bool strict = false;
  bool absent_shards = false;  // open a checkpoint whose index names shards that are not there
};

/// Brackets open at once, outside strings: a look at untrusted JSON before it is parsed.
[[nodiscard]] std::size_t json_depth(std::string_view text);
inline constexpr std::size_t kJsonDepthMax = 64;
inline constexpr std::uint64_t kConfigBytesMax = std::uint64_t{16} << 20;

/// Parses config.json. Errors: ConfigField with line, column, that line and a caret; sizes above 16
/// MiB and nesting above 64 are refused before they cost anything.
[[nodiscard]] Result<nlohmann::json> parse_config(std::string_view text, const std::string& file);

/// "text_config.num_key_value_heads" = "32" (JSON when it parses as JSON, else text). Errors:
/// BadValue.
[[nodiscard]] Status apply_setting(nlohmann::json& config, const std::string& path,
                                   const std::string& value);

/// Opens an HF directory. Name faults are in `model.faults`, not errors. With `absent_shards` the
/// names of shards that are not there come from the index: the model then has no checkpoint, shapes
/// are those that are known, and `incomplete` says what is missing.
[[nodiscard]] Result<HfModel> open_hf(const std::filesystem::path& folder,
                                      const std::vector<family::FamilyPtr>& families,
                                      const OpenOptions& options);

/// The same from headers alone (a dump or a published geometry): there are no bytes.
[[nodiscard]] Result<HfModel> open_headers(std::string config_text, const std::string& config_file,
                                           Headers headers,
                                           const std::vector<family::FamilyPtr>& families,
                                           const OpenOptions& options);

}  // namespace bv::checkpoint

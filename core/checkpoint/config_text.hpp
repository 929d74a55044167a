#pragma once
// config.json as Python's json writes and reads it: strict JSON, and the constants Infinity,
// -Infinity and NaN, which transformers stores for unbounded limits.

#include <nlohmann/json_fwd.hpp>
#include <string>
#include <string_view>

#include "core/base/result.hpp"

namespace bv::checkpoint {

/// Brackets open at once, outside strings: a look at untrusted JSON before it is parsed.
[[nodiscard]] std::size_t json_depth(std::string_view text);
inline constexpr std::size_t kJsonDepthMax = 64;
inline constexpr std::uint64_t kConfigBytesMax = std::uint64_t{16} << 20;

/// Parses config.json. The three constants become floating-point numbers that are not finite; every
/// other departure from RFC 8259 is an error. Errors: ConfigField with line, column, that line and
/// a caret; sizes above 16 MiB and nesting above 64 are refused before they cost anything.
[[nodiscard]] Result<nlohmann::json> parse_config(std::string_view text, const std::string& file);

/// The text that parse_config reads as `config`, with the three constants and a line end.
[[nodiscard]] std::string config_text(const nlohmann::json& config);

/// "text_config.num_key_value_heads" = "32" (JSON when it parses as JSON, else text). Errors:
/// BadValue.
[[nodiscard]] Status apply_setting(nlohmann::json& config, const std::string& path,
                                   const std::string& value);

}  // namespace bv::checkpoint

#pragma once
// Names of adapter parameters on the Megatron side.

#include <optional>
#include <string>
#include <string_view>

namespace bv::lora {

inline constexpr std::string_view kAdapterPart = ".adapter.";

/// "….linear_qkv.adapter.adapter_q.linear_in.weight", taken apart.
struct ParameterName {
  std::string module;
  std::string key;
  enum class What { A, B, Magnitude } what = What::A;
};

/// nullopt for a name that no adapter parameter has.
[[nodiscard]] std::optional<ParameterName> parse_parameter(std::string_view name);

}  // namespace bv::lora

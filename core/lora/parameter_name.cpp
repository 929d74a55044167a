#include "core/lora/parameter_name.hpp"

#include <algorithm>

namespace bv::lora {

std::optional<ParameterName> parse_parameter(std::string_view name) {
  const std::size_t at = name.rfind(kAdapterPart);
  if (at == std::string_view::npos || at == 0) {
    return std::nullopt;
  }
  ParameterName out;
  out.module = name.substr(0, at);
  std::string_view rest = name.substr(at + kAdapterPart.size());
  if (rest.starts_with("adapter_")) {
    const std::size_t dot = rest.find('.');
    out.key = rest.substr(0, std::min(dot, rest.size()));
    rest = dot == std::string_view::npos ? "" : rest.substr(dot + 1);
  }
  if (rest == "linear_in.weight" || rest == "linear_out.weight") {
    out.what = rest == "linear_in.weight" ? ParameterName::What::A : ParameterName::What::B;
    return out;
  }
  if (rest == "weight_magnitude") {
    out.what = ParameterName::What::Magnitude;
    return out;
  }
  return std::nullopt;
}

}  // namespace bv::lora

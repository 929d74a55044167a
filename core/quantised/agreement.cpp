#include "core/quantised/agreement.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <cctype>

#include "core/base/text.hpp"
#include "core/kinds/dequantise.hpp"

namespace bv::quantised {
namespace {

/// Methods under which an 8-bit number times its scale is the weight.
constexpr std::array kFloat8Methods = {"",         "fp8",        "compressed-tensors",
                                       "modelopt", "fbgemm_fp8", "quark"};
/// Formats of compressed-tensors that hold these numbers as they are.
constexpr std::array kFloat8Formats = {"", "float-quantized", "naive-quantized", "mixed-precision",
                                       "mxfp8-quantized"};
constexpr std::array kPackedFormats = {"", "pack-quantized", "mixed-precision"};

template <class Words>
bool is_any(const std::string& text, const Words& words) {
  return std::find(words.begin(), words.end(), text) != words.end();
}

std::string contradicts(std::string_view field, const TensorSpec& stored) {
  return fmt::format("config.json says {}, and {} is stored as {} {}", field,
                     readable(name_of(stored.name).parameter), name(stored.dtype),
                     shape_text(stored.shape));
}

/// "e4m3", "float8_e4m3fn", "E5M2": is it the type of the numbers?
bool names_type(const std::string& text, DType dtype) {
  std::string small = text;
  std::transform(small.begin(), small.end(), small.begin(),
                 [](unsigned char c) { return static_cast<char>(std::tolower(c)); });
  const std::size_t at = small.find(dtype == DType::F8E5M2 ? "e5m2" : "e4m3");
  return at != std::string::npos && small.find("fnuz") == std::string::npos;
}

}  // namespace

bool is_mxfp8(std::string_view method) {
  return method == "mxfp8" || method == "modelopt_mxfp8";
}

std::string against_config(const Weight& weight, const Hints& hints) {
  if (!hints.against.empty()) {
    return hints.against;
  }
  const TensorSpec& bits = *weight.bits;
  const std::string method = "quant_method " + hints.method;
  if (kinds::is_float8(bits.dtype)) {
    const bool exponents = weight.scale->dtype == DType::U8 || weight.scale->dtype == DType::F8E8M0;
    if (is_mxfp8(hints.method) && !exponents) {
      return contradicts(method, *weight.scale);
    }
    if (!is_any(hints.method, kFloat8Methods) && !is_mxfp8(hints.method)) {
      return contradicts(method, bits);
    }
    if (!hints.number.empty() && !names_type(hints.number, bits.dtype)) {
      return contradicts("fmt " + hints.number, bits);
    }
    const std::string& algorithm = hints.algorithm;
    if (!algorithm.empty() && algorithm.find("FP8") == std::string::npos &&
        algorithm != "MIXED_PRECISION") {
      return contradicts("quant_algo " + algorithm, bits);
    }
    if (hints.scale_number == "float" && exponents) {
      return contradicts("scale_fmt float", *weight.scale);
    }
  } else if (bits.dtype == DType::U8) {
    if (!hints.method.empty() && hints.method != "mxfp4") {
      return contradicts(method, bits);
    }
  } else if (!hints.method.empty() && hints.method != "compressed-tensors") {
    return contradicts(method, bits);
  }
  return "";
}

std::string against_kind(const Weight& weight, const Kind& kind) {
  const TensorSpec& bits = *weight.bits;
  const bool float8 = kinds::is_float8(bits.dtype);
  if (!kind.type.empty() && kind.type != (float8 ? "float" : "int")) {
    return contradicts("type " + kind.type, bits);
  }
  if (float8 && kind.bits != 0 && kind.bits != 8) {
    return contradicts(fmt::format("{} bits", kind.bits), bits);
  }
  if (!(float8 ? is_any(kind.format, kFloat8Formats) : is_any(kind.format, kPackedFormats))) {
    return contradicts("format " + kind.format, bits);
  }
  if (kind.asymmetric) {
    return "config.json says symmetric false, and no zero point is stored";
  }
  if (!kind.order.empty()) {
    return fmt::format(
        "config.json says actorder {}, and no order of the groups (weight_g_idx) is "
        "stored",
        kind.order);
  }
  return "";
}

}  // namespace bv::quantised

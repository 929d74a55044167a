#include "core/quantised/schemes.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <cctype>
#include <set>

#include "core/base/arith.hpp"
#include "core/base/text.hpp"

namespace bv::quantised {
namespace {

constexpr const char* kFp8 =
    "load it with transformers and FineGrainedFP8Config(dequantize=True), then save_pretrained";
constexpr const char* kMxfp4 =
    "load it with transformers and Mxfp4Config(dequantize=True), then save_pretrained";
constexpr const char* kCompressed =
    "load it with transformers and CompressedTensorsConfig(run_compressed=False), then "
    "save_pretrained";
constexpr const char* kBitsandbytes =
    "load it with transformers, call model.dequantize(), then save_pretrained";
constexpr const char* kMlx = "mlx_lm.convert --dequantize";

bool is_float8(DType dtype) {
  return dtype == DType::F8E4M3 || dtype == DType::F8E5M2 || dtype == DType::F8E4M3FNUZ ||
         dtype == DType::F8E5M2FNUZ;
}

bool is_exponent(DType dtype) {
  return dtype == DType::F8E8M0 || dtype == DType::U8;
}

const TensorSpec* parameter_of(const Stored& stored, const std::string& parameter) {
  const auto found = stored.module.find(parameter);
  return found == stored.module.end() ? nullptr : found->second;
}

const TensorSpec* first_of(const Stored& stored, const std::vector<std::string>& parameters) {
  for (const std::string& parameter : parameters) {
    if (const TensorSpec* found = parameter_of(stored, parameter)) {
      return found;
    }
  }
  return nullptr;
}

/// The scale that the values are multiplied by, of whatever name.
const TensorSpec* scale_of(const Stored& stored) {
  const std::string stem(stored.stem);
  return first_of(stored,
                  {stem + "_scale_inv", stem + "_scale", stem + "_scales", stem + "_weight_scale",
                   stem + ":scale", "_" + stem + "_scale", stem + "._scale", "scale", "scales"});
}

/// "128 x 128 block scales", "per-channel scales", ...: what one number of the scale covers.
std::string granularity(const Stored& stored, const TensorSpec& scale) {
  const Shape& values = stored.bits.shape;
  const Shape& scales = scale.shape;
  const std::int64_t count = element_count(scales).value_or(0);
  const std::size_t n = values.size();
  const bool aligned = n >= 2 && scales.size() == n;
  const auto fit = [&](const std::vector<std::int64_t>& block) {
    return aligned && block.size() == 2 && div_ceil(values[n - 2], block[0]) == scales[n - 2] &&
           div_ceil(values[n - 1], block[1]) == scales[n - 1];
  };
  const bool by_row = aligned && scales[n - 2] == values[n - 2] && values[n - 2] > 1;
  for (const auto& block : {stored.hints.block, stored.hints.squares.size}) {
    if (fit(block) && !(by_row && scales[n - 1] == 1)) {
      return fmt::format("{} x {} block scales", block[0], block[1]);
    }
  }
  if (count == 1) {
    return "a per-tensor scale";
  }
  if (aligned && scales[n - 1] > 1) {
    std::int64_t group = stored.hints.runs.size.empty() ? 0 : stored.hints.runs.size[1];
    for (const Kind& kind : stored.hints.kinds) {
      group = kind.group > 0 && fit({1, kind.group}) ? kind.group : group;
    }
    return by_row && group > 0 ? fmt::format("scales of {} values each", group) : "block scales";
  }
  return n >= 2 && count ==
                       element_count(values).value_or(0) / std::max<std::int64_t>(values.back(), 1)
             ? "per-channel scales"
             : "scales";
}

std::string bits_text(std::int64_t bits) {
  return bits > 0 && bits <= 8 ? fmt::format(" INT{}", bits) : "";
}

/// GPTQ packs the inputs of a row, AWQ the outputs.
Scheme qweight(const Stored& stored) {
  const TensorSpec* scales = parameter_of(stored, "scales");
  const TensorSpec* order = parameter_of(stored, "g_idx");
  const Shape& packed = stored.bits.shape;
  bool awq = order == nullptr && stored.hints.method == "awq";
  std::int64_t bits = stored.hints.bits;
  if (packed.size() == 2 && scales != nullptr && scales->shape.size() == 2) {
    awq = order == nullptr && scales->shape[1] != packed[1];
    const std::int64_t whole = awq                                            ? scales->shape[1]
                               : order != nullptr && order->shape.size() == 1 ? order->shape[0]
                                                                              : 0;
    const auto used = checked_mul(awq ? packed[1] : packed[0], 32);
    bits = whole > 0 && used ? *used / whole : bits;
  }
  return {(awq ? "AWQ" : "GPTQ") + bits_text(bits), ""};
}

/// "MXFP6" of the format mxfp6-pack-quantized, of quant_algo W4A8_MXFP4_FP8, ...: what config.json
/// calls the numbers; "" when it calls them nothing of the kind, or modules differ.
std::string told_number(const Hints& hints) {
  std::set<std::string> out;
  std::vector<std::string> fields = {hints.algorithm};
  for (const Kind& kind : hints.kinds) {
    fields.push_back(kind.format);
  }
  for (std::string& field : fields) {
    std::transform(field.begin(), field.end(), field.begin(),
                   [](unsigned char c) { return static_cast<char>(std::toupper(c)); });
    for (const char* lead : {"MXFP", "NVFP", "MXINT"}) {
      const std::size_t at = field.find(lead);
      if (at == std::string::npos) {
        continue;
      }
      std::size_t end = at + std::string_view(lead).size();
      while (end < field.size() && field[end] >= '0' && field[end] <= '9') {
        ++end;
      }
      out.insert(field.substr(at, end - at));
    }
  }
  return out.size() == 1 ? *out.begin() : "";
}

/// Numbers of fewer than eight bits that share a power of two, 32 each: 16 bytes of them hold four
/// bits a number, 24 bytes six.
std::string mx_number(const Stored& stored, const TensorSpec& scale) {
  const auto bytes = element_count(stored.bits.shape);
  const auto groups = element_count(scale.shape);
  const std::int64_t each = bytes && groups && *groups > 0 ? *bytes / *groups : 0;
  return each == 24 ? "MXFP6" : each == 32 ? "MXFP8" : "MXFP4";
}

/// As config.json calls the numbers; else as their scales show it.
std::string small_number(const Stored& stored, const TensorSpec& scale) {
  const std::string told = told_number(stored.hints);
  return !told.empty() ? told : scale.dtype == DType::F8E4M3 ? "NVFP4" : mx_number(stored, scale);
}

/// A format that config.json names, when it is not that of packed integers.
std::string other_format(const Hints& hints) {
  const std::string format = hints.kinds.empty() ? "" : hints.kinds.front().format;
  const bool alike = std::ranges::all_of(
      hints.kinds, [&format](const Kind& kind) { return kind.format == format; });
  return !alike || format == "pack-quantized" || format == "mixed-precision" ? "" : format;
}

Scheme packed(const Stored& stored) {
  const TensorSpec* scale = scale_of(stored);
  const bool bytes = stored.bits.dtype == DType::U8 || stored.bits.dtype == DType::F4;
  if (bytes && scale != nullptr && (scale->dtype == DType::F8E4M3 || is_exponent(scale->dtype))) {
    return {small_number(stored, *scale) + " (compressed-tensors)", kCompressed};
  }
  const std::string told = told_number(stored.hints);
  if (!told.empty()) {
    return {told + " (compressed-tensors)", kCompressed};
  }
  if (const std::string format = other_format(stored.hints); !format.empty()) {
    return {fmt::format("format {} of compressed-tensors", format), kCompressed};
  }
  return {"compressed-tensors packed integers" + bits_text(stored.hints.bits), kCompressed};
}

std::optional<Scheme> by_name(const Stored& stored) {
  const std::string_view values = stored.values;
  const std::string whole(values);
  if (values == "qweight") {
    return qweight(stored);
  }
  if (values.ends_with("_packed")) {
    return packed(stored);
  }
  if (values == "compressed" && parameter_of(stored, "bitmask") != nullptr) {
    const std::string& format = stored.hints.sparsity;
    return Scheme{
        (format.empty() ? "sparse numbers beside a bitmask" : format) + " (compressed-tensors)",
        ""};
  }
  if (values.ends_with("_blocks") && parameter_of(stored, std::string(stored.stem) + "_scales")) {
    return Scheme{"MXFP4 (blocks and scales)", kMxfp4};
  }
  if (values.ends_with("qdata") || values.ends_with(":_data")) {
    return Scheme{"torchao", ""};
  }
  if (values == "W_q") {
    return Scheme{"HQQ", ""};
  }
  if (values == "weight._data") {
    return Scheme{"optimum-quanto", ""};
  }
  if (parameter_of(stored, whole + ".absmax") != nullptr) {
    const bool nf4 = parameter_of(stored, whole + ".quant_state.bitsandbytes__nf4") != nullptr;
    const bool fp4 = parameter_of(stored, whole + ".quant_state.bitsandbytes__fp4") != nullptr;
    return Scheme{fmt::format("bitsandbytes 4-bit{}", nf4   ? " (NF4)"
                                                      : fp4 ? " (FP4)"
                                                            : ""),
                  kBitsandbytes};
  }
  if (parameter_of(stored, "SCB") != nullptr) {
    return Scheme{"bitsandbytes 8-bit", kBitsandbytes};
  }
  return values == "q_weight"  ? std::optional(Scheme{"EXL2", ""})
         : values == "trellis" ? std::optional(Scheme{"EXL3", ""})
         : values == "Qidxs"   ? std::optional(Scheme{"QuIP#", ""})
                               : std::nullopt;
}

std::string float8_name(DType dtype) {
  return dtype == DType::F8E5M2 || dtype == DType::F8E5M2FNUZ ? "E5M2" : "E4M3";
}

std::optional<Scheme> by_dtype(const Stored& stored) {
  const TensorSpec* scale = scale_of(stored);
  const DType dtype = stored.bits.dtype;
  if (scale == nullptr) {
    return std::nullopt;
  }
  const bool compressed = stored.hints.method == "compressed-tensors";
  if (is_float8(dtype) || is_known_by_name(stored.bits)) {
    const bool fine = (stored.hints.method.empty() || stored.hints.method == "fp8") &&
                      scale->name.ends_with("_scale_inv");  // the only name that it knows
    const std::string number = is_exponent(scale->dtype) ? "MXFP8"
                               : is_known_by_name(stored.bits)
                                   ? "FP8"
                                   : fmt::format("FP8 ({})", float8_name(dtype));
    return Scheme{fmt::format("{} with {}", number,
                              is_known_by_name(*scale) ? "scales" : granularity(stored, *scale)),
                  compressed ? kCompressed
                  : fine     ? kFp8
                             : ""};
  }
  if (dtype == DType::U32) {
    return Scheme{
        parameter_of(stored, "biases") != nullptr ? "MLX (scales and biases)" : "MLX (scales)",
        kMlx};
  }
  const bool halves = dtype == DType::U8 || dtype == DType::F4 || dtype == DType::I8;
  if (halves && (scale->dtype == DType::F8E4M3 || is_exponent(scale->dtype))) {
    return Scheme{small_number(stored, *scale), ""};
  }
  if (dtype == DType::I8) {
    return Scheme{"INT8 with " + granularity(stored, *scale), compressed ? kCompressed : ""};
  }
  return std::nullopt;
}

}  // namespace

bool holds_numbers(DType dtype) {
  return dtype == DType::F16 || dtype == DType::BF16 || dtype == DType::F32 || dtype == DType::F64;
}

bool is_known_by_name(const TensorSpec& spec) {
  return spec.dtype == DType::BF16 && spec.shape.empty();
}

std::optional<Scheme> scheme_of(const Stored& stored) {
  if (auto named = by_name(stored)) {
    return named;
  }
  if (auto typed = by_dtype(stored)) {
    return typed;
  }
  // 64-bit integers beside a scale are positions and counters, unless config.json says otherwise.
  const DType dtype = stored.bits.dtype;
  const bool wide = dtype == DType::I64 || dtype == DType::U64 || dtype == DType::C64;
  if (stored.bits.shape.empty() || (wide && stored.hints.method.empty())) {
    return std::nullopt;
  }
  return Scheme{
      stored.hints.method.empty()
          ? fmt::format("{} values with companion tensors", name(dtype))
          : fmt::format("{} values of {}", name(dtype), escaped(bounded(stored.hints.method, 60))),
      ""};
}

}  // namespace bv::quantised

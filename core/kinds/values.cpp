#include "core/kinds/values.hpp"

#include <bit>
#include <cmath>
#include <cstring>
#include <limits>
#include <vector>

namespace bv::kinds {
namespace {

template <class T>
T read_as(const std::byte* at) {
  T out;
  std::memcpy(&out, at, sizeof out);
  return out;
}

template <class T>
void write_as(std::byte* at, T value) {
  std::memcpy(at, &value, sizeof value);
}

double half_to_double(std::uint16_t bits) {
  const int exponent = (bits >> 10) & 0x1f;
  const int mantissa = bits & 0x3ff;
  const double sign = (bits & 0x8000) != 0 ? -1.0 : 1.0;
  if (exponent == 0x1f) {
    return mantissa == 0 ? sign * std::numeric_limits<double>::infinity()
                         : std::copysign(std::numeric_limits<double>::quiet_NaN(), sign);
  }
  if (exponent == 0) {
    return sign * std::ldexp(static_cast<double>(mantissa), -24);
  }
  return sign * std::ldexp(static_cast<double>(mantissa + 1024), exponent - 25);
}

/// Rounds a finite double to `bits` of significand with least exponent `min_exponent` (of the
/// unit's last place), ties to even.
double round_to(double value, int bits, int min_exponent) {
  if (value == 0.0) {
    return value;
  }
  int exponent = 0;
  std::frexp(value, &exponent);
  const int last_place = std::max(exponent - bits, min_exponent);
  const double scaled = std::ldexp(value, -last_place);
  return std::ldexp(std::nearbyint(scaled), last_place);
}

std::uint16_t double_to_half(double value) {
  const std::uint16_t sign = std::signbit(value) ? 0x8000 : 0;
  if (std::isnan(value)) {
    return static_cast<std::uint16_t>(sign | 0x7e00);
  }
  const double magnitude = std::fabs(std::isinf(value) ? value : round_to(value, 11, -24));
  if (magnitude > 65504.0) {
    return static_cast<std::uint16_t>(sign | 0x7c00);
  }
  if (magnitude < std::ldexp(1.0, -14)) {
    return static_cast<std::uint16_t>(sign | static_cast<std::uint16_t>(std::ldexp(magnitude, 24)));
  }
  int exponent = 0;
  const double fraction = std::frexp(magnitude, &exponent);
  const auto mantissa = static_cast<unsigned>(std::ldexp(fraction, 11)) - 1024U;
  return static_cast<std::uint16_t>(sign | static_cast<unsigned>(exponent + 14) << 10 | mantissa);
}

std::uint16_t double_to_bfloat16(double value) {
  if (std::isnan(value)) {
    return static_cast<std::uint16_t>((std::signbit(value) ? 0x8000 : 0) | 0x7fc0);
  }
  const double rounded = std::isinf(value) ? value : round_to(value, 8, -133);
  // Every bf16 number is a float; beyond the largest float the cast gives infinity, as rounding
  // does.
  return static_cast<std::uint16_t>(std::bit_cast<std::uint32_t>(static_cast<float>(rounded)) >>
                                    16);
}

std::uint64_t bits_of(const std::byte* at, DType dtype) {
  std::uint64_t out = 0;
  std::memcpy(&out, at, static_cast<std::size_t>(bytes(dtype)));
  return out;
}

/// Same element, other width, NaN payload kept as far as it fits: what an exact widening and a bit
/// cast do.
void cast_one(const std::byte* source, DType source_dtype, std::byte* target, DType target_dtype) {
  if (source_dtype == DType::BF16 && target_dtype == DType::F32) {
    write_as(target, static_cast<std::uint32_t>(read_as<std::uint16_t>(source)) << 16);
    return;
  }
  if (source_dtype == DType::F32 && target_dtype == DType::BF16) {
    const auto bits = read_as<std::uint32_t>(source);
    const bool is_nan = (bits & 0x7fffffffU) > 0x7f800000U;
    const bool fits = (bits & 0xffffU) == 0;  // also a NaN whose payload fits keeps its bits
    const std::uint32_t quiet = bits | 0x00400000U;
    const std::uint32_t rounded = fits     ? bits
                                  : is_nan ? quiet
                                           : bits + 0x7fffU + ((bits >> 16) & 1U);
    write_as(target, static_cast<std::uint16_t>(rounded >> 16));
    return;
  }
  store(load(source, source_dtype), target, target_dtype);
}

}  // namespace

bool is_computable(DType dtype) {
  return dtype == DType::F16 || dtype == DType::BF16 || dtype == DType::F32 || dtype == DType::F64;
}

int precision(DType dtype) {
  if (dtype == DType::BF16) {
    return 8;
  }
  if (dtype == DType::F16) {
    return 11;
  }
  BV_ASSERT(dtype == DType::F32 || dtype == DType::F64);
  return dtype == DType::F32 ? 24 : 53;
}

double load(const std::byte* element, DType dtype) {
  if (dtype == DType::BF16) {
    const auto high = static_cast<std::uint32_t>(read_as<std::uint16_t>(element)) << 16;
    return static_cast<double>(std::bit_cast<float>(high));
  }
  if (dtype == DType::F16) {
    return half_to_double(read_as<std::uint16_t>(element));
  }
  if (dtype == DType::F32) {
    return static_cast<double>(read_as<float>(element));
  }
  BV_ASSERT(dtype == DType::F64);
  return read_as<double>(element);
}

void store(double value, std::byte* element, DType dtype) {
  if (dtype == DType::BF16) {
    write_as(element, double_to_bfloat16(value));
  } else if (dtype == DType::F16) {
    write_as(element, double_to_half(value));
  } else if (dtype == DType::F32) {
    write_as(element, static_cast<float>(value));
  } else {
    BV_ASSERT(dtype == DType::F64);
    write_as(element, value);
  }
}

void cast(const std::byte* source, DType source_dtype, std::byte* target, DType target_dtype,
          std::int64_t count) {
  const auto from = static_cast<std::size_t>(bytes(source_dtype));
  const auto to = static_cast<std::size_t>(bytes(target_dtype));
  if (source_dtype == target_dtype) {
    std::memcpy(target, source, from * static_cast<std::size_t>(count));
    return;
  }
  for (std::size_t i = 0; i < static_cast<std::size_t>(count); ++i) {
    cast_one(source + i * from, source_dtype, target + i * to, target_dtype);
  }
}

void add_constant(std::span<std::byte> elements, DType dtype, double delta) {
  const auto size = static_cast<std::size_t>(bytes(dtype));
  for (std::size_t at = 0; at + size <= elements.size(); at += size) {
    // A double holds the exact sum for 8 and 11 bits wherever it matters and rounds once for 24: x
    // +- 1 has at most 53 significant bits unless |x| < 2^-28, where both roundings agree with the
    // single one (tested by brute force).
    store(load(&elements[at], dtype) + delta, &elements[at], dtype);
  }
}

Exactness trace_values(std::span<const std::byte> elements, DType hf, DType megatron,
                       double added) {
  Exactness out;
  const auto size = static_cast<std::size_t>(bytes(hf));
  out.elements = static_cast<std::int64_t>(elements.size() / size);
  const bool widens =
      hf == DType::BF16 && megatron == DType::F32;  // every bit pattern comes back (tested)
  if (added == 0.0 && (hf == megatron || widens)) {
    return out;
  }
  std::byte there[8];
  std::byte here[8];
  for (std::size_t at = 0; at + size <= elements.size(); at += size) {
    std::memcpy(here, &elements[at], size);
    if (added != 0.0) {
      add_constant({here, size}, hf, added);
    }
    cast(here, hf, there, megatron, 1);
    if (added != 0.0) {
      add_constant({there, static_cast<std::size_t>(bytes(megatron))}, megatron, -added);
    }
    cast(there, megatron, here, hf, 1);
    if (std::memcmp(here, &elements[at], size) != 0) {
      if (out.inexact++ == 0) {
        out.first_inexact = static_cast<std::int64_t>(at / size);
        out.first_wanted_bits = bits_of(&elements[at], hf);
        out.first_found_bits = bits_of(here, hf);
      }
    }
  }
  return out;
}

bool minus_one_is_exact(double x, int p) {
  if (std::isinf(x)) {
    return true;
  }
  const auto multiple_of = [](double value, int exponent) {
    const double scaled = std::ldexp(value, -exponent);
    return scaled == std::nearbyint(scaled);
  };
  const double top = std::ldexp(1.0, p);
  if (x == 0.0) {
    return !std::signbit(x);
  }
  if (x > 0.0) {
    if (x < 0.5) {
      return multiple_of(x, -p);
    }
    return x <= top || x >= 2.0 * top || multiple_of(x, 2);
  }
  if (x > -1.0) {
    return multiple_of(x, -(p - 1));
  }
  // Below -1 the difference has the larger magnitude: exact while it stays on the grid of its
  // binade.
  if (x >= -top) {
    int exponent = 0;
    std::frexp(x - 1.0, &exponent);
    return multiple_of(x - 1.0, exponent - p);
  }
  return x <= -2.0 * top || multiple_of(x, 2);
}

bool cast_is_exact(double x, DType target) {
  if (std::isnan(x)) {
    return false;  // payloads are compared bit by bit by trace_values
  }
  std::byte bits[8];
  store(x, bits, target);
  return load(bits, target) == x;
}

}  // namespace bv::kinds

#include "core/kinds/quantised_numbers.hpp"

#include <algorithm>
#include <bit>
#include <cmath>
#include <cstring>
#include <limits>

#include "core/base/arith.hpp"
#include "core/kinds/values.hpp"

namespace bv::kinds {
namespace {

/// E4M3 has no infinity and one NaN; E5M2 is the upper byte of a half.
float float8(std::uint32_t code, DType dtype) {
  const bool wide = dtype == DType::F8E5M2;
  const int mantissa_bits = wide ? 2 : 3;
  const int bias = wide ? 15 : 7;
  const auto mantissa = static_cast<int>(code & ((1U << mantissa_bits) - 1));
  const auto exponent = static_cast<int>(code >> mantissa_bits & (wide ? 0x1fU : 0xfU));
  const float sign = (code & 0x80U) != 0 ? -1.0F : 1.0F;
  if (wide ? exponent == 31 : (code & 0x7fU) == 0x7fU) {
    return wide && mantissa == 0 ? sign * std::numeric_limits<float>::infinity()
                                 : std::numeric_limits<float>::quiet_NaN();
  }
  const int whole = exponent == 0 ? mantissa : mantissa + (1 << mantissa_bits);
  return sign * std::ldexp(static_cast<float>(whole), std::max(exponent, 1) - bias - mantissa_bits);
}

/// E2M1: 0, 0.5, 1, 1.5, 2, 3, 4, 6, and the same negative.
float float4(std::uint32_t code) {
  const auto exponent = static_cast<int>(code >> 1 & 3U);
  const auto mantissa = static_cast<int>(code & 1U);
  const float sign = (code & 8U) != 0 ? -1.0F : 1.0F;
  const int whole = exponent == 0 ? mantissa : mantissa + 2;
  return sign * std::ldexp(static_cast<float>(whole), std::max(exponent, 1) - 2);
}

std::vector<float> numbers_of(const QuantisedForm& form) {
  std::vector<float> out(std::size_t{1} << form.bits);
  for (std::uint32_t code = 0; code < out.size(); ++code) {
    switch (form.values) {
      case QuantisedValues::Float8:
        out[code] = float8(code, form.stored);
        break;
      case QuantisedValues::Fp4Transposed:
        out[code] = float4(code);
        break;
      case QuantisedValues::PackedIntegers:
        out[code] = static_cast<float>(static_cast<int>(code) - (1 << (form.bits - 1)));
        break;
    }
  }
  return out;
}

void round_to(DType dtype, float* numbers, std::int64_t count) {
  std::byte rounded[8];
  for (std::int64_t i = 0; i < count; ++i) {
    const auto* at = static_cast<const void*>(numbers + i);
    cast(static_cast<const std::byte*>(at), DType::F32, rounded, dtype, 1);
    numbers[i] = static_cast<float>(load(rounded, dtype));
  }
}

/// What cast does with a float that is no NaN, inlined.
void store_bfloat16(const float* numbers, std::int64_t count, std::byte* out) {
  for (std::int64_t i = 0; i < count; ++i) {
    const auto bits = std::bit_cast<std::uint32_t>(numbers[i]);
    const bool is_nan = (bits & 0x7fffffffU) > 0x7f800000U;
    const std::uint32_t rounded = bits + 0x7fffU + ((bits >> 16) & 1U);
    const auto high = static_cast<std::uint16_t>((is_nan ? bits | 0x00400000U : rounded) >> 16);
    std::memcpy(out + i * 2, &high, sizeof high);
  }
}

}  // namespace

QuantisedNumbers::QuantisedNumbers(QuantisedForm form, std::span<const std::byte> scales,
                                   DType dtype)
    : form_(std::move(form)), scales_(scales), dtype_(dtype) {
  BV_ASSERT(is_scale(form_.scale) && is_computable(dtype_));
  form_.bits = form_.values == QuantisedValues::Float8          ? 8
               : form_.values == QuantisedValues::Fp4Transposed ? 4
                                                                : form_.bits;
  numbers_ = numbers_of(form_);
  // The byte 255 of MXFP4 is 2^128, which is no float: numbers twice as large, powers half.
  const bool doubled = form_.values == QuantisedValues::Fp4Transposed && form_.scale == DType::U8;
  const int bias = doubled ? 128 : 127;
  for (float& number : numbers_) {
    number = std::ldexp(number, bias - 127);
  }
  for (int exponent = 0; exponent < 256; ++exponent) {
    powers_.push_back(std::ldexp(1.0F, exponent - bias));
  }
  if (form_.scale == DType::F8E8M0) {
    powers_.back() = std::numeric_limits<float>::quiet_NaN();
  }
}

float QuantisedNumbers::scale_at(std::int64_t matrix, std::int64_t block_row,
                                 std::int64_t block_column) const {
  const std::int64_t index =
      form_.one_scale
          ? 0
          : (matrix * form_.scale_rows() + block_row) * form_.scale_columns() + block_column;
  const std::byte* at = scales_.data() + index * bytes(form_.scale);
  if (form_.scale == DType::U8 || form_.scale == DType::F8E8M0) {
    return powers_[std::to_integer<std::size_t>(*at)];
  }
  return static_cast<float>(load(at, form_.scale));
}

void QuantisedNumbers::round(float* products, std::int64_t count, std::byte* out) const {
  const DType type = form_.scale == DType::U8 ? DType::BF16 : form_.scale;
  if (form_.rounds_to_scale && type != DType::F32 && is_computable(type)) {
    round_to(type, products, count);
  }
  if (dtype_ == DType::BF16) {
    store_bfloat16(products, count, out);
    return;
  }
  const auto* first = static_cast<const void*>(products);
  cast(static_cast<const std::byte*>(first), DType::F32, out, dtype_, count);
}

std::int64_t row_bytes(const QuantisedForm& form) {
  return form.columns * form.bits / 8;
}

void unpack_codes(const QuantisedForm& form, std::span<const std::byte> values, std::int64_t line,
                  std::int64_t column, std::span<std::uint8_t> out) {
  const std::byte* at = values.data() + line * row_bytes(form) + column * form.bits / 8;
  if (form.bits == 8) {
    std::memcpy(out.data(), at, out.size());
    return;
  }
  const auto width = static_cast<unsigned>(form.bits);
  const unsigned mask = (1U << width) - 1U;
  auto bit = static_cast<unsigned>(column * form.bits % 8);
  for (std::size_t i = 0; i < out.size(); ++at, bit = 0) {  // words are bytes, lowest first
    const auto codes = std::to_integer<unsigned>(*at);
    for (; bit < 8 && i < out.size(); bit += width) {
      out[i++] = static_cast<std::uint8_t>(codes >> bit & mask);
    }
  }
}

void pack_row(const QuantisedForm& form, std::span<const std::uint8_t> codes, std::byte* row) {
  if (form.bits == 8) {
    std::memcpy(row, codes.data(), codes.size());
    return;
  }
  const auto width = static_cast<unsigned>(form.bits);
  for (std::size_t i = 0; i < codes.size(); ++row) {
    unsigned all = 0;
    for (unsigned bit = 0; bit < 8 && i < codes.size(); bit += width) {
      all |= static_cast<unsigned>(codes[i++]) << bit;
    }
    *row = static_cast<std::byte>(all);
  }
}

std::uint32_t code_at(const QuantisedForm& form, std::span<const std::byte> values,
                      std::int64_t line, std::int64_t column) {
  std::uint8_t out = 0;
  unpack_codes(form, values, line, column, {&out, 1});
  return out;
}

}  // namespace bv::kinds

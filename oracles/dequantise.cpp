#include "oracles/dequantise.hpp"

#include <algorithm>
#include <cmath>
#include <cstring>
#include <limits>

#include "core/base/assert.hpp"

namespace bv::oracle {
namespace {

/// How a binary floating-point type is laid out: exponent and mantissa bits below one sign bit.
struct Layout {
  int exponent_bits;
  int mantissa_bits;
  bool has_infinity;
  [[nodiscard]] int bias() const { return (1 << (exponent_bits - 1)) - 1; }
};

Layout layout_of(DType dtype) {
  if (dtype == DType::F8E4M3) {
    return {4, 3, false};
  }
  if (dtype == DType::F8E5M2) {
    return {5, 2, true};
  }
  if (dtype == DType::F16) {
    return {5, 10, true};
  }
  if (dtype == DType::BF16) {
    return {8, 7, true};
  }
  BV_ASSERT(dtype == DType::F32);
  return {8, 23, true};
}

/// Sign, exponent and mantissa as the standard reads them.
double number_of(std::uint64_t code, const Layout& type) {
  const std::uint64_t mantissa_mask = (std::uint64_t{1} << type.mantissa_bits) - 1;
  const std::uint64_t exponent_mask = (std::uint64_t{1} << type.exponent_bits) - 1;
  const std::uint64_t mantissa = code & mantissa_mask;
  const std::uint64_t exponent = (code >> type.mantissa_bits) & exponent_mask;
  const bool negative = (code >> (type.mantissa_bits + type.exponent_bits) & 1) != 0;
  double out = 0;
  if (exponent == exponent_mask && type.has_infinity) {
    out = mantissa == 0 ? std::numeric_limits<double>::infinity()
                        : std::numeric_limits<double>::quiet_NaN();
  } else if (exponent == exponent_mask && mantissa == mantissa_mask && !type.has_infinity) {
    out = std::numeric_limits<double>::quiet_NaN();
  } else {
    const double fraction = static_cast<double>(mantissa) / std::pow(2.0, type.mantissa_bits);
    out = exponent == 0
              ? fraction * std::pow(2.0, 1 - type.bias())
              : (1.0 + fraction) * std::pow(2.0, static_cast<double>(exponent) - type.bias());
  }
  return negative ? -out : out;
}

std::uint64_t code_at(const StoredNumbers& tensor, std::int64_t element) {
  const auto size = static_cast<std::size_t>(bytes(tensor.dtype));
  std::uint64_t out = 0;
  std::memcpy(&out, tensor.bytes.data() + static_cast<std::size_t>(element) * size, size);
  return out;
}

/// The nearest number of a type, ties to even: scaled so that its last place is one.
double to_nearest(double value, DType dtype) {
  if (!std::isfinite(value) || value == 0.0) {
    return value;
  }
  const Layout type = layout_of(dtype);
  const int least = 1 - type.bias() - type.mantissa_bits;
  const int place = std::max(std::ilogb(value) - type.mantissa_bits, least);
  const double whole = std::nearbyint(std::scalbn(value, -place));
  const double out = std::scalbn(whole, place);
  const double limit = std::scalbn(1.0, type.bias() + 1);
  return std::fabs(out) >= limit ? std::copysign(std::numeric_limits<double>::infinity(), value)
                                 : out;
}

double scale_at(const QuantisedWeight& weight, std::int64_t element) {
  const StoredNumbers& scale = weight.scale;
  const std::uint64_t code = code_at(scale, element);
  if (scale.dtype == DType::U8 || scale.dtype == DType::F8E8M0) {
    return scale.dtype == DType::F8E8M0 && code == 255 ? std::numeric_limits<double>::quiet_NaN()
           : code == 255 && weight.values.dtype != DType::U8
               ? std::numeric_limits<double>::infinity()  // compressed-tensors makes it BF16
               : std::pow(2.0, static_cast<double>(code) - 127.0);
  }
  return number_of(code, layout_of(scale.dtype));
}

std::int64_t product(const std::vector<std::int64_t>& shape, std::size_t first, std::size_t end) {
  std::int64_t out = 1;
  for (std::size_t i = first; i < end; ++i) {
    out *= shape[i];
  }
  return out;
}

/// Where the scale of matrix `m`, row `r`, column `c` of [.., rows, columns] stands.
std::int64_t scale_place(const QuantisedWeight& weight, std::int64_t m, std::int64_t r,
                         std::int64_t c, std::int64_t rows, std::int64_t columns) {
  const auto& shape = weight.scale.shape;
  const std::int64_t count = product(shape, 0, shape.size());
  if (shape.size() < 2) {
    return count == 1 ? 0 : r;  // one for all, or one a row
  }
  const std::int64_t down = shape[shape.size() - 2];
  const std::int64_t across = shape.back();
  // Without a size that is given, only scales that one size explains may be asked for.
  const bool given = weight.block.size() == 2;
  BV_ASSERT(given || (rows % down == 0 && columns % across == 0));
  const std::int64_t high = given ? weight.block[0] : rows / down;
  const std::int64_t wide = given ? weight.block[1] : columns / across;
  BV_ASSERT((rows + high - 1) / high == down && (columns + wide - 1) / wide == across);
  return m * down * across + r / high * across + c / wide;
}

/// The number before it is scaled, and the place of its scale.
struct Found {
  double number = 0;
  std::int64_t scale = 0;
};

Found float8_at(const QuantisedWeight& weight, std::span<const std::int64_t> index) {
  const auto& shape = weight.values.shape;
  std::int64_t flat = 0;
  for (std::size_t i = 0; i < shape.size(); ++i) {
    flat = flat * shape[i] + index[i];
  }
  const std::int64_t columns = shape.empty() ? 1 : shape.back();
  const std::int64_t rows = shape.size() < 2 ? 1 : shape[shape.size() - 2];
  const std::int64_t line = flat / columns;
  return {number_of(code_at(weight.values, flat), layout_of(weight.values.dtype)),
          scale_place(weight, line / rows, line % rows, flat % columns, rows, columns)};
}

/// MX: groups of 32 numbers of four bits share one power of two; rows are stored, columns are the
/// rows of the weight.
Found fp4_at(const QuantisedWeight& weight, std::span<const std::int64_t> index) {
  constexpr double kMagnitudes[8] = {0, 0.5, 1, 1.5, 2, 3, 4, 6};
  const std::int64_t rows = weight.values.shape[1];
  const std::int64_t groups = weight.values.shape[2];
  const std::int64_t group = (index[0] * rows + index[2]) * groups + index[1] / 32;
  const std::uint64_t both = code_at(weight.values, group * 16 + index[1] % 32 / 2);
  const std::uint64_t code = index[1] % 2 == 1 ? both / 16 : both % 16;
  const double magnitude = kMagnitudes[code % 8];
  return {code >= 8 ? -magnitude : magnitude, group};
}

Found integer_at(const QuantisedWeight& weight, std::span<const std::int64_t> index) {
  const std::int64_t in_word = 32 / weight.integer_bits;
  const std::int64_t words = weight.values.shape[1];
  const std::uint64_t word = code_at(weight.values, index[0] * words + index[1] / in_word);
  const double steps = std::pow(2.0, weight.integer_bits);
  const double shifted =
      std::floor(static_cast<double>(word) /
                 std::pow(2.0, static_cast<double>(index[1] % in_word) * weight.integer_bits));
  return {std::fmod(shifted, steps) - steps / 2,
          scale_place(weight, 0, index[0], index[1], weight.values.shape[0], words * in_word)};
}

std::uint64_t bits_of(double value, DType dtype) {
  const Layout type = layout_of(dtype);
  if (std::isnan(value)) {
    return ((std::uint64_t{1} << (type.exponent_bits + 1)) - 1) << (type.mantissa_bits - 1);
  }
  const std::uint64_t sign =
      std::signbit(value) ? std::uint64_t{1} << (type.exponent_bits + type.mantissa_bits) : 0;
  const double magnitude = std::fabs(value);
  if (std::isinf(magnitude)) {
    return sign | ((std::uint64_t{1} << type.exponent_bits) - 1) << type.mantissa_bits;
  }
  const int least = 1 - type.bias();
  if (magnitude < std::scalbn(1.0, least)) {
    return sign | static_cast<std::uint64_t>(std::scalbn(magnitude, type.mantissa_bits - least));
  }
  const int exponent = std::ilogb(magnitude);
  const auto mantissa = static_cast<std::uint64_t>(
      std::scalbn(std::scalbn(magnitude, -exponent) - 1.0, type.mantissa_bits));
  return sign | static_cast<std::uint64_t>(exponent + type.bias()) << type.mantissa_bits | mantissa;
}

Found found_at(const QuantisedWeight& weight, std::span<const std::int64_t> index) {
  return weight.integer_bits != 0           ? integer_at(weight, index)
         : weight.values.dtype == DType::U8 ? fp4_at(weight, index)
                                            : float8_at(weight, index);
}

/// A number with its scale, as the weight has it.
std::uint64_t scaled_bits(const QuantisedWeight& weight, double number, std::int64_t scale,
                          DType dtype) {
  // At most 11 bits by 24 bits: the product is exact in float64.
  const double scaled = to_nearest(number * scale_at(weight, scale), DType::F32);
  const DType type = weight.scale.dtype == DType::U8 ? DType::BF16 : weight.scale.dtype;
  const bool narrow = type == DType::BF16 || type == DType::F16;
  const double product = weight.product_in_scale_type && narrow ? to_nearest(scaled, type) : scaled;
  return bits_of(to_nearest(product, dtype), dtype);
}

/// What a code stands for before it is scaled.
double number_of_code(const QuantisedWeight& weight, std::uint64_t code) {
  constexpr double kSixteen[16] = {0,    0.5,  1,  1.5,  2,  3,  4,  6,
                                   -0.0, -0.5, -1, -1.5, -2, -3, -4, -6};
  if (weight.integer_bits != 0) {
    return static_cast<double>(code) - std::pow(2.0, weight.integer_bits - 1);
  }
  return weight.values.dtype == DType::U8 ? kSixteen[code]
                                          : number_of(code, layout_of(weight.values.dtype));
}

}  // namespace

std::uint64_t dequantised_bits(const QuantisedWeight& weight, std::span<const std::int64_t> index,
                               DType dtype) {
  const Found found = found_at(weight, index);
  return scaled_bits(weight, found.number, found.scale, dtype);
}

std::vector<std::uint64_t> codes_with(const QuantisedWeight& weight,
                                      std::span<const std::int64_t> index, std::uint64_t bits,
                                      DType dtype) {
  const std::int64_t scale = found_at(weight, index).scale;
  const int width = weight.integer_bits != 0           ? weight.integer_bits
                    : weight.values.dtype == DType::U8 ? 4
                                                       : 8;
  std::vector<std::uint64_t> out;
  for (std::uint64_t code = 0; code < std::uint64_t{1} << width; ++code) {
    if (scaled_bits(weight, number_of_code(weight, code), scale, dtype) == bits) {
      out.push_back(code);
    }
  }
  return out;
}

std::uint64_t plain_bits(const std::byte* element, DType dtype) {
  std::uint64_t code = 0;
  std::memcpy(&code, element, static_cast<std::size_t>(bytes(dtype)));
  const double value = number_of(code, layout_of(dtype));
  return std::isnan(value) ? bits_of(value, dtype) : code;
}

}  // namespace bv::oracle

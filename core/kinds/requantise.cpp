#include "core/kinds/requantise.hpp"

#include <algorithm>
#include <array>
#include <bit>
#include <cmath>
#include <cstring>
#include <vector>

#include "core/base/arith.hpp"
#include "core/kinds/quantised_numbers.hpp"
#include "core/kinds/values.hpp"

namespace bv::kinds {
namespace {

constexpr std::size_t kCodesMax = 256;
constexpr std::int64_t kKeptBlocks = 4096;  // tables of a row of blocks, at most

std::uint32_t bits_at(const std::byte* element, std::size_t size) {
  std::uint32_t out = 0;
  std::memcpy(&out, element, size);
  return out;
}

/// A small floating-point number as it is laid out below one sign bit.
struct SmallFloat {
  int mantissa_bits = 3;
  int bias = 7;
  std::uint32_t largest = 0x7e;  // code of the largest number
  std::uint32_t sign = 0x80;
  float steps = 512;  // of the denormal numbers in one
};

/// The code of a number near `value`: where it is not the nearest, the table says so.
std::uint32_t near_code(float value, const SmallFloat& type) {
  const auto bits = std::bit_cast<std::uint32_t>(value);
  const std::uint32_t magnitude = bits & 0x7fffffffU;
  const int exponent = static_cast<int>(magnitude >> 23) - 127 + type.bias;
  const int cut = 23 - type.mantissa_bits;
  const std::uint32_t normal = ((magnitude + (1U << (cut - 1))) >> cut) -
                               (static_cast<std::uint32_t>(127 - type.bias) << type.mantissa_bits);
  const float small = std::min(1.0F, std::fabs(value));  // 1 for a NaN
  const auto denormal = static_cast<std::uint32_t>(small * type.steps + 0.5F);
  const std::uint32_t code = exponent >= 1 ? normal : denormal;
  return std::min(code, type.largest) | ((bits >> 31) != 0 ? type.sign : 0);
}

SmallFloat small_float(const QuantisedForm& form) {
  const auto made = [](int mantissa_bits, int bias, std::uint32_t largest, std::uint32_t sign) {
    return SmallFloat{mantissa_bits, bias, largest, sign,
                      std::ldexp(1.0F, bias - 1 + mantissa_bits)};
  };
  return form.values == QuantisedValues::Fp4Transposed ? made(1, 1, 7, 8)
         : form.stored == DType::F8E5M2                ? made(2, 15, 0x7b, 0x80)
                                                       : made(3, 7, 0x7e, 0x80);
}

/// The same of an integer from -half to half - 1; code 0 is the least.
std::uint32_t near_integer(float number, float half) {
  const float kept = std::clamp(number, -half, half - 1.0F);  // NaN stays
  return kept == kept ? static_cast<std::uint32_t>(kept + half + 0.5F) : 0;
}

/// The bits that each code has under one scale.
struct BlockCodes {
  std::array<std::uint32_t, kCodesMax> bits;
  std::array<std::uint8_t, kCodesMax> least;   // the first code with the same bits
  std::array<std::uint8_t, kCodesMax> shared;  // 1: another code has them too
  float inverse = 0;                           // of the scale; 0 where it helps nothing
};

/// Codes in the order of their numbers: equal bits are neighbours then, since products with one
/// scale keep the order. NaN comes last.
std::vector<std::uint8_t> in_order(std::span<const float> numbers) {
  std::vector<std::uint8_t> out(numbers.size());
  for (std::size_t code = 0; code < out.size(); ++code) {
    out[code] = static_cast<std::uint8_t>(code);
  }
  const auto before = [&](std::uint8_t a, std::uint8_t b) {
    const float x = numbers[a];
    const float y = numbers[b];
    if (std::isnan(x) || std::isnan(y)) {
      return !std::isnan(x) && std::isnan(y);
    }
    return x != y ? x < y : std::signbit(x) && !std::signbit(y);
  };
  std::stable_sort(out.begin(), out.end(), before);
  return out;
}

class Tables {
 public:
  explicit Tables(const QuantisedNumbers& numbers)
      : numbers_(numbers), order_(in_order(numbers.numbers())) {}

  void fill(float scale, BlockCodes& out) const {
    const std::span<const float> numbers = numbers_.numbers();
    const auto size = static_cast<std::size_t>(bytes(numbers_.dtype()));
    std::array<float, kCodesMax> products;
    std::array<std::byte, kCodesMax * sizeof(std::uint64_t)> elements;
    for (std::size_t code = 0; code < numbers.size(); ++code) {
      products[code] = numbers[code] * scale;
    }
    numbers_.round(products.data(), std::ssize(numbers), elements.data());
    for (std::size_t code = 0; code < numbers.size(); ++code) {
      out.bits[code] = bits_at(elements.data() + code * size, size);
    }
    const bool usual = std::isnormal(scale);
    out.inverse = usual && std::isfinite(1.0F / scale) ? 1.0F / scale : 0.0F;
    find_equal(std::isfinite(scale), out);
  }

 private:
  /// Equal bits are neighbours in the order of the numbers where the scale is a number.
  void find_equal(bool neighbours, BlockCodes& out) const {
    for (std::size_t i = 0; i < order_.size();) {
      std::size_t end = i + 1;
      while (end < order_.size() && out.bits[order_[end]] == out.bits[order_[i]]) {
        ++end;
      }
      const std::uint8_t least =
          *std::min_element(order_.begin() + static_cast<std::ptrdiff_t>(i),
                            order_.begin() + static_cast<std::ptrdiff_t>(end));
      for (std::size_t k = i; k < end; ++k) {
        out.least[order_[k]] = least;
        out.shared[order_[k]] = end == i + 1 ? 0 : 1;
      }
      i = end;
    }
    for (std::size_t code = 0; !neighbours && code < order_.size(); ++code) {
      const auto first = std::find(out.bits.begin(), out.bits.end(), out.bits[code]);
      out.least[code] = static_cast<std::uint8_t>(first - out.bits.begin());
      const auto end = out.bits.begin() + static_cast<std::ptrdiff_t>(order_.size());
      out.shared[code] = std::count(out.bits.begin(), end, out.bits[code]) == 1 ? 0 : 1;
    }
  }

  const QuantisedNumbers& numbers_;
  std::vector<std::uint8_t> order_;
};

/// Calls `run(codes, begin, end)` for each run of a row whose elements have one scale, and
/// `begin_row`, `end_row` around those of a row. Blocks of several rows keep the tables of their
/// row of blocks.
template <class BeginRow, class Run, class EndRow>
void for_each_run(const QuantisedNumbers& numbers, std::int64_t begin, std::int64_t end,
                  const BeginRow& begin_row, const Run& run, const EndRow& end_row) {
  const QuantisedForm& form = numbers.form();
  const Tables tables(numbers);
  const bool keeps = form.block_rows > 1 && form.scale_columns() <= kKeptBlocks;
  std::vector<BlockCodes> codes(
      static_cast<std::size_t>(keeps ? std::max<std::int64_t>(form.scale_columns(), 1) : 1));
  std::int64_t held = -1;
  for (std::int64_t line = begin; line < end; ++line) {
    const std::int64_t matrix = line / form.rows;
    const std::int64_t block_row = line % form.rows / form.block_rows;
    const std::int64_t wanted = matrix * div_ceil(form.rows, form.block_rows) + block_row;
    const bool is_new = !keeps || wanted != held;
    held = wanted;
    begin_row(line);
    for (std::int64_t at = 0; at < form.columns;) {
      const std::int64_t block = at / form.block_columns;
      const std::int64_t stop = std::min(form.columns, (block + 1) * form.block_columns);
      BlockCodes& one = codes[keeps ? static_cast<std::size_t>(block) : 0];
      if (is_new) {
        tables.fill(numbers.scale_at(matrix, block_row, block), one);
      }
      run(one, at, stop);
      at = stop;
    }
    end_row(line);
  }
}

/// [columns, count] elements as [count, columns].
std::vector<std::byte> transposed(std::span<const std::byte> plain, std::int64_t columns,
                                  std::int64_t count, std::size_t size) {
  std::vector<std::byte> out(plain.size());
  for (std::int64_t line = 0; line < count; ++line) {
    for (std::int64_t column = 0; column < columns; ++column) {
      std::memcpy(&out[static_cast<std::size_t>(line * columns + column) * size],
                  &plain[static_cast<std::size_t>(column * count + line) * size], size);
    }
  }
  return out;
}

float as_float(std::uint16_t bits, DType dtype) {
  if (dtype == DType::BF16) {
    return std::bit_cast<float>(static_cast<std::uint32_t>(bits) << 16);
  }
  std::byte element[sizeof bits];
  std::memcpy(element, &bits, sizeof bits);
  return static_cast<float>(load(element, dtype));
}
float as_float(std::uint32_t bits, DType) {
  return std::bit_cast<float>(bits);
}

/// The codes of elements under one scale.
template <class Bits, class Guess>
void find_run(const BlockCodes& block, const std::byte* elements, std::size_t count, DType dtype,
              std::size_t codes, const Guess& guess, std::uint8_t* out, CodesFound& found) {
  std::int64_t several = 0;
  for (std::size_t i = 0; i < count; ++i) {
    Bits bits = 0;
    std::memcpy(&bits, elements + i * sizeof bits, sizeof bits);
    std::size_t code = guess(as_float(bits, dtype) * block.inverse);
    if (block.bits[code] != bits) [[unlikely]] {
      const auto end = block.bits.begin() + static_cast<std::ptrdiff_t>(codes);
      code =
          static_cast<std::size_t>(std::find(block.bits.begin(), end, bits) - block.bits.begin());
      if (code == codes) {
        ++found.none;
        out[i] = 0;
        continue;
      }
    }
    several += block.shared[code];
    out[i] = block.least[code];
  }
  found.elements += static_cast<std::int64_t>(count);
  found.several += several;
}

template <class Guess>
CodesFound find_rows(const QuantisedNumbers& numbers, std::int64_t begin, std::int64_t end,
                     std::span<const std::byte> plain, const Guess& guess, std::byte* out) {
  const QuantisedForm& form = numbers.form();
  const DType dtype = numbers.dtype();
  const auto size = static_cast<std::size_t>(bytes(dtype));
  const std::size_t codes = numbers.numbers().size();
  std::vector<std::uint8_t> row(static_cast<std::size_t>(form.columns));
  const std::byte* line_begin = nullptr;
  CodesFound found;
  for_each_run(
      numbers, begin, end,
      [&](std::int64_t line) {
        line_begin = plain.data() + static_cast<std::size_t>((line - begin) * form.columns) * size;
      },
      [&](const BlockCodes& block, std::int64_t at, std::int64_t stop) {
        const auto first = static_cast<std::size_t>(at);
        const auto count = static_cast<std::size_t>(stop - at);
        const std::byte* elements = line_begin + first * size;
        if (size == sizeof(std::uint16_t)) {
          find_run<std::uint16_t>(block, elements, count, dtype, codes, guess, &row[first], found);
        } else {
          find_run<std::uint32_t>(block, elements, count, dtype, codes, guess, &row[first], found);
        }
      },
      [&](std::int64_t line) { pack_row(form, row, out + (line - begin) * row_bytes(form)); });
  return found;
}

}  // namespace

void CodesFound::add(const CodesFound& other) {
  elements += other.elements;
  none += other.none;
  several += other.several;
}

Requantiser::Requantiser(QuantisedForm form, std::span<const std::byte> scales, DType dtype)
    : numbers_(std::make_unique<QuantisedNumbers>(std::move(form), scales, dtype)) {
  BV_ASSERT(bytes(dtype) <= 4 && numbers_->numbers().size() <= kCodesMax);
}

Requantiser::~Requantiser() = default;
Requantiser::Requantiser(Requantiser&&) noexcept = default;

const QuantisedForm& Requantiser::form() const {
  return numbers_->form();
}

DType Requantiser::dtype() const {
  return numbers_->dtype();
}

std::int64_t Requantiser::lines() const {
  const std::int64_t matrix = form().rows * form().columns;
  return matrix == 0 ? 0 : element_count(form().shape).value_or(0) / form().columns;
}

std::int64_t Requantiser::line_bytes() const {
  return row_bytes(form());
}

CodesFound Requantiser::find(std::int64_t begin, std::int64_t end, std::span<const std::byte> plain,
                             std::byte* out) const {
  const QuantisedForm& form = numbers_->form();
  std::vector<std::byte> turned;
  if (form.values == QuantisedValues::Fp4Transposed) {
    turned = transposed(plain, form.columns, end - begin, static_cast<std::size_t>(bytes(dtype())));
    plain = turned;
  }
  if (form.values == QuantisedValues::PackedIntegers) {
    const auto half = static_cast<float>(1 << (form.bits - 1));
    return find_rows(
        *numbers_, begin, end, plain, [half](float number) { return near_integer(number, half); },
        out);
  }
  const SmallFloat type = small_float(form);
  return find_rows(
      *numbers_, begin, end, plain, [type](float number) { return near_code(number, type); }, out);
}

std::int64_t Requantiser::ambiguous(std::int64_t begin, std::int64_t end,
                                    std::span<const std::byte> values) const {
  const QuantisedForm& form = numbers_->form();
  std::vector<std::uint8_t> row(static_cast<std::size_t>(form.columns));
  std::int64_t out = 0;
  for_each_run(
      *numbers_, begin, end, [&](std::int64_t line) { unpack_codes(form, values, line, 0, row); },
      [&](const BlockCodes& block, std::int64_t at, std::int64_t stop) {
        for (; at < stop; ++at) {
          const std::uint8_t code = row[static_cast<std::size_t>(at)];
          out += block.least[code] == code ? 0 : 1;
        }
      },
      [](std::int64_t) {});
  return out;
}

}  // namespace bv::kinds

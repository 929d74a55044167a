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
};

/// The code of a number near `value`: where it is not the nearest, the table says so.
std::uint32_t near_code(float value, const SmallFloat& type) {
  const auto bits = std::bit_cast<std::uint32_t>(value);
  const std::uint32_t magnitude = bits & 0x7fffffffU;
  const int exponent = static_cast<int>(magnitude >> 23) - 127 + type.bias;
  std::uint32_t code = 0;
  if (exponent >= 1) {
    const int cut = 23 - type.mantissa_bits;
    code = ((magnitude + (1U << (cut - 1))) >> cut) -
           (static_cast<std::uint32_t>(127 - type.bias) << type.mantissa_bits);
  } else {
    const float whole = std::ldexp(std::fabs(value), type.bias - 1 + type.mantissa_bits);
    code = static_cast<std::uint32_t>(whole + 0.5F);
  }
  return std::min(code, type.largest) | ((bits >> 31) != 0 ? type.sign : 0);
}

/// What the numbers of one weight have in common, whatever their scale.
class CodeGuess {
 public:
  explicit CodeGuess(const QuantisedForm& form) : half_(std::int64_t{1} << (form.bits - 1)) {
    if (form.values == QuantisedValues::Float8) {
      float_ = form.stored == DType::F8E5M2 ? SmallFloat{2, 15, 0x7b, 0x80} : SmallFloat{};
    } else if (form.values == QuantisedValues::Fp4Transposed) {
      float_ = {1, 1, 7, 8};
    } else {
      is_integer_ = true;
    }
  }

  [[nodiscard]] std::uint32_t of(float number) const {
    if (!is_integer_) {
      return near_code(number, float_);
    }
    const auto limit = static_cast<float>(half_);
    const float kept = std::clamp(number, -limit, limit - 1.0F);  // NaN stays
    return kept == kept ? static_cast<std::uint32_t>(std::lrint(kept) + half_) : 0;
  }

 private:
  SmallFloat float_;
  std::int64_t half_;
  bool is_integer_ = false;
};

/// The bits that each code has under one scale.
struct BlockCodes {
  std::array<std::uint32_t, kCodesMax> bits;
  std::array<std::uint8_t, kCodesMax> least;  // the first code with the same bits
  std::array<bool, kCodesMax> alone;          // no other code has them
  float inverse = 0;                          // of the scale; 0 where it helps nothing
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
        out.alone[order_[k]] = end == i + 1;
      }
      i = end;
    }
    for (std::size_t code = 0; !neighbours && code < order_.size(); ++code) {
      const auto first = std::find(out.bits.begin(), out.bits.end(), out.bits[code]);
      out.least[code] = static_cast<std::uint8_t>(first - out.bits.begin());
      const auto end = out.bits.begin() + static_cast<std::ptrdiff_t>(order_.size());
      out.alone[code] = std::count(out.bits.begin(), end, out.bits[code]) == 1;
    }
  }

  const QuantisedNumbers& numbers_;
  std::vector<std::uint8_t> order_;
};

/// Calls `use(codes, line, begin, end)` for each run of a row whose elements have one scale. Blocks
/// of several rows keep the tables of their row of blocks.
template <class Use>
void for_each_run(const QuantisedNumbers& numbers, std::int64_t begin, std::int64_t end,
                  const Use& use) {
  const QuantisedForm& form = numbers.form();
  const Tables tables(numbers);
  const bool keeps = form.block_rows > 1;
  std::vector<BlockCodes> codes(
      static_cast<std::size_t>(keeps ? std::max<std::int64_t>(form.scale_columns(), 1) : 1));
  std::int64_t held = -1;
  for (std::int64_t line = begin; line < end; ++line) {
    const std::int64_t matrix = line / form.rows;
    const std::int64_t block_row = line % form.rows / form.block_rows;
    const std::int64_t wanted = matrix * div_ceil(form.rows, form.block_rows) + block_row;
    const bool is_new = !keeps || wanted != held;
    held = wanted;
    for (std::int64_t at = 0; at < form.columns;) {
      const std::int64_t block = at / form.block_columns;
      const std::int64_t stop = std::min(form.columns, (block + 1) * form.block_columns);
      BlockCodes& one = codes[keeps ? static_cast<std::size_t>(block) : 0];
      if (is_new) {
        tables.fill(numbers.scale_at(matrix, block_row, block), one);
      }
      use(one, line, at, stop);
      at = stop;
    }
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

float as_float(const std::byte* element, DType dtype, std::uint32_t bits) {
  return dtype == DType::BF16  ? std::bit_cast<float>(bits << 16)
         : dtype == DType::F32 ? std::bit_cast<float>(bits)
                               : static_cast<float>(load(element, dtype));
}

/// The code at one place, in a row that was all zero.
void put_code(const QuantisedForm& form, std::int64_t column, std::uint32_t code, std::byte* row) {
  switch (form.values) {
    case QuantisedValues::Float8:
      row[column] = static_cast<std::byte>(code);
      return;
    case QuantisedValues::Fp4Transposed:
      row[column / 2] |= static_cast<std::byte>(column % 2 == 0 ? code : code << 4);
      return;
    case QuantisedValues::PackedIntegers: {
      const std::int64_t in_word = 32 / form.bits;
      std::uint32_t word = 0;
      std::byte* at = row + column / in_word * 4;
      std::memcpy(&word, at, sizeof word);
      word |= code << (column % in_word * form.bits);
      std::memcpy(at, &word, sizeof word);
      return;
    }
  }
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
  return form().values == QuantisedValues::PackedIntegers
             ? div_ceil(form().columns, 32 / form().bits) * 4
             : form().columns * form().bits / 8;
}

CodesFound Requantiser::find(std::int64_t begin, std::int64_t end, std::span<const std::byte> plain,
                             std::byte* out) const {
  const QuantisedForm& form = numbers_->form();
  const auto size = static_cast<std::size_t>(bytes(dtype()));
  std::vector<std::byte> turned;
  if (form.values == QuantisedValues::Fp4Transposed) {
    turned = transposed(plain, form.columns, end - begin, size);
    plain = turned;
  }
  std::memset(out, 0, static_cast<std::size_t>((end - begin) * line_bytes()));
  const CodeGuess guess(form);
  const std::size_t codes = numbers_->numbers().size();
  CodesFound found;
  for_each_run(*numbers_, begin, end,
               [&](const BlockCodes& block, std::int64_t line, std::int64_t at, std::int64_t stop) {
                 const std::byte* element =
                     plain.data() +
                     static_cast<std::size_t>((line - begin) * form.columns + at) * size;
                 std::byte* row = out + (line - begin) * line_bytes();
                 found.elements += stop - at;
                 for (; at < stop; ++at, element += size) {
                   const std::uint32_t bits = bits_at(element, size);
                   std::size_t code = guess.of(as_float(element, dtype(), bits) * block.inverse);
                   if (block.bits[code] != bits) {
                     code = static_cast<std::size_t>(
                         std::find(block.bits.begin(),
                                   block.bits.begin() + static_cast<std::ptrdiff_t>(codes), bits) -
                         block.bits.begin());
                   }
                   if (code == codes) {
                     ++found.none;
                     continue;
                   }
                   found.several += block.alone[code] ? 0 : 1;
                   put_code(form, at, block.least[code], row);
                 }
               });
  return found;
}

std::int64_t Requantiser::ambiguous(std::int64_t begin, std::int64_t end,
                                    std::span<const std::byte> values) const {
  std::int64_t out = 0;
  for_each_run(*numbers_, begin, end,
               [&](const BlockCodes& block, std::int64_t line, std::int64_t at, std::int64_t stop) {
                 for (; at < stop; ++at) {
                   const std::uint32_t code = code_at(numbers_->form(), values, line, at);
                   out += block.least[code] == code ? 0 : 1;
                 }
               });
  return out;
}

}  // namespace bv::kinds

#include "core/kinds/dequantise.hpp"

#include <algorithm>

#include "core/base/arith.hpp"
#include "core/kinds/quantised_numbers.hpp"

namespace bv::kinds {
namespace {

constexpr std::int64_t kRun = 1024;  // elements that are made at once, at most

}  // namespace

std::int64_t QuantisedForm::scale_rows() const {
  return one_scale ? 1 : div_ceil(rows, block_rows);
}
std::int64_t QuantisedForm::scale_columns() const {
  return one_scale ? 1 : div_ceil(columns, block_columns);
}

bool is_scale(DType dtype) {
  return dtype == DType::F32 || dtype == DType::BF16 || dtype == DType::F16 || dtype == DType::U8 ||
         dtype == DType::F8E8M0;
}

bool is_float8(DType dtype) {
  return dtype == DType::F8E4M3 || dtype == DType::F8E5M2;
}

Dequantiser::Dequantiser(QuantisedForm form, std::span<const std::byte> values,
                         std::span<const std::byte> scales, DType dtype)
    : numbers_(std::make_unique<QuantisedNumbers>(std::move(form), scales, dtype)),
      form_(numbers_->form()),
      values_(values) {}

Dequantiser::~Dequantiser() = default;

/// Numbers of one row, scaled, by runs of one block.
void Dequantiser::make_run(std::int64_t matrix, std::int64_t row, std::int64_t column,
                           std::int64_t count, float* out) const {
  const std::span<const float> numbers = numbers_->numbers();
  const std::int64_t end = column + count;
  std::uint8_t codes[kRun];
  unpack_codes(form_, values_, matrix * form_.rows + row, column,
               {codes, static_cast<std::size_t>(count)});
  const std::uint8_t* code = codes;
  for (std::int64_t at = column; at < end;) {
    const std::int64_t block = at / form_.block_columns;
    const std::int64_t stop = std::min(end, (block + 1) * form_.block_columns);
    const float scale = numbers_->scale_at(matrix, row / form_.block_rows, block);
    for (; at < stop; ++at) {
      *out++ = numbers[*code++] * scale;
    }
  }
}

/// Numbers of one stored column: a row of the weight.
void Dequantiser::make_column(std::int64_t matrix, std::int64_t column, std::int64_t row,
                              std::int64_t count, float* out) const {
  const std::span<const float> numbers = numbers_->numbers();
  for (std::int64_t at = row; at < row + count; ++at) {
    *out++ = numbers[code_at(form_, values_, matrix * form_.rows + at, column)] *
             numbers_->scale_at(matrix, at / form_.block_rows, column / form_.block_columns);
  }
}

std::int64_t Dequantiser::elements() const {
  return element_count(form_.shape).value_or(0);
}

Status Dequantiser::make(std::int64_t begin, std::int64_t end, std::byte* out) const {
  float numbers[kRun];
  const bool transposed = form_.values == QuantisedValues::Fp4Transposed;
  const std::int64_t width = transposed ? form_.rows : form_.columns;  // of the weight
  const std::int64_t height = transposed ? form_.columns : form_.rows;
  const std::int64_t size = bytes(numbers_->dtype());
  for (std::int64_t at = begin; at < end;) {
    const std::int64_t line = at / width;
    const std::int64_t from = at % width;
    const std::int64_t count = std::min({kRun, width - from, end - at});
    if (transposed) {
      make_column(line / height, line % height, from, count, numbers);
    } else {
      make_run(line / height, line % height, from, count, numbers);
    }
    numbers_->round(numbers, count, out);
    out += count * size;
    at += count;
  }
  return Done{};
}

}  // namespace bv::kinds

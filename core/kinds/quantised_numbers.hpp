#pragma once
// What both ways of a quantised weight compute with: the number of each code, the scale of each
// block, and the roundings of their product.

#include <cstddef>
#include <cstdint>
#include <span>
#include <vector>

#include "core/base/dtype.hpp"
#include "core/kinds/dequantise.hpp"

namespace bv::kinds {

class QuantisedNumbers {
 public:
  /// `scales` are the stored bytes, as many as the form says; they must outlive it. `dtype` is
  /// computable.
  QuantisedNumbers(QuantisedForm form, std::span<const std::byte> scales, DType dtype);

  [[nodiscard]] const QuantisedForm& form() const { return form_; }
  [[nodiscard]] DType dtype() const { return dtype_; }
  /// By code, and a block's scale: their product is the value. The numbers of MXFP4 are twice as
  /// large and its scales half, because 2^128, the greatest, is no float.
  [[nodiscard]] std::span<const float> numbers() const { return numbers_; }
  [[nodiscard]] float scale_at(std::int64_t matrix, std::int64_t block_row,
                               std::int64_t block_column) const;
  /// Products of number and scale as elements of the type. The products are changed.
  void round(float* products, std::int64_t count, std::byte* out) const;

 private:
  QuantisedForm form_;
  std::span<const std::byte> scales_;
  DType dtype_;
  std::vector<float> numbers_;
  std::vector<float> powers_;  // by exponent
};

/// The code at a place of the stored tensor; `line` counts the rows of all matrices. Codes of
/// packed numbers fill their row: it has as many columns as its words have room for.
[[nodiscard]] std::uint32_t code_at(const QuantisedForm& form, std::span<const std::byte> values,
                                    std::int64_t line, std::int64_t column);
/// Neighbouring codes of one row from `column` on, as many as `out` has; and a whole row of them,
/// put together.
void unpack_codes(const QuantisedForm& form, std::span<const std::byte> values, std::int64_t line,
                  std::int64_t column, std::span<std::uint8_t> out);
void pack_row(const QuantisedForm& form, std::span<const std::uint8_t> codes, std::byte* row);
/// Bytes of a stored row.
[[nodiscard]] std::int64_t row_bytes(const QuantisedForm& form);

}  // namespace bv::kinds

#pragma once
// Weights that are stored in fewer bits, with scales: what each of their elements is. The exact
// definitions are those of transformers and compressed-tensors
// (docs/reference/semantics.md#dequantised-weights).

#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>

#include "core/base/dtype.hpp"
#include "core/base/element_maker.hpp"
#include "core/base/tensor_spec.hpp"

namespace bv::kinds {

class QuantisedNumbers;

enum class QuantisedValues {
  Float8,          // one number a byte, in the order of the weight
  Fp4Transposed,   // matrices of two numbers a byte, low half first; the weight is their transpose
  PackedIntegers,  // unsigned numbers in words of 32 bits, lowest first; half the range is zero
};

/// How one weight is stored. A weight is matrices [rows, columns] of numbers, each multiplied by
/// the scale of its block; the blocks of the last row and column may be cut by the edge.
///
/// Example: FP8 [192, 130] with blocks of 128 x 128 has scales [2, 2]: element (130, 129) is
/// value(130, 129) * scale(1, 1), in float32, rounded once to the type of the weight.
struct QuantisedForm {
  QuantisedValues values = QuantisedValues::Float8;
  DType stored = DType::F8E4M3;
  DType scale = DType::F32;
  Shape shape;            // of the weight that it stands for
  std::int64_t rows = 1;  // of a matrix as it is stored
  std::int64_t columns = 1;
  std::int64_t block_rows = 1;     // at least 1
  std::int64_t block_columns = 1;  // at least 1
  bool one_scale = false;          // for all matrices together
  int bits = 8;                    // of a packed integer: 2, 4 or 8
  /// The product is rounded to the type of the scale first, to BF16 where that is U8
  /// (compressed-tensors).
  bool rounds_to_scale = false;

  bool operator==(const QuantisedForm&) const = default;
  [[nodiscard]] std::int64_t scale_rows() const;
  [[nodiscard]] std::int64_t scale_columns() const;
};

/// Is it a type of scales? F32, BF16, F16, and exponents: U8 or F8_E8M0, 2^(e - 127).
[[nodiscard]] bool is_scale(DType dtype);
/// Is it an 8-bit floating-point type that Dequantiser reads? E4M3 and E5M2.
[[nodiscard]] bool is_float8(DType dtype);

/// The elements of one weight in `dtype`, which is computable. NaN is some NaN.
class Dequantiser : public ElementMaker {
 public:
  /// `values` and `scales` are the stored bytes, as many as the form says; they must outlive it.
  Dequantiser(QuantisedForm form, std::span<const std::byte> values,
              std::span<const std::byte> scales, DType dtype);
  ~Dequantiser() override;
  [[nodiscard]] Status make(std::int64_t begin, std::int64_t end, std::byte* out) const override;
  [[nodiscard]] std::int64_t elements() const override;

 private:
  void make_run(std::int64_t matrix, std::int64_t row, std::int64_t column, std::int64_t count,
                float* out) const;
  void make_column(std::int64_t matrix, std::int64_t column, std::int64_t row, std::int64_t count,
                   float* out) const;

  std::unique_ptr<const QuantisedNumbers> numbers_;
  const QuantisedForm& form_;  // of the numbers
  std::span<const std::byte> values_;
};

}  // namespace bv::kinds

#pragma once
// W + s * (B * A), as the definition of a merge says it: everything in float32, the sum over k
// ascending by fused multiply-adds, one multiplication, one addition, one rounding to the base's
// dtype. An element whose delta is zero keeps the bytes of its base. The bits do not depend on
// how rows and columns are cut, on threads or on the instruction set.

#include <optional>
#include <span>
#include <vector>

#include "core/base/dtype.hpp"
#include "core/merge/merge_tile.hpp"
#include "core/move/merger.hpp"

namespace bv::lora {

/// A matrix in memory, seen through strides in elements.
struct MatrixView {
  const std::byte* first = nullptr;
  DType dtype = DType::F32;  // F32, BF16 or F16
  std::int64_t rows = 0;
  std::int64_t columns = 0;
  std::int64_t row_stride = 0;
  std::int64_t column_stride = 1;

  [[nodiscard]] const std::byte* at(std::int64_t row, std::int64_t column) const {
    return first + (row * row_stride + column * column_stride) * bytes(dtype);
  }
};
[[nodiscard]] MatrixView transposed(const MatrixView& matrix);

/// Who adds: a device, or the loops of an instruction set.
struct MergeBy {
  MergeBy(MergeIsa with) : isa(with) {}
  MergeBy(MergeIsa with, move::Merger* on) : isa(with), device(on) {}
  MergeIsa isa;
  move::Merger* device = nullptr;

  /// Rows of `row_bytes` that are worth a call.
  [[nodiscard]] std::int64_t rows_at_once(std::int64_t row_bytes) const;
};

/// Rows of a base and where they go; `out` may be the base itself.
struct MergeRows {
  std::int64_t begin = 0;  // of the product: row `begin` is the first one in memory
  std::int64_t end = 0;
  const std::byte* base = nullptr;
  std::byte* out = nullptr;
  std::int64_t base_step = 0;  // bytes from row to row
  std::int64_t out_step = 0;
};

/// scale * left * right, [rows, columns], the right factor packed for the tiles. The left one is
/// viewed: its memory must live.
class MergeProduct {
 public:
  /// left [rows, rank], right [rank, columns].
  MergeProduct(MatrixView left, const MatrixView& right, float scale);

  [[nodiscard]] std::int64_t rows() const { return left_.rows; }
  [[nodiscard]] std::int64_t columns() const { return columns_; }
  [[nodiscard]] std::size_t held_bytes() const { return right_.capacity() * sizeof(float); }

  /// Adds to rows of a base of `dtype` with as many columns. True when an element that the product
  /// changes came out infinite or NaN; `first_unfit` then says which.
  [[nodiscard]] bool add_to(MergeIsa isa, DType dtype, const MergeRows& rows) const;
  /// The same by whoever adds. Errors: those of a device.
  [[nodiscard]] Result<bool> add_by(const MergeBy& by, DType dtype, const MergeRows& rows) const;

  /// The first such element in the order of rows, from the untouched base.
  struct Unfit {
    std::int64_t row = 0, column = 0;
    float base = 0, delta = 0;
  };
  [[nodiscard]] std::optional<Unfit> first_unfit(DType dtype, const MergeRows& rows) const;

 private:
  [[nodiscard]] std::vector<float> dense_right() const;
  void pack_left(std::int64_t begin, std::int64_t end, std::vector<float>& out) const;

  MatrixView left_;
  std::int64_t columns_ = 0;
  float scale_ = 0;
  std::vector<float> right_;  // panels, padded with zeros to the widest tile
};

/// DoRA: row i of base + product times magnitude[i] / its 2-norm. The norm is taken in float64 over
/// all columns of the float32 sums. `rows` of `dtype`; `magnitude` for row `begin` on. Nothing is
/// written for a row without a finite, positive norm: it is returned. Errors: those of a device.
[[nodiscard]] Result<std::optional<std::int64_t>> merge_dora_rows(const MergeBy& by, DType dtype,
                                                                  const MergeProduct& product,
                                                                  std::span<const float> magnitude,
                                                                  const MergeRows& rows);

}  // namespace bv::lora

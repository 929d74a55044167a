#pragma once
// What an adapter adds to one tensor of a merged checkpoint, as float64, and what was found there.

#include <algorithm>
#include <cstdint>
#include <cstring>
#include <functional>
#include <span>
#include <utility>
#include <vector>

#include "core/kinds/values.hpp"
#include "core/lora/adapter.hpp"
#include "core/merge/merge_tensor.hpp"
#include "oracles/lora_merge.hpp"

namespace bv::claims {

/// A matrix that an adapter adds to some rows and columns of one slice of a tensor, as float64.
struct Term {
  std::int64_t expert = 0;
  std::int64_t rank = 0;
  double scale = 1;
  lora::ScaleKind kind = lora::ScaleKind::Lora;
  double alpha = 1;
  std::int64_t divisor = 1;  // r, whose root it is with rsLoRA
  bool exact_products = false;
  std::int64_t rows = 0, columns = 0;
  std::int64_t first_row = 0, row_step = 1, first_column = 0, column_step = 1;
  std::function<double(std::int64_t, std::int64_t)> left;  // [rows, rank]
  std::vector<double> right;                               // [rank][columns]
  std::function<double(std::int64_t)> magnitude;           // DoRA; of a row
  bool by_columns = false;  // row i of the term is a column of the tensor

  /// Row, over all slices of so many, and column of an element of the term in the tensor.
  [[nodiscard]] std::pair<std::int64_t, std::int64_t> place(std::int64_t i, std::int64_t j,
                                                            std::int64_t rows_of_slice) const {
    const std::int64_t row = first_row + i * row_step;
    const std::int64_t column = first_column + j * column_step;
    return by_columns ? std::pair{expert * rows_of_slice + column, row}
                      : std::pair{expert * rows_of_slice + row, column};
  }
};

[[nodiscard]] Term term_of(const lora::AdapterPair& pair);
[[nodiscard]] Term term_of(const lora::BiasDelta& bias);

/// One tensor, in base and merged checkpoint.
struct TwoTensors {
  const TensorSpec& spec;
  std::span<const std::byte> base, found;
  std::int64_t rows = 1, columns = 1;  // of one slice

  TwoTensors(const TensorSpec& of, std::span<const std::byte> left,
             std::span<const std::byte> right, const lora::TensorEdits& edits)
      : spec(of), base(left), found(right) {
    const lora::MatrixSides sides = lora::matrix_sides(of.shape, edits.pairs);
    columns = sides.columns;
    rows = sides.rows;
  }
  [[nodiscard]] std::int64_t size() const { return bytes(spec.dtype); }
  [[nodiscard]] double base_at(std::int64_t element) const {
    return kinds::load(base.data() + element * size(), spec.dtype);
  }
  [[nodiscard]] double found_at(std::int64_t element) const {
    return kinds::load(found.data() + element * size(), spec.dtype);
  }
  [[nodiscard]] bool kept(std::int64_t element) const {
    return std::memcmp(base.data() + element * size(), found.data() + element * size(),
                       static_cast<std::size_t>(size())) == 0;
  }
};

/// Judges rows of one tensor; `row` of a place counts over all slices.
class TensorJudge {
 public:
  explicit TensorJudge(const TwoTensors& sides) : sides_(sides) {}

  /// `scale` may be another than that of the adapter: what a wrong one would have made.
  void term(const Term& term, double scale, oracle::MergeTally& tally) const;

  /// Elements that no term reaches must be the base's, byte for byte.
  void rest(const std::vector<Term>& terms, oracle::MergeTally& tally) const;

 private:
  const TwoTensors& sides_;
};

}  // namespace bv::claims

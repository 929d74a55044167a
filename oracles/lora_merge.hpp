#pragma once
// Is a merged weight W + s * (B * A), as far as float32 can say? Decided in float64 with an error
// bound that holds for every order of summation, with and without fused multiply-adds; nothing is
// shared with the engine. Bound: Higham, Accuracy and Stability of Numerical Algorithms, 3.1.

#include <array>
#include <cstdint>
#include <optional>
#include <span>

#include "core/base/dtype.hpp"

namespace bv::oracle {

/// What the merge of one tensor had to work with.
struct MergeTerms {
  DType dtype = DType::F32;  // of the base and of the merged tensor: F32, BF16 or F16
  std::int64_t rank = 0;
  double scale = 1;             // alpha / r or alpha / sqrt(r)
  bool exact_products = false;  // both factors have at most 12 significant bits: BF16, F16
};

/// Rows of float64, widened exactly from what is stored.
struct MergedRow {
  std::span<const double> base;   // [columns]
  std::span<const double> b;      // [rank]
  std::span<const double> a;      // [rank][columns]
  std::span<const double> found;  // [columns]
};

/// What was found in the elements of a tensor. The error of an element is the least distance from
/// the exact result to a number that rounds to what was found; above its bound it is outside.
struct MergeTally {
  /// Of error over bound: 0; up to 2^-8, 2^-7, ... 2^0; up to 2^4; more.
  static constexpr std::size_t kBins = 12;

  std::int64_t elements = 0;
  std::int64_t outside = 0;
  std::int64_t several = 0;  // elements with more than one admissible value (not for F32)
  double worst = 0;          // error over bound
  std::array<std::int64_t, kBins> histogram{};
  /// Outside as well when the delta may be rounded to the dtype before it is added.
  std::int64_t outside_rounded_delta = 0;

  struct Place {
    std::int64_t row = 0, column = 0;
    double found = 0, exact = 0;
    double least = 0, most = 0;  // admissible
  };
  std::optional<Place> first_outside;
  std::optional<Place> worst_place;

  /// Adds the tally of other rows; places of `this` come first.
  void add(const MergeTally& other);
};

/// `row` names the row in places. Elements whose base is not finite must have kept it.
void judge_merged_row(const MergeTerms& terms, const MergedRow& elements, std::int64_t row,
                      MergeTally& tally);

/// The same with DoRA: the sums are scaled to a row of 2-norm `magnitude`, over all columns. The
/// norm may have been summed in float32. A row whose norm is zero or not finite is outside.
void judge_scaled_row(const MergeTerms& terms, const MergedRow& elements, double magnitude,
                      std::int64_t row, MergeTally& tally);

/// Rounds a float64 to the nearest value of F32, BF16 or F16, ties to even, in one step.
[[nodiscard]] double round_to(DType dtype, double value);

/// The bound on the float32 result before its last rounding: |z - m| for m = w + s*y exactly, and
/// `magnitude` = |s| * sum |b||a|; own error included.
[[nodiscard]] double merge_bound(const MergeTerms& terms, double exact, double magnitude);

}  // namespace bv::oracle

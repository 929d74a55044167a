#pragma once
// What an adapter does to one tensor of its base, range of rows by range of rows.

#include <cstdint>
#include <map>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "core/base/tensor_spec.hpp"
#include "core/lora/adapter.hpp"
#include "core/merge/merge_product.hpp"

namespace bv::lora {

/// Everything of an adapter that changes one tensor.
struct TensorEdits {
  std::vector<const AdapterPair*> pairs;
  std::vector<const BiasDelta*> biases;
  const Replacement* replacement = nullptr;
};
/// By name of the base tensor.
using Edits = std::map<std::string, TensorEdits, std::less<>>;
[[nodiscard]] Edits edits_of(const Adapter& adapter);

/// The delta of a pair as it stands in the base: [out, in], or [in, out] of a transposed one.
[[nodiscard]] MergeProduct product_of(const AdapterPair& pair);

/// Merges a tensor in ascending ranges of whole rows; one thread at a time. Factors are packed when
/// an expert's turn comes and let go when it is over, so that memory is bounded by one pair.
class TensorMerge {
 public:
  /// The adapter must live. `whole`: the bytes of the base, which DoRA on outputs that are columns
  /// (embeddings, a base that stores [in, out]) takes the norms of. Errors: MergeDType for dtypes
  /// that cannot be merged, MergeNotFinite for a column without a finite norm; those of a device.
  static Result<TensorMerge> make(TensorSpec base, TensorEdits edits, const MergeBy& by,
                                  std::span<const std::byte> whole);

  /// Elements of one row: ranges begin and end on multiples of it.
  [[nodiscard]] std::int64_t granule() const { return columns_; }
  /// Of one slice of the stack.
  [[nodiscard]] std::int64_t rows() const { return rows_; }
  [[nodiscard]] std::int64_t elements() const;
  [[nodiscard]] DType dtype() const { return base_.dtype; }
  /// Of this, with the factors that are packed.
  [[nodiscard]] std::size_t held_bytes() const;
  /// Elements from `begin` on. Errors: MergeNotFinite naming tensor and element; those of a device.
  /// Nothing of that range counts then.
  [[nodiscard]] Status apply(std::int64_t begin, std::span<const std::byte> base,
                             std::span<std::byte> out);

 private:
  /// One product and the rows or columns of a slice of the stack that it is added to.
  struct Term {
    const AdapterPair* pair = nullptr;
    const BiasDelta* bias = nullptr;
    std::optional<MergeProduct> product;
    std::vector<float> factors = {};  // DoRA on columns: magnitude over norm, of each output
    [[nodiscard]] std::int64_t expert() const {
      return pair != nullptr && pair->expert >= 0 ? pair->expert : 0;
    }
  };
  /// Rows [begin, end) of a slice, in memory.
  struct Rows {
    std::int64_t expert = 0, begin = 0, end = 0;
    const std::byte* base = nullptr;
    std::byte* out = nullptr;
  };

  TensorMerge(TensorSpec base, TensorEdits edits, const MergeBy& by);
  Status merge_rows(const Rows& rows);
  Status merge_term(Term& term, const Rows& rows);
  Status merge_columns(const Term& term, const Rows& rows);
  [[nodiscard]] Status scale_columns(const Term& term, const Rows& rows) const;
  /// Of the columns of base + delta, summed in float64 over all rows.
  [[nodiscard]] Status take_norms(std::span<const std::byte> whole);
  Status merge_outputs(const Term& term, const Rows& rows);
  [[nodiscard]] Error not_finite(const Term& term, const Rows& rows, std::int64_t first,
                                 std::int64_t step, const MergeRows& merged) const;
  [[nodiscard]] bool covers(const Rows& rows) const;

  TensorSpec base_;
  TensorEdits edits_;
  MergeBy by_;
  std::int64_t rows_ = 1, columns_ = 1;  // of one slice
  std::vector<Term> terms_;
};

}  // namespace bv::lora

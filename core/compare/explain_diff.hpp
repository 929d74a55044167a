#pragma once
// Why two tensors differ: candidate faults are tried on the wrong rows, and the rows that were
// found are looked up among all rows that were wanted.

#include <vector>

#include "core/compare/diff.hpp"
#include "core/compare/division.hpp"

namespace bv::compare {

/// Fills `explanation` of every difference. A cause is named when it explains most of the wrong
/// rows that are examined; its share is its confidence. Errors: as hash_rows, and
/// Division::unite.
[[nodiscard]] Status explain(const Comparison& comparison, const DiffOptions& options,
                             const Division& division, std::vector<Difference>& differences);

/// "rows [o a b c] -> [o b a c]": found row number -> wanted row number of one tensor.
struct RowMove {
  std::int64_t found = 0;
  std::int64_t wanted = 0;
};
/// The simplest regrouping (o, a, b, c) that explains at least half of the moves, or all factors 0:
/// found row ((o * b + y) * a + x) * c + z holds wanted row ((o * a + x) * b + y) * c + z.
struct Regrouping {
  std::int64_t outer = 0, a = 0, b = 0, inner = 0;
  std::int64_t explained = 0;
  bool operator==(const Regrouping&) const = default;
};
[[nodiscard]] Regrouping find_regrouping(std::int64_t rows, const std::vector<RowMove>& moves);

/// The two halves of every block of `block` rows stand in each other's place; block 0 when fewer
/// than half of the moves say so.
struct HalvesExchanged {
  std::int64_t block = 0;
  std::int64_t explained = 0;
  bool operator==(const HalvesExchanged&) const = default;
};
[[nodiscard]] HalvesExchanged find_exchange(std::int64_t rows, const std::vector<RowMove>& moves);
/// Larger tensors get no regrouping; it bounds the divisors that are tried.
inline constexpr std::int64_t kRegroupedRowsMax = std::int64_t{1} << 32;

/// What tells two names apart when they differ in one number: "layer 3 instead of 2".
struct NameShift {
  Cause cause = Cause::OtherTensor;
  std::string text;
  std::int64_t shift = 0;  // of OtherLayer and OtherExpert: the found number less the wanted one
};
[[nodiscard]] NameShift compare_names(std::string_view wanted, std::string_view found);
/// Is it a tensor of a layer of multi-token prediction?
[[nodiscard]] bool is_mtp(std::string_view name);

}  // namespace bv::compare

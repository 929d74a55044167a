#pragma once
// The rows of a tensor that was found where another was wanted.

#include <cstddef>
#include <cstdint>
#include <span>
#include <vector>

#include "core/compare/diff.hpp"

namespace bv::compare {

/// A cause that explains a smaller share of the rows is not named.
inline constexpr double kNamedShare = 0.5;

/// The rows of one found tensor, in units of units_of; its mapped pages are given back at the end.
class FoundRows {
 public:
  FoundRows(const checkpoint::SourceTensor& found, const RowShape& rows);
  ~FoundRows();
  FoundRows(const FoundRows&) = delete;
  FoundRows& operator=(const FoundRows&) = delete;
  /// Rows are not empty.
  [[nodiscard]] bool usable() const { return row_bytes_ > 0; }
  [[nodiscard]] std::size_t row_bytes() const { return row_bytes_; }
  /// Valid until the next call.
  [[nodiscard]] std::span<const std::byte> at(std::int64_t row) const {
    const ByteOffset size(static_cast<std::int64_t>(row_bytes_));
    if (++reads_ % kReadsToRelease == 0) {
      all_.release();
    }
    return all_.read(row * size, (row + 1) * size);
  }
  /// hash_row of a row of any length, whose pages are given back on the way.
  [[nodiscard]] std::uint64_t hash(std::int64_t row) const;

 private:
  /// The kernel reads far more than a row around each: rows spread over 4 GB would map all of it.
  static constexpr std::int64_t kReadsToRelease = 16;
  mutable checkpoint::TensorBytes all_;  // reading uses its window
  mutable std::int64_t reads_ = 0;
  std::size_t row_bytes_ = 0;
};

/// At most `count_max` of `rows`, evenly spread.
[[nodiscard]] std::vector<std::int64_t> spread(const std::vector<std::int64_t>& rows,
                                               std::size_t count_max);
/// At most `count_max` of the rows 0..rows-1, evenly spread.
[[nodiscard]] std::vector<std::int64_t> spread_all(std::int64_t rows, std::size_t count_max);

}  // namespace bv::compare

#pragma once
// The innermost loops of moving and comparing bytes, one set for each instruction set. All sets
// give the same bytes; tests hold them against the scalar one.

#include <cstddef>
#include <cstdint>
#include <span>

namespace bv::move {

enum class Isa { Scalar, Avx2, Avx512 };

/// The widest set that this processor has.
[[nodiscard]] Isa best_isa();

/// `count` rows of `bytes` bytes each; consecutive rows lie `source_step` and `target_step` bytes
/// apart. RowRuns of the target do not overlap.
struct RowRuns {
  std::int64_t count = 0;
  std::int64_t bytes = 0;
  std::int64_t source_step = 0;
  std::int64_t target_step = 0;
};

/// Copies into memory that is used again soon: plain stores, the source is fetched ahead.
void copy_rows(Isa isa, const RowRuns& rows, const std::byte* source, std::byte* target);

/// The same for rows of one element each, of 1, 2, 4 or 8 bytes.
void copy_elements(const RowRuns& rows, const std::byte* source, std::byte* target);

/// True when all rows are equal, byte for byte.
[[nodiscard]] bool equal_rows(Isa isa, const RowRuns& rows, const std::byte* source,
                              const std::byte* target);

/// True when every byte of the rows of the target is zero.
[[nodiscard]] bool zero_rows(const RowRuns& rows, const std::byte* target);

/// True when one of `count` elements of 1, 2, 4 or 8 bytes holds nothing but `filler`.
[[nodiscard]] bool holds_filler(Isa isa, const std::byte* elements, std::int64_t count,
                                std::size_t element_bytes, std::byte filler);

/// Two axes that change places: element (i, j) for i < rows, j < columns goes from
/// source[column(j) + i * source_unit] to target[row(i) + j * target_unit], in elements of
/// `element_bytes` (1, 2, 4 or 8), where row(i) = i / row_ways * target_step + i % row_ways *
/// row_way, and column(j) = j / column_ways * source_step + j % column_ways * column_way.
struct Transpose {
  std::int64_t rows = 0;
  std::int64_t columns = 0;
  std::int64_t source_unit = 1;
  std::int64_t source_step = 0;
  std::int64_t target_step = 0;
  std::int64_t target_unit = 1;
  std::int64_t row_ways = 1;  // rows that lie beside each other at the source part on the target
  std::int64_t row_way = 0;
  std::int64_t column_ways = 1;  // columns from several places alternate on the target
  std::int64_t column_way = 0;

  [[nodiscard]] std::int64_t row(std::int64_t i) const {
    return row_ways == 1 ? i * target_step : i / row_ways * target_step + i % row_ways * row_way;
  }
  [[nodiscard]] std::int64_t column(std::int64_t j) const {
    return column_ways == 1 ? j * source_step
                            : j / column_ways * source_step + j % column_ways * column_way;
  }
};
void copy_transpose(Isa isa, const Transpose& shape, std::size_t element_bytes,
                    const std::byte* source, std::byte* target);

/// True when the target is what copy_transpose makes of the source.
[[nodiscard]] bool equal_transpose(Isa isa, const Transpose& shape, std::size_t element_bytes,
                                   const std::byte* source, const std::byte* target);

}  // namespace bv::move

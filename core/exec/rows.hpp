#pragma once
// The innermost loops of moving and comparing bytes, one set for each instruction set. All sets
// give the same bytes; tests hold them against the scalar one.

#include <cstddef>
#include <cstdint>

namespace bv::exec {

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

/// True when all rows are equal, byte for byte.
[[nodiscard]] bool equal_rows(Isa isa, const RowRuns& rows, const std::byte* source,
                              const std::byte* target);

/// True when every byte of the rows of the target is zero.
[[nodiscard]] bool zero_rows(const RowRuns& rows, const std::byte* target);

/// Copies into memory that is not used again soon: stores pass the caches where the set can. Order
/// the stores with end_stream() before another thread reads them.
void stream_bytes(Isa isa, const std::byte* source, std::byte* target, std::int64_t bytes);
/// The same for rows that fill whole cache lines of the target.
[[nodiscard]] bool fills_lines(Isa isa, const RowRuns& rows, const std::byte* target);
void stream_rows(Isa isa, const RowRuns& rows, const std::byte* source, std::byte* target);
void end_stream();

/// target[i * target_step + j] = source[j * source_step + i * source_unit] for i < rows, j <
/// columns, in elements of `element_bytes` (1, 2, 4 or 8).
struct Transpose {
  std::int64_t rows = 0;
  std::int64_t columns = 0;
  std::int64_t source_unit = 1;
  std::int64_t source_step = 0;
  std::int64_t target_step = 0;
};
void copy_transpose(Isa isa, const Transpose& shape, std::size_t element_bytes,
                    const std::byte* source, std::byte* target);

/// The same into memory that is not used again soon.
void stream_transpose(Isa isa, const Transpose& shape, std::size_t element_bytes,
                      const std::byte* source, std::byte* target);

/// True when the target is what copy_transpose makes of the source.
[[nodiscard]] bool equal_transpose(Isa isa, const Transpose& shape, std::size_t element_bytes,
                                   const std::byte* source, const std::byte* target);

}  // namespace bv::exec

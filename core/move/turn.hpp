#pragma once
// The inner loop of transposes: a block of packed columns becomes rows, while the columns of the
// next one are packed and those further on are fetched. One for each instruction set, all with the
// same bytes; see transpose.cpp for the order of blocks.

#include <algorithm>
#include <cstddef>
#include <cstdint>

#include "core/move/rows.hpp"

namespace bv::move {

/// Rows are taken in strips of so many bytes of each column: three lines in one visit, and packed
/// so far apart, an odd number of lines, so that columns do not share cache sets.
inline constexpr std::int64_t kStripBytes = 192;
/// Twice this, where one strip more would leave a line or less: memory answers single lines slowly.
inline constexpr std::int64_t kShortStripBytes = 128;
/// What is turned at once of each column.
inline constexpr std::int64_t kLaneBytes = 16;
/// Columns are read up to a multiple of this; what is behind the last one is not written.
inline constexpr std::int64_t kColumnsTogether = 64;

/// Rows of the next strip where `left` are left.
[[nodiscard]] inline std::int64_t strip_rows(std::int64_t left, std::int64_t size) {
  const std::int64_t bytes = left * size;
  const bool is_two_short = bytes > kStripBytes && bytes <= 2 * kShortStripBytes;
  return std::min(left, (is_two_short ? kShortStripBytes : kStripBytes) / size);
}

/// Columns of a block at most, and of one of this shape: whole groups of those that alternate.
inline constexpr std::int64_t kBlockColumns = 128;
static_assert(kBlockColumns % kColumnsTogether == 0);
[[nodiscard]] inline std::int64_t block_columns(const Transpose& shape) {
  return kBlockColumns / shape.column_ways * shape.column_ways;
}

/// The columns of a source, strip by strip, in a strip block by block, and in a block one place
/// after the other where columns of several alternate: memory answers pieces slowly that come in
/// turns from places a power of two apart.
class Columns {
 public:
  Columns(const Transpose& shape, std::int64_t size, const std::byte* source)
      : shape_(shape),
        size_(size),
        source_(source),
        step_(shape.source_step * size),
        slot_step_(shape.column_ways * kStripBytes) {
    begin_strip();
  }

  [[nodiscard]] bool is_end() const { return left_ == 0; }
  [[nodiscard]] const std::byte* at() const { return at_; }
  /// Where it is packed, in bytes from the first of the block.
  [[nodiscard]] std::int64_t slot() const { return slot_; }
  [[nodiscard]] std::int64_t rows() const { return rows_; }
  /// From the first row to the last.
  [[nodiscard]] std::int64_t bytes() const { return bytes_; }
  [[nodiscard]] std::int64_t unit() const { return shape_.source_unit; }
  /// Always inline: GCC takes a function that does nothing but fetch for one without an effect, and
  /// drops its calls.
  __attribute__((always_inline)) void fetch() const {
    constexpr std::int64_t kLine = 64;
    __builtin_prefetch(at_, 0, 2);
    if (bytes_ == kStripBytes || bytes_ == kShortStripBytes) {  // without a loop, as in copies
      __builtin_prefetch(at_ + kLine, 0, 2);
      if (bytes_ == kStripBytes) {
        __builtin_prefetch(at_ + 2 * kLine, 0, 2);
      }
      return;
    }
    for (std::int64_t k = kLine; k < bytes_; k += kLine) {
      __builtin_prefetch(at_ + k, 0, 2);
    }
  }
  void next() {
    at_ += step_;
    slot_ += slot_step_;
    if (--left_ == 0) {
      next_run();
    }
  }

 private:
  void begin_strip() {
    rows_ = strip_rows(shape_.rows - row_, size_);
    bytes_ = ((rows_ - 1) * shape_.source_unit + 1) * size_;
    column_ = 0;
    begin_run();
  }
  void begin_run() {
    const std::int64_t columns = std::min(block_columns(shape_), shape_.columns - column_);
    left_ = columns / shape_.column_ways;
    slot_ = way_ * kStripBytes;
    at_ = source_ + (shape_.column(column_ + way_) + row_ * shape_.source_unit) * size_;
  }
  void next_run() {
    if (++way_ < shape_.column_ways) {
      return begin_run();
    }
    way_ = 0;
    column_ += block_columns(shape_);
    if (column_ < shape_.columns) {
      return begin_run();
    }
    row_ += rows_;
    if (row_ < shape_.rows) {
      begin_strip();
    }
  }

  Transpose shape_;
  std::int64_t size_;
  const std::byte* source_;
  std::int64_t step_;
  std::int64_t slot_step_;
  const std::byte* at_ = nullptr;
  std::int64_t slot_ = 0;
  std::int64_t left_ = 0;  // of the run: columns of one place in a block
  std::int64_t way_ = 0;
  std::int64_t column_ = 0;  // first of the block
  std::int64_t row_ = 0;
  std::int64_t rows_ = 0;
  std::int64_t bytes_ = 0;
};

/// Element i of packed column j, which lies at packed[j * kStripBytes + i * size], becomes
/// target_rows[i][j * size], for i < rows, j < columns.
struct TurnTask {
  const std::byte* packed = nullptr;
  std::byte* const* target_rows = nullptr;
  std::int64_t rows = 0;
  std::int64_t columns = 0;
  std::byte* next = nullptr;  // where columns of the next block are packed
  std::int64_t next_columns = 0;
};
/// Both walks go on by task.next_columns, `fetching` up to its end. Rows and columns may be none.
using Turn = void (*)(const TurnTask& task, Columns& packing, Columns& fetching);

/// For elements of 1, 2, 4 or 8 bytes.
[[nodiscard]] Turn turn_of(Isa isa, std::size_t element_bytes);

}  // namespace bv::move

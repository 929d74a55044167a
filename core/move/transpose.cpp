// Boxes whose innermost axis on one side is not the innermost on the other. Columns of the source
// are packed beside each other, in the first-level cache and some steps ahead; what is packed is
// turned into rows. While one block is turned the next one is packed and the one after it fetched,
// a little after each turn: memory and the vector units then work at the same time.

#include <algorithm>
#include <cstring>

#include "core/move/rows.hpp"
#include "core/move/turn.hpp"

namespace bv::move {
namespace {

constexpr std::int64_t kLine = 64;
/// The source is fetched so many columns ahead that memory answers in time, and no further: columns
/// a power of two apart share sets of every cache, and what is fetched must still be there. This
/// and the sizes of strips and blocks were found by trial.
constexpr std::int64_t kColumnsAhead = 32;

/// A block of the target.
struct Block {
  std::int64_t i = 0;
  std::int64_t j = 0;
  std::int64_t rows = 0;
  std::int64_t columns = 0;
};

/// Makes block by block, strip by strip, in the rows that `row_of(block, i)` names, the address of
/// column block.j of row block.i + i, and calls `visit(block)` after each. Stops when that is
/// false.
template <class RowOf, class Visit>
bool for_each_block(Isa isa, const Transpose& shape, std::size_t element_bytes,
                    const std::byte* source, const RowOf& row_of, const Visit& visit) {
  const auto size = static_cast<std::int64_t>(element_bytes);
  const Turn turn = turn_of(isa, element_bytes);
  alignas(kLine) std::byte packs[2][kBlockColumns * kStripBytes];
  std::byte* target_rows[kStripBytes];
  Columns packing(shape, size, source);
  Columns fetching = packing;
  for (std::int64_t n = 0; n < kColumnsAhead && !fetching.is_end(); ++n) {
    fetching.fetch();
    fetching.next();
  }
  Block block{0, 0, strip_rows(shape.rows, size), std::min(block_columns(shape), shape.columns)};
  turn({nullptr, nullptr, 0, 0, packs[0], block.columns}, packing, fetching);
  for (int k = 0; block.rows > 0 && block.columns > 0; k ^= 1) {
    Block after = block;
    after.j += block.columns;
    if (after.j == shape.columns) {
      after.i += block.rows;
      after.j = 0;
    }
    after.rows = strip_rows(shape.rows - after.i, size);
    after.columns = after.rows > 0 ? std::min(block_columns(shape), shape.columns - after.j) : 0;
    for (std::int64_t i = 0; i < block.rows; ++i) {
      target_rows[i] = row_of(block, i);
    }
    turn({packs[k], target_rows, block.rows, block.columns, packs[k ^ 1], after.columns}, packing,
         fetching);
    if (!visit(block)) {
      return false;
    }
    block = after;
  }
  return true;
}

/// The same in a buffer of one block: `visit(rows, from, at)` gets its rows, where they stand, and
/// the byte offset of the first in the target.
template <class Visit>
bool for_each_tile(Isa isa, const Transpose& shape, std::size_t element_bytes,
                   const std::byte* source, const Visit& visit) {
  const auto size = static_cast<std::int64_t>(element_bytes);
  // Rows of a power of two would share a cache set.
  constexpr std::int64_t kRoom = kStripBytes * (kBlockColumns + kLine);
  alignas(kLine) std::byte turned[kRoom];
  const std::int64_t step = kBlockColumns * size + kLine;
  return for_each_block(
      isa, shape, element_bytes, source,
      [&](const Block&, std::int64_t i) { return turned + i * step; },
      [&](const Block& block) {
        for (std::int64_t way = 0; way < std::min(shape.row_ways, block.rows); ++way) {
          const RowRuns rows{(block.rows - way + shape.row_ways - 1) / shape.row_ways,
                             block.columns * size, step * shape.row_ways, shape.target_step * size};
          const std::int64_t at = (shape.row(block.i + way) + block.j * shape.target_unit) * size;
          if (!visit(rows, turned + way * step, at)) {
            return false;
          }
        }
        return true;
      });
}

template <std::size_t kBytes>
bool equal_each(const RowRuns& rows, const std::byte* source, const std::byte* target) {
  bool equal = true;
  for (std::int64_t i = 0; i < rows.count; ++i) {
    equal &= std::memcmp(target + i * rows.target_step, source + i * rows.source_step, kBytes) == 0;
  }
  return equal;
}

bool equal_elements(const RowRuns& rows, const std::byte* source, const std::byte* target) {
  switch (rows.bytes) {
    case 1:
      return equal_each<1>(rows, source, target);
    case 2:
      return equal_each<2>(rows, source, target);
    case 4:
      return equal_each<4>(rows, source, target);
    default:
      return equal_each<8>(rows, source, target);
  }
}

/// One row whose elements lie apart on the target.
RowRuns elements_of(const RowRuns& rows, std::int64_t size, std::int64_t target_unit) {
  return {rows.bytes / size, size, size, target_unit * size};
}

}  // namespace

void copy_transpose(Isa isa, const Transpose& shape, std::size_t element_bytes,
                    const std::byte* source, std::byte* target) {
  const auto size = static_cast<std::int64_t>(element_bytes);
  if (shape.target_unit == 1) {
    for_each_block(
        isa, shape, element_bytes, source,
        [&](const Block& block, std::int64_t i) {
          return target + (shape.row(block.i + i) + block.j) * size;
        },
        [](const Block&) { return true; });
    return;
  }
  for_each_tile(isa, shape, element_bytes, source,
                [&](const RowRuns& rows, const std::byte* from, std::int64_t at) {
                  for (std::int64_t i = 0; i < rows.count; ++i) {
                    copy_elements(elements_of(rows, size, shape.target_unit),
                                  from + i * rows.source_step, target + at + i * rows.target_step);
                  }
                  return true;
                });
}

bool equal_transpose(Isa isa, const Transpose& shape, std::size_t element_bytes,
                     const std::byte* source, const std::byte* target) {
  const auto size = static_cast<std::int64_t>(element_bytes);
  return for_each_tile(isa, shape, element_bytes, source,
                       [&](const RowRuns& rows, const std::byte* from, std::int64_t at) {
                         if (shape.target_unit == 1) {
                           return equal_rows(isa, rows, from, target + at);
                         }
                         bool equal = true;
                         for (std::int64_t i = 0; i < rows.count && equal; ++i) {
                           equal = equal_elements(elements_of(rows, size, shape.target_unit),
                                                  from + i * rows.source_step,
                                                  target + at + i * rows.target_step);
                         }
                         return equal;
                       });
}

}  // namespace bv::move

#pragma once
// Do the parts that ranks of a server hold put together to a factor of an adapter? By putting them
// together, as vLLM's layers read them; nothing is shared with what cut them.

#include <cstddef>
#include <cstdint>
#include <string>
#include <vector>

namespace bv::oracle {

/// Row by row.
struct SlicedMatrix {
  std::int64_t rows = 0, columns = 0;
  std::vector<std::byte> bytes;
};

/// One adapter pair of a layer, and what every rank holds of it for each slice that it covers.
struct SlicedMember {
  SlicedMatrix a, b;
  std::int64_t element_bytes = 0;
  std::vector<std::int64_t> slice_rows;            // of the whole layer, in order
  std::vector<std::vector<SlicedMatrix>> a_parts;  // [rank][slice]
  std::vector<std::vector<SlicedMatrix>> b_parts;
  /// What each rank's part of the base layer has, ascending: rows of a column-parallel layer,
  /// columns of a row-parallel one. Empty: nobody said so.
  std::vector<std::vector<std::int64_t>> base_rows, base_columns;  // [rank]
};

/// "" when they do; else what is wrong, with the rank.
/// A: whole on every rank, or cut by columns (a row-parallel layer), or by rows (fully sharded).
/// B: the rows of each slice, cut into equal parts; where there are fewer parts than ranks,
/// neighbouring ranks hold the same one (key and value heads). A rank that holds other rows, or
/// columns, than its part of the base layer is wrong however well the parts fit together.
[[nodiscard]] std::string wrong_when_put_together(const SlicedMember& member);

}  // namespace bv::oracle

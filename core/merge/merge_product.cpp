#include "core/merge/merge_product.hpp"

#include <algorithm>
#include <array>
#include <cmath>
#include <cstring>

#include "core/base/assert.hpp"

namespace bv::lora {
namespace {

/// So much of the right factor is used over and over while it is in the second-level cache.
constexpr std::int64_t kGroupBytes = std::int64_t{128} << 10;
constexpr std::int64_t kGroupColumnsMax = 1024;
constexpr std::int64_t kWidestTile = 64;
constexpr std::int64_t kFloatMax = 4;  // bytes of the widest base element

std::int64_t group_columns(std::int64_t rank) {
  const std::int64_t fits = kGroupBytes / (std::max<std::int64_t>(1, rank) * kFloatMax);
  return std::clamp(fits / kWidestTile * kWidestTile, kWidestTile, kGroupColumnsMax);
}

/// A tile whose last columns are not there: on a copy.
bool merge_edge(MergeIsa isa, DType dtype, const Tile& tile, std::int64_t columns) {
  std::array<std::byte, kTileRows * kWidestTile * kFloatMax> scratch{};
  const std::int64_t step = tile_columns(isa) * bytes(dtype);
  const auto size = static_cast<std::size_t>(columns * bytes(dtype));
  for (std::int64_t i = 0; i < tile.rows; ++i) {
    std::memcpy(scratch.data() + i * step, tile.base + i * tile.base_step, size);
  }
  Tile whole = tile;
  whole.base = whole.out = scratch.data();
  whole.base_step = whole.out_step = step;
  const bool bad = merge_tile(isa, dtype, whole);
  for (std::int64_t i = 0; i < tile.rows; ++i) {
    std::memcpy(tile.out + i * tile.out_step, scratch.data() + i * step, size);
  }
  return bad;
}

}  // namespace

MatrixView transposed(const MatrixView& matrix) {
  MatrixView out = matrix;
  std::swap(out.rows, out.columns);
  std::swap(out.row_stride, out.column_stride);
  return out;
}

MergeProduct::MergeProduct(MatrixView left, const MatrixView& right, float scale)
    : left_(left), columns_(right.columns), scale_(scale) {
  BV_ASSERT(left.columns == right.rows);
  const std::int64_t rank = right.rows;
  const std::int64_t padded = (columns_ + kWidestTile - 1) / kWidestTile * kWidestTile;
  right_.resize(static_cast<std::size_t>(padded * rank));
  for (std::int64_t j = 0; j < columns_; j += kPanelColumns) {
    const std::int64_t count = std::min(kPanelColumns, columns_ - j);
    for (std::int64_t k = 0; k < rank; ++k) {
      widen_run(right.at(k, j), right.dtype, right.column_stride, count,
                right_.data() + j * rank + k * kPanelColumns);
    }
  }
}

void MergeProduct::pack_left(std::int64_t begin, std::int64_t end, std::vector<float>& out) const {
  const std::int64_t rank = left_.columns;
  const std::int64_t blocks = (end - begin + kTileRows - 1) / kTileRows;
  out.assign(static_cast<std::size_t>(blocks * kTileRows * rank), 0.0F);
  std::vector<float> row(static_cast<std::size_t>(rank));
  for (std::int64_t i = begin; i < end; ++i) {
    widen_run(left_.at(i, 0), left_.dtype, left_.column_stride, rank, row.data());
    float* block =
        out.data() + (i - begin) / kTileRows * kTileRows * rank + (i - begin) % kTileRows;
    for (std::int64_t k = 0; k < rank; ++k) {
      block[k * kTileRows] = row[static_cast<std::size_t>(k)];
    }
  }
}

bool MergeProduct::add_to(MergeIsa isa, DType dtype, const MergeRows& rows) const {
  const std::int64_t rank = left_.columns;
  const std::int64_t size = bytes(dtype);
  const std::int64_t width = tile_columns(isa);
  const std::int64_t group = group_columns(rank);
  std::vector<float> left;
  pack_left(rows.begin, rows.end, left);
  bool bad = false;
  for (std::int64_t first = 0; first < columns_; first += group) {
    const std::int64_t last = std::min(columns_, first + group);
    for (std::int64_t i = 0; i < rows.end - rows.begin; i += kTileRows) {
      Tile tile{left.data() + i * rank,
                nullptr,
                rank,
                scale_,
                nullptr,
                nullptr,
                rows.base_step,
                rows.out_step,
                std::min(kTileRows, rows.end - rows.begin - i)};
      for (std::int64_t j = first; j < last; j += width) {
        tile.right = right_.data() + j * rank;
        tile.base = rows.base + i * rows.base_step + j * size;
        tile.out = rows.out + i * rows.out_step + j * size;
        bad |= j + width <= columns_ ? merge_tile(isa, dtype, tile)
                                     : merge_edge(isa, dtype, tile, columns_ - j);
      }
    }
  }
  return bad;
}

std::optional<MergeProduct::Unfit> MergeProduct::first_unfit(DType dtype,
                                                             const MergeRows& rows) const {
  const std::int64_t rank = left_.columns;
  const float limit = overflow_from(dtype);
  std::vector<float> row(static_cast<std::size_t>(rank));
  for (std::int64_t i = rows.begin; i < rows.end; ++i) {
    for (std::int64_t k = 0; k < rank; ++k) {
      row[static_cast<std::size_t>(k)] = widen(left_.at(i, k), left_.dtype);
    }
    for (std::int64_t j = 0; j < columns_; ++j) {
      const float* right =
          right_.data() + j / kPanelColumns * kPanelColumns * rank + j % kPanelColumns;
      const float delta = scale_ * merge_sum(row.data(), 1, right, kPanelColumns, rank);
      const float base =
          widen(rows.base + (i - rows.begin) * rows.base_step + j * bytes(dtype), dtype);
      if (delta != 0 && !(std::abs(base + delta) < limit)) {
        return Unfit{i, j, base, delta};
      }
    }
  }
  return std::nullopt;
}

}  // namespace bv::lora

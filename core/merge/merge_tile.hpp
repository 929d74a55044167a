#pragma once
// The innermost loops of a merge, one set for each instruction set. All sets give the same bits:
// every element is one chain of fused multiply-adds in ascending k, one multiplication, one
// addition and one rounding; tests hold them against the scalar one.

#include <cstddef>
#include <cstdint>

#include "core/base/dtype.hpp"

namespace bv::lora {

enum class MergeIsa { Scalar, Avx2, Avx512 };
/// Does this processor have it?
[[nodiscard]] bool has_merge_isa(MergeIsa isa);
/// The one that merges take: the widest. Tests compare the tiles of each with the definition where
/// a processor has it.
[[nodiscard]] MergeIsa best_merge_isa();

inline constexpr std::int64_t kTileRows = 6;
/// Columns of one panel of the packed right factor: panel p holds [rank][kPanelColumns] floats.
inline constexpr std::int64_t kPanelColumns = 16;

/// kTileRows x tile_columns(isa) elements: out = base + scale * (left * right). Padding rows of
/// `left` are zero; only `rows` of them are read from `base` and written to `out`, which may be the
/// same memory.
struct Tile {
  const float* left = nullptr;   // [rank][kTileRows]
  const float* right = nullptr;  // consecutive panels
  std::int64_t rank = 0;
  float scale = 0;
  const std::byte* base = nullptr;
  std::byte* out = nullptr;
  std::int64_t base_step = 0;  // bytes from row to row
  std::int64_t out_step = 0;
  std::int64_t rows = kTileRows;
};

[[nodiscard]] constexpr std::int64_t tile_columns(MergeIsa isa) {
  return isa == MergeIsa::Avx512 ? 64 : 16;
}

/// True when an element that the product changes came out infinite or NaN. `dtype`: F32, BF16, F16.
[[nodiscard]] bool merge_tile(MergeIsa isa, DType dtype, const Tile& tile);

/// The sum of one element in the order of the definition: acc = fma(left[k], right[k], acc).
[[nodiscard]] float merge_sum(const float* left, std::int64_t left_step, const float* right,
                              std::int64_t right_step, std::int64_t rank);

/// An element as float32, exact, and the rounding of a float32 to an element, to nearest even.
[[nodiscard]] float widen(const std::byte* element, DType dtype);
void narrow(float value, std::byte* element, DType dtype);
/// `count` elements that are `stride` elements apart, one after another.
void widen_run(const std::byte* first, DType dtype, std::int64_t stride, std::int64_t count,
               float* out);

// The tiles of one instruction set each.
[[nodiscard]] bool merge_tile_avx2(DType dtype, const Tile& tile);
[[nodiscard]] bool merge_tile_avx512(DType dtype, const Tile& tile);

/// From this magnitude on a float32 rounds to infinity in the dtype.
[[nodiscard]] float overflow_from(DType dtype);

}  // namespace bv::lora

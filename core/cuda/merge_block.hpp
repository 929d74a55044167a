#pragma once
// W + s * (B * A) over rows of a base in the memory of a device (docs/reference/semantics.md): each
// element by `merged`, the one definition that the host runs as well.

#include <cstddef>
#include <cstdint>

#include "core/cuda/element.hpp"

namespace bv::cuda {

/// out [rows, columns] = base + scale * (left [rows, rank] * right [rank, columns]), dense,
/// row-major; `out` may be the base.
struct MergeBlock {
  const std::byte* left = nullptr;
  const std::byte* right = nullptr;
  const std::byte* base = nullptr;
  std::byte* out = nullptr;
  std::int64_t rows = 0;
  std::int64_t columns = 0;
  std::int64_t rank = 0;
  DType factor_dtype = DType::F32;  // F32, BF16 or F16, as the base
  DType base_dtype = DType::F32;
  float scale = 0;
  /// On the device: 1 afterwards when an element that the product changes is NaN, or as large as
  /// `limit`; else it is left as it was. Null: nobody asks.
  std::uint32_t* unfit = nullptr;
  float limit = 0;
};

/// A block of threads makes kMergeTile x kMergeTile elements; a thread kMergeEach x kMergeEach of
/// them, kMergeStep apart, with kMergeDepth places of k in fast memory at a time.
inline constexpr std::int64_t kMergeTile = 64;
inline constexpr std::int64_t kMergeStep = 16;
inline constexpr std::int64_t kMergeEach = kMergeTile / kMergeStep;
inline constexpr std::int64_t kMergeThreads = kMergeStep * kMergeStep;
inline constexpr std::int64_t kMergeDepth = 16;

struct MergeShared {
  float left[kMergeDepth][kMergeTile];
  float right[kMergeDepth][kMergeTile];
};

[[nodiscard]] BV_HOST_DEVICE constexpr std::int64_t merge_tiles(const MergeBlock& block) {
  return ((block.rows + kMergeTile - 1) / kMergeTile) *
         ((block.columns + kMergeTile - 1) / kMergeTile);
}

/// One thread of one tile; it is run in phases, each by all threads before the next.
class MergeThread {
 public:
  BV_HOST_DEVICE MergeThread(const MergeBlock& block, std::int64_t tile, std::int64_t thread)
      : block_(block), thread_(thread) {
    const std::int64_t across = (block.columns + kMergeTile - 1) / kMergeTile;
    row_ = tile / across * kMergeTile;
    column_ = tile % across * kMergeTile;
    BV_UNROLL
    for (auto& sums : sums_) {
      BV_UNROLL
      for (float& sum : sums) {
        sum = 0;
      }
    }
  }

  /// Places [k, k + kMergeDepth) of both factors.
  BV_HOST_DEVICE void load(MergeShared& shared, std::int64_t k) const {
    const int width = element::width(block_.factor_dtype);
    for (std::int64_t n = thread_; n < kMergeDepth * kMergeTile; n += kMergeThreads) {
      const std::int64_t at = n % kMergeTile;
      const std::int64_t depth = n / kMergeTile;
      const bool there = k + depth < block_.rank;
      const std::int64_t row = row_ + at;
      const std::int64_t column = column_ + at;
      shared.left[depth][at] =
          there && row < block_.rows
              ? value(block_.left + (row * block_.rank + k + depth) * width, width)
              : 0;
      shared.right[depth][at] =
          there && column < block_.columns
              ? value(block_.right + ((k + depth) * block_.columns + column) * width, width)
              : 0;
    }
  }

  /// One fused multiply-add for each k, ascending: the order of the definition.
  BV_HOST_DEVICE void add(const MergeShared& shared, std::int64_t k) {
    const std::int64_t depth = block_.rank - k < kMergeDepth ? block_.rank - k : kMergeDepth;
    for (std::int64_t one = 0; one < depth; ++one) {
      BV_UNROLL
      for (std::int64_t i = 0; i < kMergeEach; ++i) {
        const float left = shared.left[one][row_in() + i * kMergeStep];
        BV_UNROLL
        for (std::int64_t j = 0; j < kMergeEach; ++j) {
          sums_[i][j] =
              element::fused(left, shared.right[one][column_in() + j * kMergeStep], sums_[i][j]);
        }
      }
    }
  }

  BV_HOST_DEVICE void store() const {
    const int width = element::width(block_.base_dtype);
    BV_UNROLL
    for (std::int64_t i = 0; i < kMergeEach; ++i) {
      BV_UNROLL
      for (std::int64_t j = 0; j < kMergeEach; ++j) {
        const std::int64_t row = row_ + row_in() + i * kMergeStep;
        const std::int64_t column = column_ + column_in() + j * kMergeStep;
        if (row < block_.rows && column < block_.columns) {
          const std::int64_t at = (row * block_.columns + column) * width;
          const MergedBits one = with_sum(element::read(block_.base + at, width), block_.base_dtype,
                                          block_.scale, sums_[i][j]);
          element::write(block_.out + at, one.bits, width);
          if (block_.unfit != nullptr && !(one.sum < block_.limit && one.sum > -block_.limit)) {
            *block_.unfit = 1;  // many threads may, and all write the same
          }
        }
      }
    }
  }

 private:
  [[nodiscard]] BV_HOST_DEVICE std::int64_t row_in() const { return thread_ / kMergeStep; }
  [[nodiscard]] BV_HOST_DEVICE std::int64_t column_in() const { return thread_ % kMergeStep; }
  [[nodiscard]] BV_HOST_DEVICE float value(const std::byte* at, int width) const {
    return element::as_float(element::read(at, width), block_.factor_dtype);
  }

  MergeBlock block_;
  std::int64_t thread_;
  std::int64_t row_ = 0;
  std::int64_t column_ = 0;
  float sums_[kMergeEach][kMergeEach];
};

}  // namespace bv::cuda

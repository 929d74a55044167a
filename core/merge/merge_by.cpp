// Products that a device adds, and DoRA, whose norms are taken of sums that either may have made.

#include <algorithm>
#include <cmath>

#include "core/merge/merge_product.hpp"

namespace bv::lora {
namespace {

constexpr std::int64_t kBytesAtOnce = std::int64_t{256} << 10;
constexpr std::int64_t kDeviceBytesAtOnce = std::int64_t{16} << 20;

/// One row of sums as DoRA scales it; false, and nothing is written, without a finite norm.
bool write_dora_row(std::span<const float> sums, float magnitude, DType dtype, std::byte* out) {
  double squares = 0;
  for (const float sum : sums) {
    squares += static_cast<double>(sum) * static_cast<double>(sum);
  }
  const double norm = std::sqrt(squares);  // no number where a sum is none
  const auto factor = static_cast<float>(static_cast<double>(magnitude) / norm);
  const float limit = overflow_from(dtype);
  const bool fits = std::all_of(sums.begin(), sums.end(), [&](float sum) {
    return std::abs(factor * sum) < limit;  // false for NaN
  });
  if (!(norm > 0) || !std::isfinite(norm) || !fits) {
    return false;
  }
  for (const float sum : sums) {
    narrow(factor * sum, out, dtype);
    out += bytes(dtype);
  }
  return true;
}

}  // namespace

std::int64_t MergeBy::rows_at_once(std::int64_t row_bytes) const {
  const std::int64_t most = device == nullptr ? kBytesAtOnce : kDeviceBytesAtOnce;
  return std::max(kTileRows, most / std::max<std::int64_t>(1, row_bytes) / kTileRows * kTileRows);
}

std::vector<float> MergeProduct::dense_right() const {
  const std::int64_t rank = left_.columns;
  std::vector<float> out(static_cast<std::size_t>(rank * columns_));
  for (std::int64_t j = 0; j < columns_; j += kPanelColumns) {
    const std::int64_t count = std::min(kPanelColumns, columns_ - j);
    for (std::int64_t k = 0; k < rank; ++k) {
      std::copy_n(right_.data() + j * rank + k * kPanelColumns, count,
                  out.data() + k * columns_ + j);
    }
  }
  return out;
}

Result<bool> MergeProduct::add_by(const MergeBy& by, DType dtype, const MergeRows& rows) const {
  if (by.device == nullptr) {
    return add_to(by.isa, dtype, rows);
  }
  const std::int64_t rank = left_.columns;
  std::vector<float> left(static_cast<std::size_t>((rows.end - rows.begin) * rank));
  for (std::int64_t i = rows.begin; i < rows.end; ++i) {
    widen_run(left_.at(i, 0), left_.dtype, left_.column_stride, rank,
              left.data() + (i - rows.begin) * rank);
  }
  const std::vector<float> right = dense_right();
  return by.device->merge({left.data(), right.data(), rows.end - rows.begin, columns_, rank, scale_,
                           dtype, overflow_from(dtype), rows.base, rows.out, rows.base_step,
                           rows.out_step});
}

Result<std::optional<std::int64_t>> merge_dora_rows(const MergeBy& by, DType dtype,
                                                    const MergeProduct& product,
                                                    std::span<const float> magnitude,
                                                    const MergeRows& rows) {
  const std::int64_t columns = product.columns();
  const std::int64_t step = columns * static_cast<std::int64_t>(sizeof(float));
  const std::int64_t most = by.rows_at_once(step);
  std::vector<float> sums;
  for (std::int64_t begin = rows.begin; begin < rows.end; begin += most) {
    const std::int64_t end = std::min(rows.end, begin + most);
    sums.resize(static_cast<std::size_t>((end - begin) * columns));
    for (std::int64_t i = begin; i < end; ++i) {
      widen_run(rows.base + (i - rows.begin) * rows.base_step, dtype, 1, columns,
                sums.data() + (i - begin) * columns);
    }
    auto* const wide = reinterpret_cast<std::byte*>(sums.data());
    // Sums that are no numbers have no norm that is one.
    BV_TRY(unfit, product.add_by(by, DType::F32, {begin, end, wide, wide, step, step}));
    static_cast<void>(unfit);
    for (std::int64_t i = begin; i < end; ++i) {
      const std::span<const float> row(sums.data() + (i - begin) * columns,
                                       static_cast<std::size_t>(columns));
      if (!write_dora_row(row, magnitude[static_cast<std::size_t>(i - rows.begin)], dtype,
                          rows.out + (i - rows.begin) * rows.out_step)) {
        return std::optional(i);
      }
    }
  }
  return std::optional<std::int64_t>();
}

}  // namespace bv::lora

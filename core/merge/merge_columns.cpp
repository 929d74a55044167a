// DoRA where the outputs are columns of the tensor: an embedding [vocabulary, hidden], and a base
// that stores [in, out]. A norm is that of a column of base + delta, over all rows.

#include <fmt/format.h>

#include <algorithm>
#include <cmath>

#include "core/base/assert.hpp"
#include "core/merge/merge_tensor.hpp"

namespace bv::lora {
namespace {

constexpr std::int64_t kSumBytes = sizeof(float);

/// Columns of rows [begin, end) that a pair changes, widened to float32, with its product added.
/// `first` is the first byte of row `begin`. True when a sum is infinite or NaN.
Result<bool> sums_of(const MergeProduct& product, const AdapterPair& pair, const MergeBy& by,
                     DType dtype, std::int64_t begin, std::int64_t end, const std::byte* first,
                     std::int64_t row_bytes, std::vector<float>& out) {
  const std::int64_t width = product.columns();
  out.resize(static_cast<std::size_t>((end - begin) * width));
  for (std::int64_t i = 0; i < end - begin; ++i) {
    for (std::int64_t j = 0; j < width; ++j) {
      const std::int64_t column = pair.first_row + j * pair.row_step;
      out[static_cast<std::size_t>(i * width + j)] =
          widen(first + i * row_bytes + column * bytes(dtype), dtype);
    }
  }
  auto* sums = reinterpret_cast<std::byte*>(out.data());
  const std::int64_t step = width * static_cast<std::int64_t>(sizeof(float));
  return product.add_by(by, DType::F32, {begin, end, sums, sums, step, step});
}

}  // namespace

Status TensorMerge::take_norms(std::span<const std::byte> whole) {
  const std::int64_t row_bytes = columns_ * bytes(base_.dtype);
  for (Term& term : terms_) {
    if (term.pair == nullptr || !term.pair->transposed || !term.pair->magnitude) {
      continue;
    }
    BV_ASSERT(std::ssize(whole) == rows_ * row_bytes);
    const AdapterPair& pair = *term.pair;
    const MergeProduct product = product_of(pair);
    std::vector<double> squares(static_cast<std::size_t>(product.columns()), 0);
    std::vector<float> sums;
    const std::int64_t most = by_.rows_at_once(product.columns() * kSumBytes);
    for (std::int64_t row = 0; row < rows_; row += most) {
      const std::int64_t end = std::min(rows_, row + most);
      BV_TRY(unfit, sums_of(product, pair, by_, base_.dtype, row, end,
                            whole.data() + row * row_bytes, row_bytes, sums));
      static_cast<void>(unfit);  // its column has no finite norm
      for (std::size_t i = 0; i < sums.size(); ++i) {
        squares[i % squares.size()] += static_cast<double>(sums[i]) * static_cast<double>(sums[i]);
      }
    }
    for (std::size_t j = 0; j < squares.size(); ++j) {
      const auto output = static_cast<std::int64_t>(j);
      const double norm = std::sqrt(squares[j]);
      if (!(norm > 0) || !std::isfinite(norm)) {
        return fail(Code::MergeNotFinite,
                    fmt::format("column {} of {} has no finite norm",
                                pair.first_row + output * pair.row_step, base_.name))
            .pair("a column whose base and delta sum to zero, infinity or NaN",
                  "columns that a DoRA magnitude can scale")
            .advise("look at both factors and lora_magnitude_vector of the module");
      }
      term.factors.push_back(static_cast<float>(
          static_cast<double>(widen(pair.magnitude->at(output, 0), pair.magnitude->dtype)) / norm));
    }
  }
  return Done{};
}

Status TensorMerge::scale_columns(const Term& term, const Rows& rows) const {
  const AdapterPair& pair = *term.pair;
  const std::int64_t row_bytes = columns_ * bytes(base_.dtype);
  const std::int64_t width = term.product->columns();
  const float limit = overflow_from(base_.dtype);
  std::vector<float> sums;
  const std::int64_t most = by_.rows_at_once(width * kSumBytes);
  for (std::int64_t row = rows.begin; row < rows.end; row += most) {
    const std::int64_t end = std::min(rows.end, row + most);
    const std::int64_t offset = (row - rows.begin) * row_bytes;
    BV_TRY(unfit, sums_of(*term.product, pair, by_, base_.dtype, row, end, rows.base + offset,
                          row_bytes, sums));
    static_cast<void>(unfit);  // seen below, element by element
    for (std::int64_t i = 0; i < end - row; ++i) {
      for (std::int64_t j = 0; j < width; ++j) {
        const float value = term.factors[static_cast<std::size_t>(j)] *
                            sums[static_cast<std::size_t>(i * width + j)];
        const std::int64_t column = pair.first_row + j * pair.row_step;
        if (!(std::abs(value) < limit)) {  // also NaN
          return fail(Code::MergeNotFinite, fmt::format("{}[{}, {}] would become infinite or NaN",
                                                        base_.name, row + i, column))
              .pair(fmt::format("{}", value),
                    fmt::format("a number that {} can hold", name(base_.dtype)))
              .advise("look at the factors of that module; nothing was written");
        }
        narrow(value, rows.out + offset + i * row_bytes + column * bytes(base_.dtype), base_.dtype);
      }
    }
  }
  return Done{};
}

}  // namespace bv::lora

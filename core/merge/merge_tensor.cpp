#include "core/merge/merge_tensor.hpp"

#include <fmt/format.h>
#include <fmt/ranges.h>

#include <algorithm>
#include <array>
#include <cstring>

#include "core/base/arith.hpp"
#include "core/base/assert.hpp"
#include "core/base/text.hpp"
#include "core/kinds/values.hpp"

namespace bv::lora {
namespace {

MatrixView view_of(const Factor& factor) {
  return {factor.first,   factor.dtype,      factor.rows,
          factor.columns, factor.row_stride, factor.column_stride};
}

bool is_mergeable(DType dtype) {
  return dtype == DType::F32 || dtype == DType::BF16 || dtype == DType::F16;
}

/// A vector is added as a product with this 1 x 1 matrix.
constexpr float kOne = 1;
MatrixView one_by_one() {
  return {reinterpret_cast<const std::byte*>(&kOne), DType::F32, 1, 1, 1, 1};
}

MergeProduct product_of(const BiasDelta& bias) {
  return {view_of(bias.delta), one_by_one(), scale32(bias.scale, bias.alpha, bias.rank)};
}

/// Numbers of rows first, first + step, ... that lie in [begin, end).
struct Steps {
  std::int64_t begin = 0, end = 0;
};
Steps within(std::int64_t first, std::int64_t step, std::int64_t count, std::int64_t begin,
             std::int64_t end) {
  const auto number = [&](std::int64_t row) {
    return std::clamp<std::int64_t>((row - first + step - 1) / step, 0, count);
  };
  return {begin <= first ? 0 : number(begin), end <= first ? 0 : number(end)};
}

Error not_merged(const std::string& name, std::string found, std::string wanted) {
  return fail(Code::MergeDType, fmt::format("{} cannot be merged", name))
      .pair(std::move(found), std::move(wanted))
      .advise("convert the base to a dtype that PEFT merges, or leave the tensor out");
}

}  // namespace

MergeProduct product_of(const AdapterPair& pair) {
  const float scale = scale32(pair.scale, pair.alpha, pair.rank());
  return pair.transposed
             ? MergeProduct(transposed(view_of(pair.a)), transposed(view_of(pair.b)), scale)
             : MergeProduct(view_of(pair.b), view_of(pair.a), scale);
}

Edits edits_of(const Adapter& adapter) {
  Edits out;
  for (const AdapterPair& pair : adapter.pairs) {
    out[pair.base].pairs.push_back(&pair);
  }
  for (const BiasDelta& bias : adapter.biases) {
    out[bias.base].biases.push_back(&bias);
  }
  for (const Replacement& replacement : adapter.replacements) {
    out[replacement.base].replacement = &replacement;
  }
  return out;
}

TensorMerge::TensorMerge(TensorSpec base, TensorEdits edits, const MergeBy& by)
    : base_(std::move(base)), edits_(std::move(edits)), by_(by) {
  const MatrixSides sides = matrix_sides(base_.shape, edits_.pairs);
  columns_ = sides.columns;
  rows_ = sides.rows;
  for (const AdapterPair* pair : edits_.pairs) {
    terms_.push_back({pair, nullptr, std::nullopt});
  }
  for (const BiasDelta* bias : edits_.biases) {
    terms_.push_back({nullptr, bias, std::nullopt});
  }
}

Result<TensorMerge> TensorMerge::make(TensorSpec base, TensorEdits edits, const MergeBy& by,
                                      std::span<const std::byte> whole) {
  if (!is_mergeable(base.dtype)) {
    return not_merged(base.name, std::string(name(base.dtype)), "F32, BF16 or F16");
  }
  for (const AdapterPair* pair : edits.pairs) {
    for (const Factor* factor : {&pair->a, &pair->b}) {
      if (!is_mergeable(factor->dtype)) {
        return not_merged(base.name, fmt::format("{} of {}", name(factor->dtype), factor->key()),
                          "factors of F32, BF16 or F16");
      }
    }
    if (pair->magnitude && pair->transposed && pair->expert >= 0) {
      return not_merged(base.name, "DoRA magnitudes on a stack that stores [in, out]",
                        "a stack that stores [out, in]");
    }
  }
  TensorMerge out(std::move(base), std::move(edits), by);
  BV_CHECK(out.take_norms(whole));
  return out;
}

std::int64_t TensorMerge::elements() const {
  return element_count(base_.shape).value_or(0);
}

std::size_t TensorMerge::held_bytes() const {
  std::size_t out = terms_.capacity() * sizeof(Term) +
                    edits_.pairs.capacity() * sizeof(const AdapterPair*) + sizeof(*this);
  for (const Term& term : terms_) {
    out +=
        (term.product ? term.product->held_bytes() : 0) + term.factors.capacity() * sizeof(float);
  }
  return out;
}

bool TensorMerge::covers(const Rows& rows) const {
  return std::any_of(terms_.begin(), terms_.end(), [&](const Term& term) {
    if (term.pair == nullptr || term.expert() != rows.expert) {
      return false;
    }
    const AdapterPair& pair = *term.pair;
    return !pair.magnitude && pair.first_row == 0 && pair.row_step == 1 &&
           pair.b.rows == (pair.transposed ? columns_ : rows_);
  });
}

Status TensorMerge::apply(std::int64_t begin, std::span<const std::byte> base,
                          std::span<std::byte> out) {
  const std::int64_t size = bytes(base_.dtype);
  const std::int64_t count = std::ssize(out) / size;
  BV_ASSERT(begin % columns_ == 0 && count % columns_ == 0 && base.size() == out.size());
  std::vector<std::byte> trained;
  if (edits_.replacement != nullptr) {
    const Replacement& other = *edits_.replacement;
    const DType dtype = other.tensor->spec.dtype;
    kinds::cast(other.bytes.data() + begin * bytes(dtype), dtype, out.data(), base_.dtype, count);
    if (terms_.empty()) {
      return Done{};
    }
    trained.assign(out.begin(), out.end());  // a trained bias, to which lora_B.bias is added
    base = trained;
  }
  const std::int64_t last = (begin + count) / columns_;
  for (std::int64_t row = begin / columns_; row < last;) {
    const std::int64_t expert = row / rows_;
    const std::int64_t end = std::min(last, (expert + 1) * rows_);
    const std::int64_t at = (row * columns_ - begin) * size;
    BV_CHECK(merge_rows(
        {expert, row - expert * rows_, end - expert * rows_, base.data() + at, out.data() + at}));
    row = end;
  }
  return Done{};
}

Status TensorMerge::merge_rows(const Rows& rows) {
  if (!covers(rows)) {
    std::memcpy(rows.out, rows.base,
                static_cast<std::size_t>((rows.end - rows.begin) * columns_ * bytes(base_.dtype)));
  }
  for (Term& term : terms_) {
    if (term.expert() != rows.expert) {
      term.product.reset();
    } else {
      BV_CHECK(merge_term(term, rows));
    }
  }
  if (rows.end == rows_) {
    for (Term& term : terms_) {
      term.product.reset();
    }
  }
  return Done{};
}

Status TensorMerge::merge_term(Term& term, const Rows& rows) {
  if (!term.product) {
    term.product.emplace(term.pair != nullptr ? product_of(*term.pair) : product_of(*term.bias));
  }
  return term.pair != nullptr && term.pair->transposed ? merge_columns(term, rows)
                                                       : merge_outputs(term, rows);
}

/// The outputs are rows of the base.
Status TensorMerge::merge_outputs(const Term& term, const Rows& rows) {
  const std::int64_t first = term.pair != nullptr ? term.pair->first_row : 0;
  const std::int64_t step = term.pair != nullptr ? term.pair->row_step : 1;
  const Steps own = within(first, step, term.product->rows(), rows.begin, rows.end);
  if (own.begin >= own.end) {
    return Done{};
  }
  const std::int64_t row_bytes = columns_ * bytes(base_.dtype);
  const std::int64_t offset = (first + own.begin * step - rows.begin) * row_bytes;
  const MergeRows merged{own.begin,         own.end,          rows.base + offset,
                         rows.out + offset, step * row_bytes, step * row_bytes};
  if (term.pair != nullptr && term.pair->magnitude) {
    std::vector<float> magnitude;
    for (std::int64_t i = own.begin; i < own.end; ++i) {
      magnitude.push_back(widen(term.pair->magnitude->at(i, 0), term.pair->magnitude->dtype));
    }
    BV_TRY(bad, merge_dora_rows(by_, base_.dtype, *term.product, magnitude, merged));
    if (bad) {
      return fail(Code::MergeNotFinite,
                  fmt::format("row {} of {} has no finite norm", first + *bad * step, base_.name))
          .pair("a row whose base and delta sum to zero, infinity or NaN",
                "rows that a DoRA magnitude can scale")
          .advise("look at lora_A, lora_B and lora_magnitude_vector of the module");
    }
    return Done{};
  }
  BV_TRY(unfit, term.product->add_by(by_, base_.dtype, merged));
  return unfit ? Status(not_finite(term, rows, first, step, merged)) : Done{};
}

/// The base stores [in, out]: the outputs are its columns.
Status TensorMerge::merge_columns(const Term& term, const Rows& rows) {
  if (!term.factors.empty()) {
    return scale_columns(term, rows);
  }
  const std::int64_t size = bytes(base_.dtype);
  const std::int64_t row_bytes = columns_ * size;
  const std::int64_t first = term.pair->first_row;
  const std::int64_t step = term.pair->row_step;
  const std::int64_t width = term.product->columns();
  MergeRows merged{rows.begin, rows.end, rows.base + first * size, rows.out + first * size,
                   row_bytes,  row_bytes};
  if (step == 1) {
    BV_TRY(unfit, term.product->add_by(by_, base_.dtype, merged));
    return unfit ? Status(not_finite(term, rows, first, step, merged)) : Done{};
  }
  // Every step-th column: gathered, merged, scattered.
  const std::int64_t height = rows.end - rows.begin;
  std::vector<std::byte> gathered(static_cast<std::size_t>(height * width * size));
  const auto each = [&](const auto& visit) {
    for (std::int64_t i = 0; i < height; ++i) {
      for (std::int64_t j = 0; j < width; ++j) {
        visit((i * width + j) * size, i * row_bytes + (first + j * step) * size);
      }
    }
  };
  each([&](std::int64_t in, std::int64_t at) {
    std::memcpy(gathered.data() + in, rows.base + at, static_cast<std::size_t>(size));
  });
  std::vector<std::byte> sums(gathered.size());
  merged = {rows.begin, rows.end, gathered.data(), sums.data(), width * size, width * size};
  BV_TRY(unfit, term.product->add_by(by_, base_.dtype, merged));
  if (unfit) {
    return not_finite(term, rows, first, step, merged);
  }
  each([&](std::int64_t in, std::int64_t at) {
    std::memcpy(rows.out + at, sums.data() + in, static_cast<std::size_t>(size));
  });
  return Done{};
}

Error TensorMerge::not_finite(const Term& term, const Rows& rows, std::int64_t first,
                              std::int64_t step, const MergeRows& merged) const {
  const auto unfit = term.product->first_unfit(base_.dtype, merged);
  if (!unfit && by_.device != nullptr) {
    return fail(Code::NoGpu,
                fmt::format(
                    "the GPU says that {} becomes infinite or NaN, and the processor does not",
                    base_.name))
        .advise("use --device cpu; bridge-verify doctor says what this machine can do");
  }
  BV_ASSERT(unfit);
  const bool columns = term.pair != nullptr && term.pair->transposed;
  const std::int64_t row = columns ? unfit->row : first + unfit->row * step;
  const std::int64_t column = columns ? first + unfit->column * step : unfit->column;
  Shape index;
  if (base_.shape.size() > 2) {
    index.push_back(rows.expert);
  }
  index.push_back(row);
  if (base_.shape.size() > 1) {
    index.push_back(column);
  }
  return fail(Code::MergeNotFinite, fmt::format("{}[{}] would become infinite or NaN", base_.name,
                                                fmt::join(index, ", ")))
      .pair(fmt::format("base {} and delta {}", unfit->base, unfit->delta),
            fmt::format("a sum that {} can hold", name(base_.dtype)))
      .advise("look at the factors of that module; nothing was written");
}

}  // namespace bv::lora

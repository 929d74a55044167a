#include "core/lora/placed_pairs.hpp"

#include <cstring>

namespace bv::lora {
namespace {

DType wider(DType a, DType b) {
  if (a == b) {
    return a;
  }
  return bits(a) == 64 || bits(b) == 64 ? DType::F64 : DType::F32;
}

}  // namespace

Factor PlacedPair::factor_b() const {
  Factor out = pair->b;
  if (b != nullptr) {
    out.tensor = &b->tensor;
    out.store = &b->view;
    out.first = b->bytes.data() + out.offset * bytes(out.dtype);
  }
  return out;
}

bool equal_values(const Factor& a, const Factor& b) {
  if (a.rows != b.rows || a.columns != b.columns || a.dtype != b.dtype) {
    return false;
  }
  if (a.tensor == b.tensor && a.offset == b.offset) {
    return true;
  }
  const auto size = static_cast<std::size_t>(bytes(a.dtype));
  const bool in_runs = a.column_stride == 1 && b.column_stride == 1;
  for (std::int64_t row = 0; row < a.rows; ++row) {
    if (in_runs) {
      const std::size_t run = static_cast<std::size_t>(a.columns) * size;
      if (std::memcmp(a.at(row, 0), b.at(row, 0), run) != 0) {
        return false;
      }
      continue;
    }
    for (std::int64_t column = 0; column < a.columns; ++column) {
      if (std::memcmp(a.at(row, column), b.at(row, column), size) != 0) {
        return false;
      }
    }
  }
  return true;
}

double scale_of(const AdapterPair& pair) {
  return scale64(pair.scale, pair.alpha, pair.rank());
}

Slot Sources::slot(const Factor& factor) {
  return {number(factor), factor.offset, factor.row_stride, factor.column_stride};
}

std::int32_t Sources::number(const Factor& factor) {
  const auto [at, added] =
      numbers_.try_emplace(factor.tensor, static_cast<std::int32_t>(list_.size()));
  if (added) {
    list_.push_back(factor.source());
    dtype_ = list_.size() == 1 ? factor.dtype : wider(dtype_, factor.dtype);
  }
  return at->second;
}

}  // namespace bv::lora

#include "core/compare/found_rows.hpp"

#include <algorithm>

#include "core/compare/hash_rows.hpp"

namespace bv::compare {

FoundRows::FoundRows(const checkpoint::SourceTensor& found, const RowShape& rows) : all_(found) {
  row_bytes_ = ElementWidth(units_of(*found.spec).dtype).to_bytes(rows.elements).size();
}

std::uint64_t FoundRows::hash(std::int64_t row) const {
  constexpr ByteOffset kPiece{std::int64_t{1} << 20};
  const ByteOffset size(static_cast<std::int64_t>(row_bytes_));
  if (size <= kPiece) {
    return hash_row(at(row));
  }
  RowHash hash;
  const ByteOffset begin = row * size;
  for (ByteOffset at; at < size; at += kPiece) {
    hash.add(all_.read(begin + at, begin + std::min(size, at + kPiece)));
    all_.release();
  }
  return hash.value();
}

FoundRows::~FoundRows() {
  all_.release();
}

std::vector<std::int64_t> spread(const std::vector<std::int64_t>& rows, std::size_t count_max) {
  if (rows.size() <= count_max) {
    return rows;
  }
  std::vector<std::int64_t> out;
  for (std::size_t i = 0; i < count_max; ++i) {
    out.push_back(rows[i * rows.size() / count_max]);
  }
  return out;
}

std::vector<std::int64_t> spread_all(std::int64_t rows, std::size_t count_max) {
  std::vector<std::int64_t> out;
  const auto shown = std::min<std::int64_t>(rows, static_cast<std::int64_t>(count_max));
  for (std::int64_t i = 0; i < shown; ++i) {
    out.push_back(i * (rows / shown) + i * (rows % shown) / shown);
  }
  return out;
}

}  // namespace bv::compare

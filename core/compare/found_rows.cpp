#include "core/compare/found_rows.hpp"

#include <algorithm>

#include "core/compare/hash_rows.hpp"

namespace bv::compare {

FoundRows::FoundRows(const checkpoint::SourceTensor& found, const RowShape& rows)
    : found_(found), all_(found.checkpoint->bytes(*found.tensor)) {
  row_bytes_ = ElementWidth(units_of(found.tensor->spec).dtype).to_bytes(rows.elements).size();
}

std::uint64_t FoundRows::hash(std::int64_t row) const {
  constexpr std::size_t kPiece = std::size_t{1} << 20;
  std::span<const std::byte> left = at(row);
  if (left.size() <= kPiece) {
    return hash_row(left);
  }
  RowHash hash;
  while (!left.empty()) {
    const auto piece = left.first(std::min(left.size(), kPiece));
    hash.add(piece);
    found_.checkpoint->release(piece);
    left = left.subspan(piece.size());
  }
  return hash.value();
}

FoundRows::~FoundRows() {
  found_.checkpoint->release(all_);
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

#include "core/base/arith.hpp"

#include <algorithm>

namespace bv {

std::optional<std::int64_t> element_count(std::span<const std::int64_t> shape) {
  if (std::find(shape.begin(), shape.end(), 0) != shape.end()) {
    return 0;  // whatever stands beside the 0
  }
  std::int64_t product = 1;
  for (const std::int64_t extent : shape) {
    const auto next = checked_mul(product, extent);
    if (!next) {
      return std::nullopt;
    }
    product = *next;
  }
  return product;
}

std::vector<std::int64_t> index_of(std::int64_t flat, std::span<const std::int64_t> shape) {
  std::vector<std::int64_t> out(shape.size(), 0);
  for (std::size_t i = shape.size(); i-- > 0;) {
    out[i] = shape[i] == 0 ? 0 : flat % shape[i];
    flat = shape[i] == 0 ? flat : flat / shape[i];
  }
  return out;
}

}  // namespace bv

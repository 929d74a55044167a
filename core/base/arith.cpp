#include "core/base/arith.hpp"

namespace bv {

std::optional<std::int64_t> element_count(std::span<const std::int64_t> shape) {
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

}  // namespace bv

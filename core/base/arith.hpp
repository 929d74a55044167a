#pragma once
// Signed 64-bit sizes with overflow seen, and divisions that say their intent.

#include <cstdint>
#include <limits>
#include <optional>
#include <span>
#include <vector>

#include "core/base/assert.hpp"

namespace bv {

[[nodiscard]] inline std::optional<std::int64_t> checked_mul(std::int64_t a, std::int64_t b) {
  std::int64_t out = 0;
  return __builtin_mul_overflow(a, b, &out) ? std::nullopt : std::optional(out);
}
[[nodiscard]] inline std::optional<std::int64_t> checked_add(std::int64_t a, std::int64_t b) {
  std::int64_t out = 0;
  return __builtin_add_overflow(a, b, &out) ? std::nullopt : std::optional(out);
}
/// Product of a shape, 0 as soon as one extent is; nullopt when it leaves 63 bits.
[[nodiscard]] std::optional<std::int64_t> element_count(std::span<const std::int64_t> shape);
/// The index of element `flat` of a row-major tensor. Zeros for a tensor without elements.
[[nodiscard]] std::vector<std::int64_t> index_of(std::int64_t flat,
                                                 std::span<const std::int64_t> shape);
/// a + b of two counts; the largest number when the sum leaves 63 bits.
[[nodiscard]] inline std::int64_t capped_add(std::int64_t a, std::int64_t b) {
  return checked_add(a, b).value_or(std::numeric_limits<std::int64_t>::max());
}
/// a / b when b divides a.
[[nodiscard]] inline std::optional<std::int64_t> div_exact(std::int64_t a, std::int64_t b) {
  return b == 0 || a % b != 0 ? std::nullopt : std::optional(a / b);
}
/// ceil(a / b) for b > 0.
[[nodiscard]] inline std::int64_t div_ceil(std::int64_t a, std::int64_t b) {
  BV_ASSERT(b > 0);
  return a / b + (a % b > 0 ? 1 : 0);
}

}  // namespace bv

#pragma once
// Offsets and counts in elements, and in bytes, are two types: the one is turned into the other by
// the width of an element only, never by mistake. They cost what an integer costs.
//
// Example: elements 3 and 4 of a BF16 tensor are bytes 6 to 10 of it:
//   const ElementWidth width(DType::BF16);
//   slice(tensor, ElementOffset{3}, ElementOffset{5}, width) is bytes [6, 10)

#include <algorithm>
#include <compare>
#include <cstddef>
#include <cstdint>
#include <span>

#include "core/base/assert.hpp"
#include "core/base/dtype.hpp"

namespace bv {

template <class Unit>
struct Offset {
  std::int64_t value = 0;

  constexpr Offset() = default;
  constexpr explicit Offset(std::int64_t count) : value(count) {}
  [[nodiscard]] constexpr std::size_t size() const { return static_cast<std::size_t>(value); }

  friend constexpr Offset operator+(Offset a, Offset b) { return Offset(a.value + b.value); }
  friend constexpr Offset operator-(Offset a, Offset b) { return Offset(a.value - b.value); }
  friend constexpr Offset operator*(std::int64_t times, Offset a) {
    return Offset(times * a.value);
  }
  constexpr Offset& operator+=(Offset other) { return *this = *this + other; }
  friend constexpr auto operator<=>(Offset, Offset) = default;
};

/// Elements from the first of a tensor, or how many.
using ElementOffset = Offset<struct ElementUnit>;
/// Bytes from the first of a tensor, or how many.
using ByteOffset = Offset<struct ByteUnit>;

/// Bytes of one element: the only way between the two. Types below a byte have none.
class ElementWidth {
 public:
  /// Asserts that the type has whole bytes.
  explicit ElementWidth(DType dtype) : bytes_(bv::bytes(dtype)) {}

  [[nodiscard]] std::int64_t bytes() const { return bytes_; }
  [[nodiscard]] ByteOffset to_bytes(ElementOffset elements) const {
    return ByteOffset(elements.value * bytes_);
  }
  /// Whole elements in so many bytes, at least one: the step of a window of about that size.
  [[nodiscard]] ElementOffset at_least_one_in(ByteOffset bytes) const {
    return ElementOffset(std::max<std::int64_t>(1, bytes.value / bytes_));
  }

 private:
  std::int64_t bytes_ = 1;
};

/// Elements [begin, end) of a tensor's bytes. Asserts that they are there.
[[nodiscard]] inline std::span<const std::byte> slice(std::span<const std::byte> tensor,
                                                      ElementOffset begin, ElementOffset end,
                                                      ElementWidth width) {
  const std::size_t first = width.to_bytes(begin).size();
  const std::size_t last = width.to_bytes(end).size();
  BV_ASSERT(first <= last && last <= tensor.size());
  return tensor.subspan(first, last - first);
}

}  // namespace bv

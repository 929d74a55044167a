#pragma once
// Elements of a view of a storage: a transposed tensor, every second row, one row again and again.

#include <cstddef>
#include <cstdint>
#include <span>
#include <vector>

#include "core/base/element_maker.hpp"
#include "core/base/tensor_spec.hpp"

namespace bv::pickle {

/// Gathers them when they are asked for, so that no copy of the tensor is held.
class StridedElements : public ElementMaker {
 public:
  /// `bytes` begin at the first element and end behind the furthest; they must live. Strides are in
  /// elements, and none is negative.
  StridedElements(std::span<const std::byte> bytes, std::int64_t element_bytes, const Shape& shape,
                  const Shape& strides);

  [[nodiscard]] Status make(std::int64_t begin, std::int64_t end, std::byte* out) const override;
  [[nodiscard]] std::int64_t elements() const override { return elements_; }

 private:
  struct Axis {
    std::int64_t extent = 1;
    std::int64_t stride = 0;  // of the source, in bytes
    std::int64_t inner = 1;   // elements of one index
  };
  void copy_range(std::size_t axis, std::int64_t begin, std::int64_t end, const std::byte* source,
                  std::byte* out) const;
  void copy_block(std::size_t axis, std::int64_t count, const std::byte* source,
                  std::byte* out) const;

  std::span<const std::byte> bytes_;
  std::int64_t size_;      // of an element
  std::int64_t elements_;  // of the tensor
  std::vector<Axis> axes_;
};

}  // namespace bv::pickle

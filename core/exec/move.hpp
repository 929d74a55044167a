#pragma once
// Moves and compares the elements of boxes. Offsets are elements; the caller passes base pointers.

#include <cstddef>
#include <cstdint>
#include <optional>

#include "core/base/dtype.hpp"
#include "core/layout/box.hpp"

namespace bv::exec {

/// Copies every element of `box` from `source` (the tensor's first element) to `target` (the
/// element at target offset `target_base`). `element_bytes` is 1, 2, 4 or 8. A box without a source
/// writes zeros.
void copy_box(const layout::Box& box, const std::byte* source, std::byte* target,
              std::int64_t target_base, std::size_t element_bytes);

/// The same with a cast of each element.
void cast_box(const layout::Box& box, const std::byte* source, DType source_dtype,
              std::byte* target, std::int64_t target_base, DType target_dtype);

/// The first target offset at which the two sides differ, or nullopt when every element is equal
/// bit for bit. A box without a source compares with zeros.
[[nodiscard]] std::optional<std::int64_t> first_difference(const layout::Box& box,
                                                           const std::byte* source,
                                                           const std::byte* target,
                                                           std::int64_t target_base,
                                                           std::size_t element_bytes);

/// The source offset of the element that `box` puts at `target_offset`; nullopt when it does not
/// touch it.
[[nodiscard]] std::optional<std::int64_t> source_of(const layout::Box& box,
                                                    std::int64_t target_offset);

/// Elements between the first and the last that the box reads, as [begin, end).
struct Extent {
  std::int64_t begin = 0;
  std::int64_t end = 0;
};
[[nodiscard]] Extent source_extent(const layout::Box& box);

}  // namespace bv::exec

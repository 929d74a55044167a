#pragma once
// Moves and compares the elements of boxes. Offsets are elements; the caller passes base pointers.

#include <cstddef>
#include <cstdint>
#include <optional>
#include <span>

#include "core/base/dtype.hpp"
#include "core/layout/box.hpp"
#include "core/move/rows.hpp"

namespace bv::move {

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

/// The same for pieces of one tensor, with the loops of one instruction set; `sources` are those
/// that the pieces name.
void copy_pieces(Isa isa, std::span<const layout::BoxPiece> pieces,
                 std::span<const std::byte* const> sources, std::byte* target,
                 std::int64_t target_base, std::size_t element_bytes);
/// The same for one piece, whose source is given.
void copy_piece(Isa isa, const layout::BoxPiece& piece, const std::byte* source, std::byte* target,
                std::int64_t target_base, std::size_t element_bytes);
void cast_piece(Isa isa, const layout::BoxPiece& piece, const std::byte* source, DType source_dtype,
                std::byte* target, std::int64_t target_base, DType target_dtype);
[[nodiscard]] std::optional<std::int64_t> first_difference(Isa isa, const layout::BoxPiece& piece,
                                                           const std::byte* source,
                                                           const std::byte* target,
                                                           std::int64_t target_base,
                                                           std::size_t element_bytes);

/// Elements between the first and the last that the box reads, as [begin, end).
struct Extent {
  std::int64_t begin = 0;
  std::int64_t end = 0;
};
[[nodiscard]] Extent source_extent(const layout::Box& box);

/// One tensor that is made of `boxes`, which tile its `elements`.
struct MoveTarget {
  std::span<const layout::Box> boxes;
  std::byte* target = nullptr;
  std::int64_t elements = 0;
};

/// Makes all targets out of the same sources in one pass, window by window in step, so that shards
/// that read neighbouring bytes read them while they are in cache. Targets do not overlap each
/// other or the sources. For targets larger than the caches: stores pass them by.
void move_targets(Isa isa, std::span<const MoveTarget> targets,
                  std::span<const std::byte* const> sources, std::size_t element_bytes);

/// Do axes of a box change places? Small windows of such a tensor read every line of the source
/// again and again.
[[nodiscard]] bool has_tiles(std::span<const layout::Box> boxes, std::size_t element_bytes);

/// Elements a window that `ways` targets in step should have.
[[nodiscard]] std::int64_t window_elements(std::size_t ways, std::size_t element_bytes);

}  // namespace bv::move

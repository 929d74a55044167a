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
/// that the pieces name. `leads`: see MoveTask.
void copy_pieces(Isa isa, std::span<const layout::BoxPiece> pieces,
                 std::span<const std::byte* const> sources, std::byte* target,
                 std::int64_t target_base, std::size_t element_bytes, bool leads = false);
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

/// What changes places in the boxes of a tensor.
struct Turned {
  /// Elements of a target row, 0 where no axes do: windows of a few such rows read every line of
  /// the source again and again.
  std::int64_t row = 0;
  /// Elements beside each other at the source lie far apart on the target, as gates and ups of
  /// gpt-oss: a window that holds all of them reads each line once.
  bool is_interleaved = false;
};
[[nodiscard]] Turned turned_axes(std::span<const layout::Box> boxes, std::size_t element_bytes);

}  // namespace bv::move

#pragma once
// How the axes of a piece are walked: outer ones by a loop, the inner one or two by a kernel.

#include <cstddef>
#include <cstdint>
#include <span>

#include "core/layout/box.hpp"
#include "core/move/rows.hpp"

namespace bv::move {

/// Calls `visit(source, target)` with the element offsets of every position of the axes that are
/// not in `inner`, in target order. Stops when it returns false.
class Positions {
 public:
  Positions(const layout::BoxPiece& piece, std::size_t inner_first, std::size_t inner_second)
      : piece_(piece), first_(inner_first), second_(inner_second), end_(piece.axes.size()) {
    while (end_ > 0 && (end_ - 1 == first_ || end_ - 1 == second_)) {
      --end_;
    }
  }

  template <class Visit>
  bool for_each(const Visit& visit) const {
    return end_ == 0 ? visit(piece_.source_offset, piece_.target_offset)
                     : walk(0, piece_.source_offset, piece_.target_offset, visit);
  }

 private:
  template <class Visit>
  bool walk(std::size_t axis, std::int64_t source, std::int64_t target, const Visit& visit) const {
    while (axis == first_ || axis == second_) {
      ++axis;
    }
    const layout::BoxAxis& current = piece_.axes[axis];
    const std::int64_t extent = axis == 0 ? piece_.extent : current.extent;
    for (std::int64_t i = 0; i < extent; ++i) {
      const std::int64_t from = source + i * current.source_stride;
      const std::int64_t to = target + i * current.target_stride;
      if (!(axis + 1 == end_ ? visit(from, to) : walk(axis + 1, from, to, visit))) {
        return false;
      }
    }
    return true;
  }

  const layout::BoxPiece& piece_;
  std::size_t first_;
  std::size_t second_;
  std::size_t end_;  // behind the last axis that is not inside
};

inline constexpr std::size_t kNone = static_cast<std::size_t>(-1);
/// Two axes are moved in tiles when one is innermost at the source and the other at the target,
/// each with a stride of at most this.
inline constexpr std::int64_t kUnitMax = 8;

/// How the innermost one or two axes of a piece are moved; the others are looped over.
struct Inner {
  enum class Kind { Rows, Elements, Tiles };
  Kind kind = Kind::Rows;
  std::size_t first = kNone;  // the axes that are inside
  std::size_t second = kNone;
  RowRuns rows;     // Rows: bytes; Elements: one element a row
  Transpose tiles;  // in elements
};

[[nodiscard]] std::int64_t extent_of(const layout::BoxPiece& piece, std::size_t axis);
[[nodiscard]] Inner inner_of(const layout::BoxPiece& piece, std::size_t element_bytes);

/// How the first of `pieces` is moved, together with those behind it whose elements alternate with
/// its own at the source or at the target, element by element: every third of three pieces, say.
struct Joined {
  Inner inner;
  std::size_t count = 1;  // pieces
};
[[nodiscard]] Joined join_pieces(std::span<const layout::BoxPiece> pieces,
                                 std::size_t element_bytes);

inline std::int64_t scaled(std::int64_t elements, std::size_t size) {
  return elements * static_cast<std::int64_t>(size);
}

}  // namespace bv::move

#include "core/move/move.hpp"

#include <algorithm>
#include <cstring>

#include "core/kinds/values.hpp"
#include "core/move/inner_axes.hpp"

namespace bv::move {
namespace {

bool is_zero(const std::byte* bytes, std::size_t size) {
  return std::all_of(bytes, bytes + size, [](std::byte b) { return b == std::byte{0}; });
}

bool is_empty(const layout::Box& box) {
  return std::any_of(box.axes.begin(), box.axes.end(),
                     [](const layout::BoxAxis& axis) { return axis.extent == 0; });
}

/// A piece without a source: rows of zeros.
void clear_rows(const RowRuns& rows, std::byte* target) {
  for (std::int64_t i = 0; i < rows.count; ++i) {
    std::memset(target + i * rows.target_step, 0, static_cast<std::size_t>(rows.bytes));
  }
}

/// Rows of 64 to 512 bytes that lie 1 KiB apart cost memory nearly as much as all that lies there:
/// the first of several readers fetches the whole lines, the others find them in the cache.
void copy_leading_rows(Isa isa, const RowRuns& rows, const std::byte* source, std::byte* target) {
  constexpr std::int64_t kStepMax = 8192;
  constexpr std::int64_t kLine = 64;
  constexpr std::int64_t kAhead = 2048;  // found by trial
  if (rows.source_step <= rows.bytes || rows.source_step > kStepMax) {
    copy_rows(isa, rows, source, target);
    return;
  }
  const std::int64_t some = std::max<std::int64_t>(1, kAhead / rows.source_step);
  RowRuns part = rows;
  for (std::int64_t i = 0; i < rows.count; i += some) {
    part.count = std::min(some, rows.count - i);
    const std::byte* from = source + i * rows.source_step;
    // The last rows fetch nothing behind them, which may be no memory of the tensor.
    const std::int64_t left = (rows.count - i) * rows.source_step - kAhead;
    for (std::int64_t k = 0; k < std::min(left, part.count * rows.source_step); k += kLine) {
      __builtin_prefetch(from + kAhead + k, 0, 2);
    }
    copy_rows(isa, part, from, target + i * rows.target_step);
  }
}

bool is_equal(Isa isa, const layout::BoxPiece& piece, const std::byte* source,
              const std::byte* target, std::int64_t target_base, std::size_t size) {
  const Inner inner = inner_of(piece, size);
  return Positions(piece, inner.first, inner.second).for_each([&](std::int64_t s, std::int64_t t) {
    const std::byte* to = target + scaled(t - target_base, size);
    if (piece.source < 0) {
      return zero_rows(inner.rows, to);
    }
    const std::byte* from = source + scaled(s, size);
    return inner.kind == Inner::Kind::Tiles
               ? equal_transpose(isa, inner.tiles, size, from, to)
               : equal_rows(inner.kind == Inner::Kind::Elements ? Isa::Scalar : isa, inner.rows,
                            from, to);
  });
}

}  // namespace

void copy_pieces(Isa isa, std::span<const layout::BoxPiece> pieces,
                 std::span<const std::byte* const> sources, std::byte* target,
                 std::int64_t target_base, std::size_t size, bool leads) {
  while (!pieces.empty()) {
    const layout::BoxPiece& piece = pieces.front();
    const Joined joined = join_pieces(pieces, size);
    pieces = pieces.subspan(joined.count);
    const Inner& inner = joined.inner;
    const std::byte* source =
        piece.source < 0 ? nullptr : sources[static_cast<std::size_t>(piece.source)];
    Positions(piece, inner.first, inner.second).for_each([&](std::int64_t s, std::int64_t t) {
      std::byte* to = target + scaled(t - target_base, size);
      if (source == nullptr) {
        clear_rows(inner.rows, to);
        return true;
      }
      const std::byte* from = source + scaled(s, size);
      switch (inner.kind) {
        case Inner::Kind::Rows:
          leads ? copy_leading_rows(isa, inner.rows, from, to)
                : copy_rows(isa, inner.rows, from, to);
          break;
        case Inner::Kind::Elements:
          copy_elements(inner.rows, from, to);
          break;
        case Inner::Kind::Tiles:
          copy_transpose(isa, inner.tiles, size, from, to);
          break;
      }
      return true;
    });
  }
}

void copy_piece(Isa isa, const layout::BoxPiece& piece, const std::byte* source, std::byte* target,
                std::int64_t target_base, std::size_t size) {
  layout::BoxPiece one = piece;
  one.source = piece.source < 0 ? -1 : 0;
  copy_pieces(isa, {&one, 1}, {&source, 1}, target, target_base, size);
}

void copy_box(const layout::Box& box, const std::byte* source, std::byte* target,
              std::int64_t target_base, std::size_t size) {
  if (is_empty(box)) {
    return;
  }
  layout::BoxPiece piece = layout::whole(box);
  piece.source = box.source < 0 ? -1 : 0;
  copy_pieces(best_isa(), {&piece, 1}, {&source, 1}, target, target_base, size);
}

void cast_piece(Isa isa, const layout::BoxPiece& piece, const std::byte* source, DType source_dtype,
                std::byte* target, std::int64_t target_base, DType target_dtype) {
  const auto from_size = static_cast<std::size_t>(bytes(source_dtype));
  const auto to_size = static_cast<std::size_t>(bytes(target_dtype));
  if (source_dtype == target_dtype || piece.source < 0) {
    copy_piece(isa, piece, source, target, target_base, to_size);
    return;
  }
  const std::size_t last = piece.axes.empty() ? kNone : piece.axes.size() - 1;
  const layout::BoxAxis inner = piece.axes.empty() ? layout::BoxAxis{1, 1, 1} : piece.axes[last];
  const std::int64_t count = piece.axes.empty() ? 1 : extent_of(piece, last);
  Positions(piece, last, kNone).for_each([&](std::int64_t s, std::int64_t t) {
    const std::byte* from = source + scaled(s, from_size);
    std::byte* to = target + scaled(t - target_base, to_size);
    if (inner.source_stride == 1 && inner.target_stride == 1) {
      kinds::cast(from, source_dtype, to, target_dtype, count);
      return true;
    }
    for (std::int64_t i = 0; i < count; ++i) {
      kinds::cast(from + scaled(i * inner.source_stride, from_size), source_dtype,
                  to + scaled(i * inner.target_stride, to_size), target_dtype, 1);
    }
    return true;
  });
}

void cast_box(const layout::Box& box, const std::byte* source, DType source_dtype,
              std::byte* target, std::int64_t target_base, DType target_dtype) {
  if (box.elements() > 0) {
    cast_piece(best_isa(), layout::whole(box), source, source_dtype, target, target_base,
               target_dtype);
  }
}

std::optional<std::int64_t> first_difference(Isa isa, const layout::BoxPiece& piece,
                                             const std::byte* source, const std::byte* target,
                                             std::int64_t target_base, std::size_t size) {
  if (is_equal(isa, piece, source, target, target_base, size)) {
    return std::nullopt;
  }
  std::optional<std::int64_t> found;
  Positions(piece, kNone, kNone).for_each([&](std::int64_t s, std::int64_t t) {
    const std::byte* there = target + scaled(t - target_base, size);
    const bool equal = piece.source < 0 ? is_zero(there, size)
                                        : std::memcmp(source + scaled(s, size), there, size) == 0;
    if (!equal) {
      found = t;
    }
    return equal;
  });
  return found;
}

std::optional<std::int64_t> first_difference(const layout::Box& box, const std::byte* source,
                                             const std::byte* target, std::int64_t target_base,
                                             std::size_t size) {
  return is_empty(box)
             ? std::nullopt
             : first_difference(best_isa(), layout::whole(box), source, target, target_base, size);
}

Turned turned_axes(std::span<const layout::Box> boxes, std::size_t size) {
  Turned out;
  for (const layout::Box& box : boxes) {
    const Inner inner = inner_of(layout::whole(box), size);
    if (inner.kind == Inner::Kind::Tiles) {
      out.row = std::max(out.row, inner.tiles.target_step);
      out.is_interleaved = out.is_interleaved || inner.tiles.source_unit > 1;
    }
  }
  return out;
}

}  // namespace bv::move

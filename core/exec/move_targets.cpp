#include <algorithm>

#include "core/exec/inner_axes.hpp"
#include "core/exec/move.hpp"

namespace bv::exec {
namespace {

/// Windows of all targets in step stay inside the second-level cache, those of one target near the
/// first.
constexpr std::int64_t kCacheBytes = std::int64_t{512} << 10;
constexpr std::int64_t kWindowMin = std::int64_t{8} << 10;
constexpr std::int64_t kWindowMax = std::int64_t{32} << 10;
constexpr std::size_t kLine = 64;

/// Tensors whose axes change places are moved box by box: a window of them would read every line of
/// the source again and again.
bool has_tiles(std::span<const layout::Box> boxes, std::size_t size) {
  return std::any_of(boxes.begin(), boxes.end(), [&](const layout::Box& box) {
    return inner_of(layout::whole(box), size).kind == Inner::Kind::Tiles;
  });
}

/// Do all pieces of a window fill whole lines of the target? Then they need no staging.
bool all_fill_lines(Isa isa, const std::vector<layout::BoxPiece>& pieces, const std::byte* target,
                    std::size_t size) {
  return std::all_of(pieces.begin(), pieces.end(), [&](const layout::BoxPiece& piece) {
    const Inner inner = inner_of(piece, size);
    bool whole = piece.source >= 0 && inner.kind == Inner::Kind::Rows &&
                 fills_lines(isa, inner.rows, target + scaled(piece.target_offset, size));
    for (const layout::BoxAxis& axis : piece.axes) {
      whole = whole && (axis.target_stride == 1 ||
                        scaled(axis.target_stride, size) % static_cast<std::int64_t>(kLine) == 0);
    }
    return whole;
  });
}

void stream_pieces(Isa isa, const std::vector<layout::BoxPiece>& pieces, std::byte* target,
                   std::span<const std::byte* const> sources, std::size_t size) {
  for (const layout::BoxPiece& piece : pieces) {
    const Inner inner = inner_of(piece, size);
    const std::byte* source = sources[static_cast<std::size_t>(piece.source)];
    Positions(piece, inner.first, inner.second).for_each([&](std::int64_t s, std::int64_t t) {
      stream_rows(isa, inner.rows, source + scaled(s, size), target + scaled(t, size));
      return true;
    });
  }
}

void stream_boxes(Isa isa, const MoveTarget& one, std::span<const std::byte* const> sources,
                  std::size_t size) {
  for (const layout::Box& box : one.boxes) {
    const layout::BoxPiece piece = layout::whole(box);
    const Inner inner = inner_of(piece, size);
    const std::byte* source =
        box.source < 0 ? nullptr : sources[static_cast<std::size_t>(box.source)];
    if (inner.kind != Inner::Kind::Tiles) {
      copy_piece(isa, piece, source, one.target, 0, size);
      continue;
    }
    Positions(piece, inner.first, inner.second).for_each([&](std::int64_t s, std::int64_t t) {
      stream_transpose(isa, inner.tiles, size, source + scaled(s, size),
                       one.target + scaled(t, size));
      return true;
    });
  }
}

/// Where a window that is one contiguous piece lies in its source; nullptr for any other window.
const std::byte* contiguous_source(const std::vector<layout::BoxPiece>& pieces, std::int64_t count,
                                   std::span<const std::byte* const> sources, std::size_t size) {
  if (pieces.size() != 1 || pieces[0].source < 0 || pieces[0].axes.size() != 1) {
    return nullptr;
  }
  const layout::BoxPiece& one = pieces[0];
  const layout::BoxAxis& axis = one.axes[0];
  return axis.source_stride == 1 && axis.target_stride == 1 && one.extent == count
             ? sources[static_cast<std::size_t>(one.source)] + scaled(one.source_offset, size)
             : nullptr;
}

}  // namespace

std::int64_t window_elements(std::size_t ways, std::size_t element_bytes) {
  const std::int64_t share =
      kCacheBytes / static_cast<std::int64_t>(std::max<std::size_t>(ways, 1));
  return std::clamp(share, kWindowMin, kWindowMax) / static_cast<std::int64_t>(element_bytes);
}

void move_targets(Isa isa, std::span<const MoveTarget> targets,
                  std::span<const std::byte* const> sources, std::size_t size) {
  const std::int64_t window = window_elements(targets.size(), size);
  std::vector<std::byte> stage(static_cast<std::size_t>(window) * size + kLine);
  const std::size_t off = reinterpret_cast<std::uintptr_t>(stage.data()) % kLine;
  std::byte* const staged = stage.data() + (kLine - off) % kLine;
  std::int64_t longest = 0;
  std::vector<const MoveTarget*> in_step;
  for (const MoveTarget& one : targets) {
    if (has_tiles(one.boxes, size)) {
      stream_boxes(isa, one, sources, size);
    } else {
      in_step.push_back(&one);
      longest = std::max(longest, one.elements);
    }
  }
  std::vector<layout::BoxPiece> pieces;
  for (std::int64_t begin = 0; begin < longest; begin += window) {
    for (const MoveTarget* target : in_step) {
      const MoveTarget& one = *target;
      const std::int64_t end = std::min(begin + window, one.elements);
      pieces.clear();
      for (const layout::Box& box : one.boxes) {
        layout::pieces_in(box, begin, end, pieces);
      }
      const std::byte* from = staged;
      if (const std::byte* direct = contiguous_source(pieces, end - begin, sources, size)) {
        from = direct;
      } else if (all_fill_lines(isa, pieces, one.target, size)) {
        stream_pieces(isa, pieces, one.target, sources, size);
        continue;
      } else {
        for (const layout::BoxPiece& piece : pieces) {
          const std::byte* source =
              piece.source < 0 ? nullptr : sources[static_cast<std::size_t>(piece.source)];
          copy_piece(isa, piece, source, staged, begin, size);
        }
      }
      if (end > begin) {
        stream_bytes(isa, from, one.target + scaled(begin, size), scaled(end - begin, size));
      }
    }
  }
  end_stream();
}

}  // namespace bv::exec

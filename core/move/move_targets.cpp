#include <algorithm>
#include <optional>

#include "core/move/box_windows.hpp"
#include "core/move/inner_axes.hpp"
#include "core/move/move.hpp"

namespace bv::move {
namespace {

/// Windows of all targets in step stay inside the second-level cache, those of one target near the
/// first.
constexpr std::int64_t kCacheBytes = std::int64_t{512} << 10;
constexpr std::int64_t kWindowMin = std::int64_t{8} << 10;
constexpr std::int64_t kWindowMax = std::int64_t{32} << 10;
constexpr std::size_t kLine = 64;

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
  std::vector<layout::BoxPiece> pieces;
  for (const layout::Box& box : one.boxes) {
    if (box.elements() > 0) {
      pieces.push_back(layout::whole(box));
    }
  }
  for (std::span<const layout::BoxPiece> left(pieces); !left.empty();) {
    const layout::BoxPiece& piece = left.front();
    const Joined joined = join_pieces(left, size);
    const Inner& inner = joined.inner;
    if (inner.kind != Inner::Kind::Tiles) {
      copy_pieces(isa, left.first(1), sources, one.target, 0, size);
      left = left.subspan(1);
      continue;
    }
    left = left.subspan(joined.count);
    const std::byte* source = sources[static_cast<std::size_t>(piece.source)];
    Positions(piece, inner.first, inner.second).for_each([&](std::int64_t s, std::int64_t t) {
      stream_transpose(isa, inner.tiles, size, source + scaled(s, size),
                       one.target + scaled(t, size));
      return true;
    });
  }
}

/// Rows of this size or more are streamed well in any order.
constexpr std::int64_t kShortMax = std::int64_t{16} << 10;
/// More streams than this at once are more than the processor's write buffers and page tables like.
constexpr std::size_t kTurnsMax = 64;
/// Bytes of one stream before the next has its turn, where its own rows lie beside each other.
constexpr std::int64_t kTurnBytes = 4096;

/// All boxes of several targets when they are short rows of one size and step.
struct Turns {
  RowRuns rows;
  std::vector<RowStream> streams;
};

bool same_rows(const RowRuns& a, const RowRuns& b) {
  return a.count == b.count && a.bytes == b.bytes && a.source_step == b.source_step &&
         a.target_step == b.target_step;
}

std::optional<Turns> turns_of(Isa isa, const std::vector<const MoveTarget*>& targets,
                              std::span<const std::byte* const> sources, std::size_t size) {
  Turns out;
  for (const MoveTarget* one : targets) {
    for (const layout::Box& box : one->boxes) {
      const layout::BoxPiece piece = layout::whole(box);
      const Inner inner = inner_of(piece, size);
      std::byte* const target = one->target + scaled(box.target_offset, size);
      if (box.source < 0 || box.axes.size() != 2 || inner.kind != Inner::Kind::Rows ||
          inner.rows.bytes > kShortMax || !fills_lines(isa, inner.rows, target) ||
          (!out.streams.empty() && !same_rows(inner.rows, out.rows))) {
        return std::nullopt;
      }
      out.rows = inner.rows;
      out.streams.push_back(
          {sources[static_cast<std::size_t>(box.source)] + scaled(box.source_offset, size),
           target});
    }
  }
  return out.streams.empty() ? std::nullopt : std::optional(std::move(out));
}

/// Streams whose rows alternate on one side go together: by the source where its rows have gaps,
/// else by the target.
void stream_turns(Isa isa, Turns& turns) {
  const RowRuns& rows = turns.rows;
  const bool by_source = rows.source_step > rows.bytes;
  const std::int64_t step = by_source ? rows.source_step : rows.target_step;
  const std::int64_t block = by_source ? 1 : std::max<std::int64_t>(1, kTurnBytes / rows.bytes);
  const auto place = [&](const RowStream& one) {
    return reinterpret_cast<std::uintptr_t>(by_source ? one.source : one.target);
  };
  std::sort(turns.streams.begin(), turns.streams.end(),
            [&](const RowStream& a, const RowStream& b) { return place(a) < place(b); });
  const std::span<const RowStream> all(turns.streams);
  for (std::size_t begin = 0; begin < all.size();) {
    std::size_t end = begin + 1;
    while (end < all.size() && end - begin < kTurnsMax &&
           place(all[end]) - place(all[begin]) < static_cast<std::uintptr_t>(step)) {
      ++end;
    }
    stream_in_turns(isa, rows, all.subspan(begin, end - begin), block);
    begin = end;
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

bool has_tiles(std::span<const layout::Box> boxes, std::size_t size) {
  return std::any_of(boxes.begin(), boxes.end(), [&](const layout::Box& box) {
    return inner_of(layout::whole(box), size).kind == Inner::Kind::Tiles;
  });
}

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
  if (auto turns = turns_of(isa, in_step, sources, size)) {
    stream_turns(isa, *turns);
    longest = 0;
  }
  std::vector<BoxWindows> windows;
  for (const MoveTarget* one : in_step) {
    windows.emplace_back(one->boxes);
  }
  std::vector<layout::BoxPiece> pieces;
  for (std::int64_t begin = 0; begin < longest; begin += window) {
    for (std::size_t i = 0; i < in_step.size(); ++i) {
      const MoveTarget& one = *in_step[i];
      const std::int64_t end = std::min(begin + window, one.elements);
      pieces.clear();
      windows[i].list(begin, end, pieces);
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

}  // namespace bv::move

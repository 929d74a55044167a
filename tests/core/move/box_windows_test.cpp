// The reference lists the pieces of every box.

#include "core/move/box_windows.hpp"

#include <gtest/gtest.h>

#include <algorithm>
#include <tuple>

namespace bv::move {
namespace {

using Piece = std::tuple<int, std::int64_t, std::int64_t, std::int64_t>;

std::vector<Piece> sorted(const std::vector<layout::BoxPiece>& pieces) {
  std::vector<Piece> out;
  for (const layout::BoxPiece& piece : pieces) {
    out.emplace_back(piece.source, piece.target_offset, piece.source_offset, piece.elements());
  }
  std::sort(out.begin(), out.end());
  return out;
}

TEST(BoxWindows, ListsWhatEveryBoxHasInTheWindow) {
  std::vector<layout::Box> boxes;
  for (int i = 6; i-- > 0;) {  // contiguous boxes, the last first
    layout::Box box;
    box.source = i;
    box.target_offset = i * 10;
    box.axes = {{10, 1, 1}};
    boxes.push_back(box);
  }
  for (int i = 0; i < 3; ++i) {  // rows that alternate behind them
    layout::Box box;
    box.source = 10 + i;
    box.target_offset = 60 + i * 4;
    box.axes = {{5, 4, 12}, {4, 1, 1}};
    boxes.push_back(box);
  }
  layout::Box none;
  none.axes = {{0, 1, 1}};
  boxes.push_back(none);
  for (std::int64_t step = 1; step < 130; ++step) {
    move::BoxWindows windows(boxes);
    for (std::int64_t begin = 0; begin < 120; begin += step) {
      std::vector<layout::BoxPiece> wanted;
      for (const layout::Box& box : boxes) {
        layout::pieces_in(box, begin, std::min<std::int64_t>(120, begin + step), wanted);
      }
      std::vector<layout::BoxPiece> found;
      windows.list(begin, std::min<std::int64_t>(120, begin + step), found);
      ASSERT_EQ(sorted(found), sorted(wanted)) << begin << " step " << step;
    }
  }
}

}  // namespace
}  // namespace bv::move

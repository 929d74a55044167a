// The kernels against the plainest reference: one element at a time, through source_of.

#include "core/move/move.hpp"

#include <gtest/gtest.h>

#include <algorithm>
#include <numeric>
#include <random>

#include "core/layout/notation.hpp"
#include "core/move/rows.hpp"

namespace bv::move {
namespace {

using Bytes = std::vector<std::byte>;

constexpr std::byte kPoison{0xA5};

std::vector<move::Isa> instruction_sets() {
  std::vector<move::Isa> out = {move::Isa::Scalar};
  if (move::best_isa() != move::Isa::Scalar) {
    out.push_back(move::Isa::Avx2);
  }
  if (move::best_isa() == move::Isa::Avx512) {
    out.push_back(move::Isa::Avx512);
  }
  return out;
}

Bytes random_bytes(std::size_t count, std::uint64_t seed) {
  std::mt19937_64 random(seed);
  Bytes out(count);
  for (std::byte& one : out) {
    one = static_cast<std::byte>(random() & 0xFF);
  }
  return out;
}

/// Every element of the box by its own index.
void put(const layout::Box& box, const Bytes& source, std::size_t size, Bytes& out) {
  std::vector<std::int64_t> index(box.axes.size(), 0);
  for (std::int64_t n = 0; n < box.elements(); ++n) {
    std::int64_t rest = n;
    std::int64_t s = box.source_offset;
    std::int64_t t = box.target_offset;
    for (std::size_t i = box.axes.size(); i-- > 0;) {
      const std::int64_t at = rest % box.axes[i].extent;
      rest /= box.axes[i].extent;
      s += at * box.axes[i].source_stride;
      t += at * box.axes[i].target_stride;
    }
    for (std::size_t k = 0; k < size; ++k) {
      out[static_cast<std::size_t>(t) * size + k] =
          box.source < 0 ? std::byte{0} : source[static_cast<std::size_t>(s) * size + k];
    }
  }
}

Bytes reference(const layout::Box& box, const Bytes& source, std::size_t target_bytes,
                std::size_t size) {
  Bytes out(target_bytes, kPoison);
  put(box, source, size, out);
  return out;
}

/// A box that permutes the axes of a dense source: the axes of `extents`, in the order `order` on
/// the target, with gaps on both sides.
layout::Box permuted(const std::vector<std::int64_t>& extents,
                     const std::vector<std::size_t>& order, std::int64_t gap) {
  layout::Box box;
  std::vector<std::int64_t> source_stride(extents.size());
  std::int64_t stride = 1;
  for (std::size_t i = extents.size(); i-- > 0;) {
    source_stride[i] = stride;
    stride *= extents[i];
    stride += i + 1 == extents.size() ? gap : 0;
  }
  for (std::size_t i = 0; i < extents.size(); ++i) {
    box.axes.push_back({});
  }
  stride = 1;
  for (std::size_t i = extents.size(); i-- > 0;) {
    const std::size_t axis = order[i];
    box.axes[i] = {extents[axis], source_stride[axis], stride};
    stride *= extents[axis];
    stride += i + 1 == extents.size() ? gap : 0;
  }
  box.source_offset = gap;
  box.target_offset = 2 * gap;
  layout::normalise(box);
  return box;
}

std::int64_t source_end(const layout::Box& box) {
  std::int64_t last = box.source_offset;
  for (const layout::BoxAxis& axis : box.axes) {
    last += (axis.extent - 1) * axis.source_stride;
  }
  return last + 1;
}

std::int64_t target_end(const layout::Box& box) {
  std::int64_t last = box.target_offset;
  for (const layout::BoxAxis& axis : box.axes) {
    last += (axis.extent - 1) * axis.target_stride;
  }
  return last + 1;
}

/// Copy, comparison and first difference of one box, by every instruction set and element size.
void check(const layout::Box& box, std::uint64_t seed) {
  for (const std::size_t size : {std::size_t{1}, std::size_t{2}, std::size_t{4}, std::size_t{8}}) {
    const auto source_bytes = static_cast<std::size_t>(source_end(box)) * size;
    const auto target_bytes = static_cast<std::size_t>(target_end(box)) * size;
    const Bytes source = random_bytes(source_bytes, seed);
    const Bytes wanted = reference(box, source, target_bytes, size);
    for (const move::Isa isa : instruction_sets()) {
      Bytes found(target_bytes, kPoison);
      move::copy_piece(isa, layout::whole(box), source.data(), found.data(), 0, size);
      ASSERT_EQ(found, wanted) << "element bytes " << size;
      ASSERT_EQ(
          move::first_difference(isa, layout::whole(box), source.data(), found.data(), 0, size),
          std::nullopt);
      const std::int64_t element =
          box.target_offset +
          (box.axes.empty() ? 0 : (box.axes.back().extent - 1) * box.axes.back().target_stride);
      found[static_cast<std::size_t>(element + 1) * size - 1] ^= std::byte{1};
      ASSERT_EQ(
          move::first_difference(isa, layout::whole(box), source.data(), found.data(), 0, size),
          element);
    }
  }
}

TEST(Move, EveryOrderOfThreeSmallAxesIsCopiedAsElementByElement) {
  std::uint64_t seed = 0;
  for (std::int64_t a = 1; a <= 4; ++a) {
    for (std::int64_t b = 1; b <= 4; ++b) {
      for (std::int64_t c = 1; c <= 5; ++c) {
        std::vector<std::size_t> order = {0, 1, 2};
        do {
          for (const std::int64_t gap : {0, 3}) {
            check(permuted({a, b, c}, order, gap), ++seed);
          }
        } while (std::next_permutation(order.begin(), order.end()));
      }
    }
  }
}

TEST(Move, LargeBoxesOfOddSizesAreCopiedAsElementByElement) {
  std::mt19937_64 random(7);
  const auto draw = [&](std::int64_t low, std::int64_t high) {
    return low + static_cast<std::int64_t>(random() % static_cast<std::uint64_t>(high - low + 1));
  };
  for (int i = 0; i < 30; ++i) {
    std::vector<std::size_t> order = {0, 1, 2};
    std::shuffle(order.begin(), order.end(), random);
    check(permuted({draw(1, 5), draw(1, 90), draw(1, 170)}, order, draw(0, 9)), random());
  }
}

TEST(Move, InterleavedPairsAreCopiedAsElementByElement) {
  layout::Box box;  // target [f h] of source [h (f 2)]: the gates of an interleaved projection
  box.source_offset = 1;
  box.axes = {{70, 2, 65}, {65, 140, 1}};
  check(box, 3);
}

/// Boxes that are moved together: in one call as each alone.
void check_together(const std::vector<layout::Box>& boxes, std::uint64_t seed) {
  std::int64_t target_elements = 0;
  std::int64_t source_elements = 0;
  for (const layout::Box& box : boxes) {
    target_elements = std::max(target_elements, target_end(box));
    source_elements = std::max(source_elements, source_end(box));
  }
  for (const std::size_t size : {std::size_t{1}, std::size_t{2}, std::size_t{4}, std::size_t{8}}) {
    const Bytes source = random_bytes(static_cast<std::size_t>(source_elements) * size, seed);
    const std::byte* first = source.data();
    const auto target_bytes = static_cast<std::size_t>(target_elements) * size;
    Bytes wanted(target_bytes, kPoison);
    std::vector<layout::BoxPiece> pieces;
    for (const layout::Box& box : boxes) {
      put(box, source, size, wanted);
      pieces.push_back(layout::whole(box));
    }
    for (const move::Isa isa : instruction_sets()) {
      Bytes together(target_bytes, kPoison);
      move::copy_pieces(isa, pieces, {&first, 1}, together.data(), 0, size);
      ASSERT_EQ(together, wanted) << size;
      Bytes leading(target_bytes, kPoison);
      move::copy_pieces(isa, pieces, {&first, 1}, leading.data(), 0, size, true);
      ASSERT_EQ(leading, wanted) << size;
    }
  }
}

TEST(Move, RowsOfTheFirstOfSeveralReadersHaveTheSameBytes) {
  for (const std::int64_t run : {1, 3, 64, 200}) {
    for (const std::int64_t ways : {1, 2, 8}) {
      for (const std::int64_t rows : {1, 2, 7, 33}) {
        layout::Box box;  // the second of `ways` parts of each row
        box.source_offset = ways > 1 ? run : 0;
        box.axes = {{rows, run * ways, run}, {run, 1, 1}};
        layout::normalise(box);
        check_together({box}, 50);
      }
    }
  }
}

TEST(Move, ColumnsThatAlternateAtTheSourceAreMovedTogether) {
  for (const std::int64_t ways : {2, 3}) {
    for (const std::int64_t rows : {1, 9, 70}) {
      std::vector<layout::Box> boxes;  // target [way][row][column] of source [column][row][way]
      for (std::int64_t way = 0; way < ways; ++way) {
        layout::Box box;
        box.source_offset = way;
        box.target_offset = way * rows * 65;
        box.axes = {{rows, ways, 65}, {65, rows * ways, 1}};
        layout::normalise(box);
        boxes.push_back(box);
        check(box, 20 + static_cast<std::uint64_t>(way));
      }
      check_together(boxes, 30);
    }
  }
}

TEST(Move, ColumnsThatAlternateAtTheTargetAreMovedTogether) {
  for (const std::int64_t ways : {2, 3}) {
    for (const std::int64_t columns : {1, 9, 70}) {
      std::vector<layout::Box> boxes;  // target [row][column][way] of source [way][column][row]
      for (std::int64_t way = 0; way < ways; ++way) {
        layout::Box box;
        box.source_offset = way * columns * 65;
        box.target_offset = way;
        box.axes = {{65, 1, columns * ways}, {columns, 65, ways}};
        layout::normalise(box);
        boxes.push_back(box);
        check(box, 40 + static_cast<std::uint64_t>(way));
      }
      check_together(boxes, 50);
    }
  }
}

/// Two boxes whose elements do not alternate must not be taken for such.
TEST(Move, NeighboursThatDoNotAlternateStayApart) {
  layout::Box first;
  first.axes = {{20, 2, 30}, {30, 40, 1}};
  layout::Box second = first;
  second.source_offset = 3;  // two columns further on
  second.target_offset = 600;
  check_together({first, second}, 60);
  second.source_offset = 1;
  second.axes[1].extent = 29;
  check_together({first, second}, 61);
}

TEST(Move, TilesOfEveryShapeAreCopiedAsElementByElement) {
  for (const auto& [rows, columns] : std::vector<std::pair<std::int64_t, std::int64_t>>{
           {131, 2077}, {523, 45}, {260, 130}, {224, 150}}) {
    check(permuted({rows, columns}, {1, 0}, 0), 70);
    check(permuted({rows, columns}, {1, 0}, 5), 71);
  }
}

TEST(Move, RepeatedSourceElementsAreCopiedToEachPlace) {
  layout::Box box;
  box.axes = {{3, 5, 20}, {4, 0, 5}, {5, 1, 1}};
  check(box, 4);
}

TEST(Move, ABoxWithoutASourceWritesZerosAndFindsWhatIsNotZero) {
  layout::Box box;
  box.source = -1;
  box.target_offset = 2;
  box.axes = {{3, 0, 10}, {4, 0, 1}};
  Bytes target(40, kPoison);
  move::copy_box(box, nullptr, target.data(), 0, 1);
  EXPECT_EQ(target, reference(box, {}, 40, 1));
  EXPECT_EQ(move::first_difference(box, nullptr, target.data(), 0, 1), std::nullopt);
  target[14] = std::byte{9};
  EXPECT_EQ(move::first_difference(box, nullptr, target.data(), 0, 1), 14);
}

TEST(Move, WindowsOfABoxTogetherAreTheBox) {
  const layout::Box box = permuted({3, 7, 11}, {1, 0, 2}, 0);
  const Bytes source = random_bytes(3 * 7 * 11, 8);
  const Bytes wanted = reference(box, source, 3 * 7 * 11, 1);
  for (std::int64_t step = 1; step < 240; step += 7) {
    Bytes found(3 * 7 * 11, kPoison);
    std::int64_t elements = 0;
    for (std::int64_t begin = 0; begin < 231; begin += step) {
      std::vector<layout::BoxPiece> pieces;
      layout::pieces_in(box, begin, begin + step, pieces);
      for (const layout::BoxPiece& piece : pieces) {
        elements += piece.elements();
        move::copy_piece(move::best_isa(), piece, source.data(), found.data(), 0, 1);
      }
    }
    ASSERT_EQ(elements, 231) << step;
    ASSERT_EQ(found, wanted) << step;
  }
}

TEST(Rows, DifferenceInAnyByteOfAnyRowIsSeen) {
  const Bytes source = random_bytes(3 * 140, 9);
  for (const std::int64_t bytes : {1, 2, 3, 5, 8, 13, 16, 31, 47, 64, 65, 130}) {
    const move::RowRuns rows{3, bytes, 140, 150};
    for (const move::Isa isa : instruction_sets()) {
      Bytes target(3 * 150, kPoison);
      move::copy_rows(isa, rows, source.data(), target.data());
      ASSERT_TRUE(move::equal_rows(isa, rows, source.data(), target.data()));
      for (std::size_t at = 0; at < target.size(); ++at) {
        target[at] ^= std::byte{0x80};
        const bool inside = static_cast<std::int64_t>(at % 150) < bytes;
        ASSERT_EQ(move::equal_rows(isa, rows, source.data(), target.data()), !inside) << at;
        target[at] ^= std::byte{0x80};
      }
    }
  }
}

/// A few short rows have loops of their own, many have those of the instruction set, and so have
/// long ones with gaps between them.
TEST(Rows, OfEveryLengthAreCopiedAndNothingBesideThem) {
  constexpr std::int64_t kRoom = 5;  // between rows of the target
  std::vector<std::int64_t> lengths(130);
  std::iota(lengths.begin(), lengths.end(), 1);
  for (const std::int64_t longer : {1023, 1024, 1087, 1280, 1350, 4095, 4096, 4097, 4160, 8257}) {
    lengths.push_back(longer);
  }
  for (const Isa isa : instruction_sets()) {
    for (const std::int64_t bytes : lengths) {
      for (const std::int64_t count : {std::int64_t{1}, std::int64_t{3}, 4096 / bytes + 2}) {
        const RowRuns rows{count, bytes, bytes + 1, bytes + kRoom};
        Bytes source(static_cast<std::size_t>(count * rows.source_step));
        for (std::size_t i = 0; i < source.size(); ++i) {
          source[i] = static_cast<std::byte>(i * 131 % 251);
        }
        Bytes target(static_cast<std::size_t>(count * rows.target_step), kPoison);
        copy_rows(isa, rows, source.data(), target.data());
        ASSERT_TRUE(equal_rows(isa, rows, source.data(), target.data()));
        for (std::int64_t i = 0; i < count; ++i) {
          for (std::int64_t k = 0; k < rows.target_step; ++k) {
            const auto at = static_cast<std::size_t>(i * rows.target_step + k);
            const auto from = static_cast<std::size_t>(i * rows.source_step + k);
            ASSERT_EQ(target[at], k < bytes ? source[from] : kPoison)
                << bytes << " bytes, row " << i << " of " << count << ", byte " << k;
          }
        }
      }
    }
  }
}

TEST(Rows, ThatAreNotZeroInOneByteAreSeen) {
  for (std::int64_t bytes = 1; bytes <= 130; ++bytes) {
    const RowRuns rows{2, bytes, 0, bytes + 1};
    Bytes target(static_cast<std::size_t>(2 * rows.target_step), std::byte{0});
    target[static_cast<std::size_t>(bytes)] = kPoison;  // between the rows
    EXPECT_TRUE(zero_rows(rows, target.data()));
    for (std::int64_t i = 0; i < 2 * rows.target_step - 1; ++i) {
      if (i != bytes) {
        target[static_cast<std::size_t>(i)] = std::byte{1};
        EXPECT_FALSE(zero_rows(rows, target.data())) << bytes << " bytes, byte " << i;
        target[static_cast<std::size_t>(i)] = std::byte{0};
      }
    }
  }
}

}  // namespace
}  // namespace bv::move

#include "core/layout/box.hpp"

#include <gtest/gtest.h>

#include <random>

#include "core/layout/notation.hpp"

namespace bv::layout {
namespace {

using Map =
    std::vector<std::pair<int, std::int64_t>>;  // target element -> (source tensor, source element)

void walk(const Box& box, std::size_t axis, std::int64_t source, std::int64_t target, Map& map,
          std::int64_t base) {
  if (axis == box.axes.size()) {
    auto& at = map[static_cast<std::size_t>(target - base)];
    EXPECT_EQ(at.first, -2) << "written twice: " << target;
    at = {box.source, box.source < 0 ? 0 : source};
    return;
  }
  for (std::int64_t i = 0; i < box.axes[axis].extent; ++i) {
    walk(box, axis + 1, source + i * box.axes[axis].source_stride,
         target + i * box.axes[axis].target_stride, map, base);
  }
}

Map enumerate(const std::vector<Box>& boxes, std::int64_t elements, std::int64_t base = 0) {
  Map map(static_cast<std::size_t>(elements), {-2, 0});
  for (const Box& box : boxes) {
    walk(box, 0, box.source_offset, box.target_offset, map, base);
  }
  return map;
}

Rule rule_of(std::string_view text) {
  auto rule = parse_rule(text);
  EXPECT_TRUE(rule.has_value());
  return std::move(*rule);
}

TEST(Box, ColumnCutIsOneContiguousRun) {
  const Rule rule = rule_of("column x[(t o) i] -> x{t}[o i]");
  const auto bound = BoundRule::bind(rule, {{{"t", 2}, {"o", 3}, {"i", 5}}, {}});
  ASSERT_TRUE(bound.has_value());
  EXPECT_EQ(bound->source_shapes()[0], (Shape{6, 5}));
  const Shard shard = bound->shard(0, {{"t", 1}});
  EXPECT_EQ(shard.shape, (Shape{3, 5}));
  ASSERT_EQ(shard.boxes.size(), 1U);
  EXPECT_EQ(shard.boxes[0], (Box{0, 15, 0, {{15, 1, 1}}, 0}));
}

TEST(Box, RowCutKeepsARunARow) {
  const Rule rule = rule_of("row x[o (t i)] -> x{t}[o i]");
  const auto bound = BoundRule::bind(rule, {{{"t", 2}, {"o", 3}, {"i", 5}}, {}});
  ASSERT_TRUE(bound.has_value());
  EXPECT_EQ(bound->shard(0, {{"t", 1}}).boxes[0], (Box{0, 5, 0, {{3, 10, 5}, {5, 1, 1}}, 0}));
}

TEST(Box, PaddingIsABoxWithoutSource) {
  const Rule rule = rule_of("v x[v h] -> x[(x: v | pad: p) h] cut 0 by t");
  const auto bound = BoundRule::bind(rule, {{{"t", 2}, {"v", 3}, {"p", 1}, {"h", 2}}, {}});
  ASSERT_TRUE(bound.has_value());
  const Map last = enumerate(bound->shard(0, {{"t", 1}}).boxes, 4);
  EXPECT_EQ(last, (Map{{0, 4}, {0, 5}, {-1, 0}, {-1, 0}}));
}

TEST(Box, ReplicaAxesReadOneSourceElement) {
  const Rule rule = rule_of("a x[g] -> x[(g *d)]");
  const auto bound = BoundRule::bind(rule, {{{"g", 2}, {"d", 3}}, {}});
  ASSERT_TRUE(bound.has_value());
  EXPECT_EQ(enumerate(bound->shard(0, {}).boxes, 6),
            (Map{{0, 0}, {0, 0}, {0, 0}, {0, 1}, {0, 1}, {0, 1}}));
}

TEST(Box, TheRestBindsAnyNumberOfTrailingDimensions) {
  const Rule rule = rule_of("column x[(t o) ...] -> x{t}[o ...]");
  const auto bias = BoundRule::bind(rule, {{{"t", 2}, {"o", 3}}, {}});
  ASSERT_TRUE(bias.has_value());
  EXPECT_EQ(bias->target_shapes()[0], (Shape{3}));
  const auto conv = BoundRule::bind(rule, {{{"t", 2}, {"o", 3}}, {1, 4}});
  ASSERT_TRUE(conv.has_value());
  EXPECT_EQ(conv->source_shapes()[0], (Shape{6, 1, 4}));
}

TEST(Box, AnAxisWithoutSizeIsAnError) {
  const Rule rule = rule_of("column x[(t o) i] -> x{t}[o i]");
  const auto bound = BoundRule::bind(rule, {{{"t", 2}, {"o", 3}}, {}});
  ASSERT_FALSE(bound.has_value());
  EXPECT_EQ(bound.error().message, "axis i has no size");
}

TEST(Box, ACutWithARemainderIsAnError) {
  const Rule rule = rule_of("v x[v] -> x[v] cut 0 by t");
  const auto bound = BoundRule::bind(rule, {{{"t", 2}, {"v", 3}}, {}});
  ASSERT_FALSE(bound.has_value());
  EXPECT_EQ(bound.error().code, Code::IndivisibleDim);
}

TEST(Box, APartThatIsRepeatedZeroTimesIsAnError) {
  const auto rule = parse_rule("a x[g] -> x[(g *d)]").value();
  const auto bound = BoundRule::bind(rule, {{{"g", 2}, {"d", 0}}, {}});
  ASSERT_FALSE(bound);
  EXPECT_EQ(bound.error().code, Code::BadValue);
  EXPECT_EQ(bound.error().message, "axis d repeats its part 0 times");
}

TEST(Box, ACutOfASingleNumberIsAnError) {
  const auto rule = parse_rule("a x[...] -> x[...] cut 0 by t").value();
  const auto bound = BoundRule::bind(rule, {{{"t", 2}}, {}});
  ASSERT_FALSE(bound);
  EXPECT_EQ(bound.error().code, Code::IndivisibleDim);
  EXPECT_EQ(bound.error().message, "x has no rows that t could cut");
}

TEST(Box, SizesBeyond63BitsAreAnError) {
  const Rule rule = rule_of("a x[(i j)] -> x[(i j)]");
  const auto bound =
      BoundRule::bind(rule, {{{"i", std::int64_t{1} << 40}, {"j", std::int64_t{1} << 40}}, {}});
  ASSERT_FALSE(bound.has_value());
  EXPECT_EQ(bound.error().code, Code::BadValue);
}

TEST(Box, ClippedPiecesAreExactlyTheWindow) {
  const Rule rule = rule_of(
      "qkv q[(g n d) h], k[(g d) h], v[(g d) h] -> y[(g (q: n d | k: d | v: d)) h] cut 0 by t");
  const auto bound =
      BoundRule::bind(rule, {{{"g", 3}, {"n", 2}, {"d", 4}, {"h", 3}, {"t", 1}}, {}});
  ASSERT_TRUE(bound.has_value());
  const auto boxes = bound->shard(0, {}).boxes;
  const std::int64_t elements = 3 * 4 * 4 * 3;
  const Map whole = enumerate(boxes, elements);
  for (std::int64_t begin = 0; begin < elements; ++begin) {
    for (std::int64_t end = begin + 1; end <= elements; end += 7) {
      std::vector<Box> pieces;
      for (const Box& box : boxes) {
        clip_to_target(box, begin, end, pieces);
      }
      const Map part = enumerate(pieces, end - begin, begin);
      ASSERT_TRUE(std::equal(part.begin(), part.end(), whole.begin() + begin))
          << begin << " " << end;
    }
  }
}

TEST(Box, InverseOfAllShardsRebuildsEverySource) {
  for (const std::int64_t t : {1, 2, 3, 6, 12}) {  // 12 cuts fall inside a head
    const Rule rule = rule_of(
        "qkv q[(g n d) h], k[(g d) h], v[(g d) h] -> y[(g (q: n d | k: d | v: d)) h] cut 0 by t");
    const auto bound =
        BoundRule::bind(rule, {{{"g", 3}, {"n", 2}, {"d", 4}, {"h", 2}, {"t", t}}, {}});
    ASSERT_TRUE(bound.has_value());
    for (int source = 0; source < 3; ++source) {
      std::vector<Box> back;
      for (std::int64_t rank = 0; rank < t; ++rank) {
        for (const Box& box : bound->shard(0, {{"t", rank}}).boxes) {
          if (box.source == source) {
            back.push_back(inverse(box, static_cast<int>(rank)));
          }
        }
      }
      const Shape& shape = bound->source_shapes()[static_cast<std::size_t>(source)];
      EXPECT_TRUE(check_tiling(back, shape[0] * shape[1]).has_value()) << t;
    }
  }
}

/// Keys that are values: wherever a cut falls, inside a head too, each element comes back once.
TEST(Box, FirstCopiesOfAllShardsRebuildASourceThatIsHeldTwice) {
  const Rule rule =
      rule_of("twice q[(g n d) ...], k[(g d) ...] -> y[(g (q: n d | k: *c d)) ...] cut 0 by t");
  std::int64_t parted = 0;
  for (const std::int64_t g : {1, 2, 3}) {
    for (const std::int64_t n : {1, 2, 4}) {
      for (const std::int64_t d : {2, 3, 8}) {
        for (const std::int64_t t : {1, 2, 3, 4, 6, 8}) {
          const auto bound =
              BoundRule::bind(rule, {{{"g", g}, {"n", n}, {"d", d}, {"c", 2}, {"t", t}}, {3}});
          if (!bound) {
            continue;  // a cut with a remainder
          }
          std::vector<Box> back;
          for (std::int64_t rank = 0; rank < t; ++rank) {
            for (const Box& box : bound->shard(0, {{"t", rank}}).boxes) {
              if (box.source == 1) {
                back.push_back(inverse(box, static_cast<int>(rank)));
              }
            }
          }
          const std::int64_t elements = g * d * 3;
          parted += check_tiling(back, elements) ? 0 : 1;
          const std::vector<Box> once = first_copies(back);
          EXPECT_TRUE(check_tiling(once, elements)) << g << n << d << t;
          // The first rank that holds an element gives it.
          Map first(static_cast<std::size_t>(elements), {-2, 0});
          for (const Box& box : back) {
            const Map own = enumerate({box}, elements);
            for (std::size_t i = 0; i < own.size(); ++i) {
              first[i] = first[i].first == -2 ? own[i] : first[i];
            }
          }
          EXPECT_EQ(enumerate(once, elements), first);
        }
      }
    }
  }
  EXPECT_GT(parted, 10);
}

TEST(Tiling, FindsTheFirstGapAndTheFirstOverlap) {
  const Box left{0, 0, 0, {{4, 1, 1}}, 0};
  const Box right{0, 0, 5, {{3, 1, 1}}, 0};
  const Box inside{0, 0, 3, {{2, 1, 1}}, 0};
  auto gap = check_tiling(std::vector<Box>{left, right}, 8);
  ASSERT_FALSE(gap.has_value());
  EXPECT_EQ(gap.error().code, Code::Gap);
  EXPECT_EQ(gap.error().message, "element 4 is not written");
  auto overlap = check_tiling(std::vector<Box>{left, inside, right}, 8);
  ASSERT_FALSE(overlap.has_value());
  EXPECT_EQ(overlap.error().code, Code::Overlap);
  EXPECT_EQ(check_tiling(std::vector<Box>{left}, 8).error().code, Code::Gap);
  EXPECT_TRUE(check_tiling(std::vector<Box>{}, 0).has_value());
  EXPECT_FALSE(check_tiling(std::vector<Box>{}, 1).has_value());
}

TEST(Tiling, AgreesWithEnumerationOnRandomBoxes) {
  std::mt19937_64 random(7);
  const auto draw = [&](std::int64_t low, std::int64_t high) {
    return low + static_cast<std::int64_t>(random() % static_cast<std::uint64_t>(high - low + 1));
  };
  int right = 0;
  for (int round = 0; round < 4000; ++round) {
    // Interleaved boxes of one outer axis that tile, with a fault planted in half of the rounds.
    const std::int64_t outer = draw(1, 4);
    const std::int64_t parts = draw(1, 3);
    std::vector<std::int64_t> widths;
    std::int64_t period = 0;
    for (std::int64_t i = 0; i < parts; ++i) {
      widths.push_back(draw(1, 3));
      period += widths.back();
    }
    const std::int64_t elements = outer * period;
    std::vector<Box> boxes;
    std::int64_t at = 0;
    for (const std::int64_t width : widths) {
      Box box{0, 0, at, {{outer, 1, period}, {width, 1, 1}}, 0};
      at += width;
      if (draw(0, 5) == 0) {
        box.target_offset += draw(0, 2) - 1;
        box.axes[0].extent += draw(0, 1);
      }
      if (box.target_offset >= 0) {
        normalise(box);
        boxes.push_back(box);
      }
    }
    std::vector<int> hits(64, 0);
    for (const Box& box : boxes) {
      Map map(128, {-2, 0});
      walk(box, 0, 0, box.target_offset, map, 0);
      for (std::size_t i = 0; i < hits.size(); ++i) {
        hits[i] += map[i].first == -2 ? 0 : 1;
      }
    }
    bool exact = true;
    for (std::size_t i = 0; i < hits.size(); ++i) {
      exact = exact && hits[i] == (static_cast<std::int64_t>(i) < elements ? 1 : 0);
    }
    right += exact ? 1 : 0;
    ASSERT_EQ(check_tiling(boxes, elements).has_value(), exact) << round;
  }
  EXPECT_GT(right, 400);  // both answers occur
  EXPECT_LT(right, 3600);
}

TEST(Tiling, OfCopiesMayOverlapButLeavesNoGap) {
  const auto rows = [](std::int64_t first, std::int64_t count) {
    Box box;
    box.target_offset = first;
    box.axes = {{count, 1, 1}};
    return box;
  };
  const std::vector<Box> twice = {rows(0, 4), rows(2, 4), rows(3, 1)};
  EXPECT_TRUE(check_tiling(twice, 6, Cover::AtLeastOnce));
  EXPECT_EQ(check_tiling(twice, 6).error().code, Code::Overlap);
  EXPECT_EQ(check_tiling(twice, 7, Cover::AtLeastOnce).error().code, Code::Gap);
  const std::vector<Box> parted = {rows(0, 3), rows(1, 1), rows(4, 2)};
  EXPECT_EQ(check_tiling(parted, 6, Cover::AtLeastOnce).error().code, Code::Gap);
}

TEST(Tiling, BoxesThatLieApartAreLookedAtApart) {
  // Regular halves of another stride each: no axis is common, and no run need be listed.
  constexpr std::int64_t kRows = std::int64_t{1} << 40;
  const Box first{0, 0, 0, {{kRows, 1, 2}}, 0};
  const Box second{0, 0, 1, {{kRows, 1, 2}}, 0};
  const Box third{0, 0, 2 * kRows, {{kRows, 1, 3}, {3, 1, 1}}, 0};
  const std::vector<Box> all = {first, second, third};
  EXPECT_TRUE(check_tiling(all, 5 * kRows));
  EXPECT_EQ(check_tiling(all, 5 * kRows + 1).error().code, Code::Gap);
  const std::vector<Box> beyond = {first, second, third, third};
  EXPECT_EQ(check_tiling(beyond, 5 * kRows).error().code, Code::Overlap);
}

TEST(Tiling, MoreRunsThanCanBeListedStayUndecided) {
  constexpr std::int64_t kRows = std::int64_t{1} << 40;
  const std::vector<Box> interleaved = {Box{0, 0, 0, {{kRows, 1, 3}}, 0},
                                        Box{0, 0, 1, {{kRows / 2, 1, 6}, {2, 1, 1}}, 0}};
  const auto status = check_tiling(interleaved, 3 * kRows);
  ASSERT_FALSE(status);
  EXPECT_EQ(status.error().code, Code::TooLargeToCheck);
}

/// A 0 beside large dimensions: nothing is there, and no product of the others may overflow.
TEST(Box, ADimensionOfZeroMakesNoOtherOneSmall) {
  constexpr std::int64_t kHuge = std::int64_t{1} << 40;
  const Rule rule = parse_rule("carried x[...] -> x[...]").value();
  Binding small;
  small.rest = {0, 7};
  const auto empty = BoundRule::bind(rule, std::move(small));
  ASSERT_TRUE(empty.has_value()) << empty.error().message;
  EXPECT_EQ(empty->source_shapes()[0], (Shape{0, 7}));
  Binding large;
  large.rest = {0, kHuge, kHuge};
  const auto refused = BoundRule::bind(rule, std::move(large));
  ASSERT_FALSE(refused.has_value());
  EXPECT_EQ(refused.error().code, Code::BadValue);
  const Box box{0, 0, 0, {{kHuge, kHuge, kHuge}, {kHuge, 1, 1}, {0, 1, 1}}, 0};
  EXPECT_EQ(box.elements(), 0);
}

}  // namespace
}  // namespace bv::layout

// The functions that host and device share, walked over every small box.

#include "core/layout/index_box.hpp"

#include <gtest/gtest.h>

#include <map>

#include "core/layout/box.hpp"
#include "core/layout/notation.hpp"

namespace bv::layout {
namespace {

/// target -> source, by nested loops over the axes.
void walk(const Box& box, std::size_t axis, BoxPlace at,
          std::map<std::int64_t, std::int64_t>& out) {
  if (axis == box.axes.size()) {
    EXPECT_TRUE(out.emplace(at.target, at.source).second) << "two elements on " << at.target;
    return;
  }
  for (std::int64_t i = 0; i < box.axes[axis].extent; ++i) {
    walk(box, axis + 1,
         {at.source + i * box.axes[axis].source_stride,
          at.target + i * box.axes[axis].target_stride},
         out);
  }
}

void expect_shared_functions_agree(const Box& box, std::int64_t elements) {
  std::map<std::int64_t, std::int64_t> walked;
  walk(box, 0, {box.source_offset, box.target_offset}, walked);
  ASSERT_EQ(std::ssize(walked), box.elements());
  for (std::int64_t target = -1; target <= elements; ++target) {
    const auto found = walked.find(target);
    ASSERT_EQ(source_of(box, target), found == walked.end() ? kNowhere : found->second) << target;
  }
  std::int64_t number = 0;
  for (const auto& [target, source] : walked) {  // ascending targets
    const BoxPlace place = place_of(box, number++);
    ASSERT_EQ(place.target, target);
    ASSERT_EQ(place.source, source);
  }
}

/// Every kind of the catalogue's shapes of sum and product, at every size up to 3 and every rank.
TEST(IndexBox, AgreesWithNestedLoopsForEveryBoxOfSmallLines) {
  const std::vector<std::string> lines = {
      "column x[(t o) i] -> x{t}[o i]",
      "row x[o (t i)] -> x{t}[o i]",
      "transpose x[i o] -> x[o i]",
      "qkv q[(t g n d) h], k[(t g d) h], v[(t g d) h] -> y{t}[(g (q: n d | k: d | v: d)) h]",
      "gated gate[(t f) h], up[(t f) h] -> y{t}[(gate: f | up: f) h]",
      "inner x[o h (f (gate: 1 | up: 1))] -> y[o (gate: f | up: f) h]",
      "conv x[(q: t a o | k: t a o) 1 h] -> x{t}[(q: a o | k: a o) 1 h]",
      "padded x[v h] -> x[(x: v | pad: p) h]",
      "repeated x[o] -> x[o *d]",
  };
  std::int64_t boxes = 0;
  for (const std::string& text : lines) {
    const Rule rule = parse_rule(text).value();
    for (int size = 0; size < 81; ++size) {
      const auto digit = [&](int place) { return std::int64_t{1} + size / place % 3; };
      Binding binding;
      binding.axes = {{"t", digit(1)}, {"o", digit(3)}, {"i", digit(9)},  {"h", digit(27)},
                      {"g", digit(3)}, {"n", digit(9)}, {"d", digit(27)}, {"f", digit(3)},
                      {"a", digit(9)}, {"v", digit(3)}, {"p", digit(9)}};
      const auto bound = BoundRule::bind(rule, binding);
      ASSERT_TRUE(bound.has_value()) << text << ": " << bound.error().message;
      for (std::int64_t t = 0; t < digit(1); ++t) {
        const Shard shard = bound->shard(0, {{"t", t}});
        std::int64_t elements = 1;
        for (const std::int64_t extent : shard.shape) {
          elements *= extent;
        }
        for (const Box& box : shard.boxes) {
          expect_shared_functions_agree(box, elements);
          expect_shared_functions_agree(inverse(box, 0), 3 * 3 * 3 * 3 * 3);
          ++boxes;
        }
      }
    }
  }
  EXPECT_GT(boxes, 1000);
}

TEST(IndexBox, AnElementBetweenTheRowsOfABoxIsNowhere) {
  const Box box{0, 6, 0, {{3, 1, 2}, {2, 3, 1}}};
  EXPECT_EQ(source_of(box, 3), 10);
  const Box gaps{0, 0, 1, {{2, 4, 5}, {2, 1, 1}}};
  EXPECT_EQ(source_of(gaps, 0), kNowhere);
  EXPECT_EQ(source_of(gaps, 2), 1);
  EXPECT_EQ(source_of(gaps, 3), kNowhere);
  EXPECT_EQ(source_of(gaps, 6), 4);
  EXPECT_EQ(source_of(gaps, 8), kNowhere);
}

TEST(IndexBox, APartOfMoreAxesThanABoxHoldsIsRefusedWhenItIsBound) {
  std::string source;
  std::string target;
  Binding binding;
  for (char axis = 'a'; axis < 'j'; ++axis) {  // nine axes that no two of join: reversed
    source = source + axis + " ";
    target = std::string(1, axis) + " " + target;
    binding.axes[std::string(1, axis)] = 2;
  }
  const Rule rule = parse_rule("long x[(" + source + ")] -> x[(" + target + ")]").value();
  const auto bound = BoundRule::bind(rule, binding);
  ASSERT_FALSE(bound.has_value());
  EXPECT_EQ(bound.error().code, Code::BadValue);
  EXPECT_EQ(bound.error().found, "9");
  binding.axes["e"] = 1;  // an axis of one element takes no place
  EXPECT_TRUE(BoundRule::bind(rule, binding).has_value());
}

}  // namespace
}  // namespace bv::layout

#include "core/layout/side.hpp"

#include <gtest/gtest.h>

#include "core/layout/notation.hpp"

namespace bv::layout {
namespace {

std::string side(const std::string& text, Side wanted) {
  const auto rule = parse_rule(text);
  EXPECT_TRUE(rule) << text;
  const auto out = side_of(*rule, wanted);
  return out ? print(*out).substr(out->name.size() + 1) : out.error().message;
}

TEST(Side, KeepsTheRowsOfEachSourceAndTheColumnsOnce) {
  const std::string qkv =
      "qkv q[(g n d) ...], k[(g d) ...], v[(g d) ...] -> w[(g (q: n d | k: d | v: d)) ...] cut 0 "
      "by "
      "t";
  EXPECT_EQ(side(qkv, Side::Rows),
            "q[(g n d)], k[(g d)], v[(g d)] -> w[(g (q: n d | k: d | v: d))] cut 0 by t");
  EXPECT_EQ(side(qkv, Side::Columns), "w[...] -> w[...]");
}

TEST(Side, TheCutStaysWithTheSideThatItCuts) {
  EXPECT_EQ(side("row x[o (t i)] -> x{t}[o i]", Side::Rows), "x[o] -> x[o]");
  EXPECT_EQ(side("row x[o (t i)] -> x{t}[o i]", Side::Columns), "x[(t i)] -> x{t}[i]");
  EXPECT_EQ(side("column x[(t o) ...] -> x{t}[o ...]", Side::Rows), "x[(t o)] -> x{t}[o]");
  EXPECT_EQ(side("column x[(t o) ...] -> x{t}[o ...]", Side::Columns), "x[...] -> x[...]");
}

TEST(Side, LeavesTheExpertsToTheGrid) {
  const std::string fc1 = "fc1 x[E h (t f (gate: 1 | up: 1))] -> x{E t}[(gate: f | up: f) h]";
  EXPECT_EQ(side(fc1, Side::Rows), "x[(t f (gate: 1 | up: 1))] -> x{t}[(gate: f | up: f)]");
  EXPECT_EQ(side(fc1, Side::Columns), "x[h] -> x[h]");
}

TEST(Side, IsRefusedWhereAParameterIsNoMatrix) {
  EXPECT_EQ(side("bias x[E o] -> x{E *t}[o]", Side::Rows),
            "bias has no rows and columns: its target has no columns");
  EXPECT_EQ(side("mixed x[(o i)] -> x[o i]", Side::Rows),
            "mixed has no rows and columns: a dimension of x holds both");
}

TEST(Side, KnowsWhichSourcesStoreColumnsFirst) {
  EXPECT_TRUE(stores_columns_first(*parse_rule("transpose x[i o] -> x[o i]")));
  EXPECT_TRUE(stores_columns_first(*parse_rule("down x[E (t i) o] -> x{E t}[o i]")));
  EXPECT_FALSE(stores_columns_first(*parse_rule("down x[E o (t i)] -> x{E t}[o i]")));
  EXPECT_FALSE(stores_columns_first(*parse_rule("same x[...] -> x{*t}[...]")));
}

}  // namespace
}  // namespace bv::layout

// Parts of a factor, put together by hand.

#include "oracles/lora_slices.hpp"

#include <gtest/gtest.h>

namespace bv::oracle {
namespace {

SlicedMatrix matrix(std::int64_t rows, std::int64_t columns, const std::string& text) {
  SlicedMatrix out{rows, columns, {}};
  for (const char c : text) {
    out.bytes.push_back(static_cast<std::byte>(c));
  }
  return out;
}

/// lora_A [2, 4] and lora_B [4, 2] of one slice, on two ranks that cut the rows of B.
SlicedMember column_parallel() {
  SlicedMember out;
  out.a = matrix(2, 4, "abcdefgh");
  out.b = matrix(4, 2, "01234567");
  out.element_bytes = 1;
  out.slice_rows = {4};
  out.a_parts = {{out.a}, {out.a}};
  out.b_parts = {{matrix(2, 2, "0123")}, {matrix(2, 2, "4567")}};
  return out;
}

TEST(LoraSlicesOracle, PutsRowsTogether) {
  EXPECT_EQ(wrong_when_put_together(column_parallel()), "");
  SlicedMember swapped = column_parallel();
  std::swap(swapped.b_parts[0], swapped.b_parts[1]);
  EXPECT_EQ(wrong_when_put_together(swapped), "the part of rank 0 is not rows 0 to 2 of lora_B");
  SlicedMember other = column_parallel();
  other.a_parts[1][0].bytes[3] = std::byte{0};
  EXPECT_EQ(wrong_when_put_together(other), "the part of rank 1 is not lora_A");
  SlicedMember less = column_parallel();
  less.b_parts.pop_back();
  less.a_parts.pop_back();
  EXPECT_NE(wrong_when_put_together(less), "");
}

TEST(LoraSlicesOracle, PutsColumnsTogether) {
  SlicedMember row = column_parallel();
  row.a_parts = {{matrix(2, 2, "abef")}, {matrix(2, 2, "cdgh")}};
  row.b_parts = {{row.b}, {row.b}};
  EXPECT_EQ(wrong_when_put_together(row), "");
  std::swap(row.a_parts[0], row.a_parts[1]);
  EXPECT_EQ(wrong_when_put_together(row), "the parts of all ranks together are not lora_A");
}

TEST(LoraSlicesOracle, PutsFullyShardedFactorsTogether) {
  SlicedMember sharded = column_parallel();
  sharded.a_parts = {{matrix(1, 4, "abcd")}, {matrix(1, 4, "efgh")}};
  EXPECT_EQ(wrong_when_put_together(sharded), "");
  sharded.a_parts = {{sharded.a}, {matrix(0, 4, "")}};  // the buffer is larger than the rank
  EXPECT_EQ(wrong_when_put_together(sharded), "");
  sharded.a_parts = {{matrix(1, 4, "abcd")}, {matrix(0, 4, "")}};
  EXPECT_NE(wrong_when_put_together(sharded), "");
}

/// Two slices of one member, the second with one head on four ranks.
TEST(LoraSlicesOracle, RepeatsHeadsOnNeighbours) {
  SlicedMember qkv;
  qkv.a = matrix(1, 1, "a");
  qkv.b = matrix(6, 1, "qrstkl");
  qkv.element_bytes = 1;
  qkv.slice_rows = {4, 2};
  const std::vector<std::string> q = {"q", "r", "s", "t"};
  const std::vector<std::string> k = {"k", "k", "l", "l"};
  for (std::size_t rank = 0; rank < 4; ++rank) {
    qkv.a_parts.push_back({qkv.a, qkv.a});
    qkv.b_parts.push_back({matrix(1, 1, q[rank]), matrix(1, 1, k[rank])});
  }
  EXPECT_EQ(wrong_when_put_together(qkv), "");
  std::swap(qkv.b_parts[1][1], qkv.b_parts[2][1]);
  EXPECT_EQ(wrong_when_put_together(qkv), "the part of rank 1 is not rows 4 to 5 of lora_B");
}

/// Parts that fit together, and lie on other ranks than the base's.
TEST(LoraSlicesOracle, AsksTheBaseWhoHoldsWhat) {
  SlicedMember rows = column_parallel();
  rows.base_rows = {{0, 1}, {2, 3}};
  EXPECT_EQ(wrong_when_put_together(rows), "");
  rows.base_rows = {{0, 2}, {1, 3}};  // two projections in one, each cut by itself
  EXPECT_EQ(wrong_when_put_together(rows),
            "the part of rank 0 holds row 1 of lora_B where its part of the base layer has row 2");
  SlicedMember columns = column_parallel();
  columns.a_parts = {{matrix(2, 2, "abef")}, {matrix(2, 2, "cdgh")}};
  columns.b_parts = {{columns.b}, {columns.b}};
  columns.base_columns = {{0, 1}, {2, 3}};
  EXPECT_EQ(wrong_when_put_together(columns), "");
  columns.base_columns = {{0, 2}, {1, 3}};
  EXPECT_EQ(wrong_when_put_together(columns),
            "the part of rank 0 has columns 0 to 2 of lora_A, which are not those of its part of "
            "the base layer");
}

}  // namespace
}  // namespace bv::oracle

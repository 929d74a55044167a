// Members of fused layers to slices and ranks, by hand and against brute force.

#include "core/serve/slice.hpp"

#include <gtest/gtest.h>

#include <array>
#include <functional>
#include <numeric>
#include <random>

namespace bv::lora {
namespace {

using WantedRows = std::vector<std::optional<std::int64_t>>;
using Places = std::vector<std::optional<Interval>>;
constexpr std::nullopt_t kMissing = std::nullopt;

/// Places as text: "[0, 3) -", or the code and the places of an error.
std::string covered(const std::vector<std::int64_t>& slices, const WantedRows& rows,
                    const std::vector<Interval>& declared = {}) {
  const auto found = cover_slices(slices, rows, declared, "in_proj");
  if (!found) {
    return found.error().code == Code::SliceAmbiguous ? "ambiguous: " + found.error().found
                                                      : "no cover";
  }
  std::string out;
  for (const auto& place : *found) {
    out += out.empty() ? "" : " ";
    out +=
        place ? "[" + std::to_string(place->begin) + "," + std::to_string(place->end) + ")" : "-";
  }
  return out;
}

TEST(SliceCover, CoversConsecutiveSlicesWithEachMember) {
  EXPECT_EQ(covered({2, 2, 3, 3}, {7, 3}), "[0,3) [3,4)");
  EXPECT_EQ(covered({2, 2, 3, 3}, {4, 6}), "[0,2) [2,4)");
  EXPECT_EQ(covered({2, 2, 3, 3}, {10}), "[0,4)");
  EXPECT_EQ(covered({128, 128, 256}, {256, 256}), "[0,2) [2,3)");
  EXPECT_EQ(covered({2048, 2048, 4096, 4096}, {8192, 4096}), "[0,3) [3,4)");
}

TEST(SliceCover, PinsMembersBesideOneThatIsMissing) {
  EXPECT_EQ(covered({2, 2, 3, 3}, {7, kMissing}), "[0,3) -");
  EXPECT_EQ(covered({2, 2, 3, 3}, {kMissing, 3}), "- [3,4)");
  EXPECT_EQ(covered({128, 128, 256}, {kMissing, 256}), "- [2,3)");
  EXPECT_EQ(covered({3, 2, 2, 3}, {kMissing, 7}), "- [1,4)");
  EXPECT_EQ(covered({4, 4, 2, 2}, {kMissing, 4, kMissing}), "- [1,2) -");
  EXPECT_EQ(covered({1, 1, 2, 1, 1}, {kMissing, 2, kMissing}), "- [2,3) -");
  EXPECT_EQ(covered({4, 4}, {kMissing, kMissing}), "- -");
}

TEST(SliceCover, NeverChoosesBetweenTwoPlaces) {
  EXPECT_EQ(covered({4, 4, 4, 4}, {kMissing, 4, kMissing}),
            "ambiguous: members of missing, 4, missing; places [1, 2), [2, 3)");
  EXPECT_EQ(covered({2, 2, 2, 2, 2}, {kMissing, 4, kMissing}),
            "ambiguous: members of missing, 4, missing; places [1, 3), [2, 4)");
  EXPECT_EQ(covered({4, 4, 4, 4}, {kMissing, 4, kMissing}, {{0, 1}, {1, 2}, {2, 4}}), "- [1,2) -");
  EXPECT_EQ(covered({4, 4, 4, 4}, {kMissing, 4, kMissing}, {{0, 2}, {2, 3}, {3, 4}}), "- [2,3) -");
}

TEST(SliceCover, RefusesWhatDoesNotAddUp) {
  EXPECT_EQ(covered({2, 2, 3, 3}, {7}), "no cover");
  EXPECT_EQ(covered({2, 2, 3, 3}, {9}), "no cover");
  EXPECT_EQ(covered({2, 2, 3, 3}, {12}), "no cover");
  EXPECT_EQ(covered({2, 2, 3, 3}, {6, 4}), "no cover");
  EXPECT_EQ(covered({4, 4}, {4, 3}), "no cover");
  EXPECT_EQ(covered({4, 4}, {4, 5}), "no cover");
  EXPECT_EQ(covered({2, 2}, {2, 1, 1}), "no cover") << "more members than slices";
  EXPECT_EQ(covered({2, 2}, {}), "no cover");
  EXPECT_EQ(covered({2, 0}, {2, kMissing}), "no cover") << "a slice without rows";
  EXPECT_EQ(covered({4, 4}, {4, 4}, {{0, 1}}), "no cover") << "one interval for two members";
  EXPECT_EQ(covered({4, 4}, {4, 4}, {{0, 1}, {0, 2}}), "no cover") << "not in order";
  EXPECT_EQ(covered({4, 2}, {4, 4}, {{0, 1}, {1, 2}}), "no cover") << "declared, but other rows";
}

TEST(SliceCover, AMessageSaysRowsFoundAndNeeded) {
  const std::vector<std::int64_t> slices = {2048, 2048, 4094};
  const WantedRows rows = {8188};
  const auto found = cover_slices(slices, rows, {}, "in_proj_qkv");
  ASSERT_FALSE(found);
  EXPECT_EQ(found.error().code, Code::SliceSum);
  EXPECT_EQ(found.error().message, "lora_B of in_proj_qkv has 8,188 rows, its slices need 8,190");
}

/// Every composition, tried.
Places brute_force(const std::vector<std::int64_t>& slices, const WantedRows& rows, int& feasible,
                   bool& unique) {
  std::vector<std::vector<Interval>> found;
  std::vector<Interval> now;
  const std::function<void(std::size_t)> place = [&](std::size_t at) {
    if (now.size() == rows.size()) {
      if (at == slices.size()) {
        found.push_back(now);
      }
      return;
    }
    std::int64_t sum = 0;
    for (std::size_t end = at; end < slices.size(); ++end) {
      sum += slices[end];
      const auto& wanted = rows[now.size()];
      if (!wanted || *wanted == sum) {
        now.push_back({static_cast<std::int64_t>(at), static_cast<std::int64_t>(end + 1)});
        place(end + 1);
        now.pop_back();
      }
    }
  };
  place(0);
  feasible = static_cast<int>(found.size());
  unique = true;
  Places out(rows.size());
  for (std::size_t j = 0; j < rows.size() && !found.empty(); ++j) {
    for (const auto& one : found) {
      unique = unique && (!rows[j] || one[j] == found[0][j]);
    }
    if (rows[j]) {
      out[j] = found[0][j];
    }
  }
  return out;
}

TEST(SliceCover, AgreesWithBruteForceOnTwentyThousandCases) {
  std::mt19937 random(36372);
  const auto below = [&](std::size_t most) { return static_cast<std::size_t>(random()) % most; };
  std::array<int, 3> seen{};
  for (int round = 0; round < 20000; ++round) {
    std::vector<std::int64_t> slices(1 + below(7));
    for (auto& slice : slices) {
      slice = static_cast<std::int64_t>(1 + below(3));
    }
    WantedRows rows;
    std::size_t at = 0;
    while (at < slices.size()) {  // a real composition, then members go missing or become wrong
      const std::size_t end = at + 1 + below(slices.size() - at);
      rows.emplace_back(std::accumulate(slices.begin() + static_cast<std::ptrdiff_t>(at),
                                        slices.begin() + static_cast<std::ptrdiff_t>(end),
                                        std::int64_t{0}));
      at = end;
    }
    for (auto& row : rows) {
      const std::size_t dice = below(10);
      row = dice < 4 ? std::nullopt : dice == 4 ? std::optional(*row + 1) : row;
    }
    int feasible = 0;
    bool unique = true;
    const Places wanted = brute_force(slices, rows, feasible, unique);
    const auto found = cover_slices(slices, rows, {}, "layer");
    if (feasible == 0) {
      ASSERT_FALSE(found);
      ASSERT_EQ(found.error().code, Code::SliceSum);
      ++seen[0];
    } else if (!unique) {
      ASSERT_FALSE(found);
      ASSERT_EQ(found.error().code, Code::SliceAmbiguous);
      ++seen[1];
    } else {
      ASSERT_TRUE(found);
      ASSERT_EQ(*found, wanted);
      ++seen[2];
    }
  }
  for (const int count : seen) {
    EXPECT_GT(count, 100);
  }
}

ServedLayer merged(std::vector<std::int64_t> slices, std::int64_t columns = 4) {
  return {"fused", LayerKind::MergedColumn, std::move(slices), columns, 0, {}};
}
Member member(std::int64_t rank, std::int64_t rows, std::int64_t columns = 4) {
  return {rank, columns, rows, rank};
}

/// WantedRows of the members' B on one rank, slice after slice: "0:2-3"; "zero" without a member.
std::string b_rows(const std::vector<SliceShard>& rank) {
  std::string out;
  for (const SliceShard& slice : rank) {
    out += out.empty() ? "" : " ";
    out += slice.member
               ? std::to_string(*slice.member) + ":" + std::to_string(slice.b_from_rows.begin) +
                     "-" + std::to_string(slice.b_from_rows.end)
               : "zero";
  }
  return out;
}

TEST(SliceLayer, CutsASingleFusedTensorSliceBySlice) {
  const std::vector<std::optional<Member>> one = {member(2, 6)};
  const auto two = slice_layer(merged({4, 2}), one, {}, {2, false, 8});
  ASSERT_TRUE(two);
  EXPECT_EQ(b_rows((*two)[0]), "0:0-2 0:4-5");
  EXPECT_EQ(b_rows((*two)[1]), "0:2-4 0:5-6");
  const std::vector<std::optional<Member>> whole = {member(2, 8)};
  const auto single = slice_layer(merged({8}), whole, {}, {2, false, 8});
  ASSERT_TRUE(single);
  EXPECT_EQ(b_rows((*single)[0]), "0:0-4");
  EXPECT_EQ(b_rows((*single)[1]), "0:4-8");
}

TEST(SliceLayer, CutsMembersThatCoverSeveralSlices) {
  const std::vector<std::optional<Member>> two = {member(2, 14), member(3, 6)};
  const auto cut = slice_layer(merged({4, 4, 6, 6}), two, {}, {2, false, 8});
  ASSERT_TRUE(cut);
  EXPECT_EQ(b_rows((*cut)[1]), "0:2-4 0:6-8 0:11-14 1:3-6");
  EXPECT_EQ((*cut)[1][3], (SliceShard{1, 8, 4, 3, 8, {0, 3}, {0, 4}, {3, 6}, {0, 3}}));
}

TEST(SliceLayer, CutsTheRankAxisWhenFullySharded) {
  const std::vector<std::optional<Member>> two = {member(3, 4), kMissing};
  const auto cut = slice_layer(merged({4, 4}), two, {}, {2, true, 4});
  ASSERT_TRUE(cut);
  EXPECT_EQ((*cut)[0][0], (SliceShard{0, 2, 4, 2, 4, {0, 2}, {0, 4}, {0, 2}, {0, 3}}));
  EXPECT_EQ((*cut)[1][0], (SliceShard{0, 2, 4, 2, 4, {2, 3}, {0, 4}, {2, 4}, {0, 3}}));
  EXPECT_EQ((*cut)[1][1], (SliceShard{std::nullopt, 2, 4, 2, 4, {}, {}, {}, {}}));
}

TEST(SliceLayer, KeepsHeadsOfKeysAndValuesOnEveryRankThatReadsThem) {
  const ServedLayer qkv{"qkv_proj", LayerKind::Qkv, {16, 4, 4}, 4, 2, {}};
  const std::vector<std::optional<Member>> members = {member(2, 16), member(2, 4), member(2, 4)};
  const auto cut = slice_layer(qkv, members, {}, {4, false, 8});
  ASSERT_TRUE(cut);
  EXPECT_EQ(b_rows((*cut)[0]), "0:0-4 1:0-2 2:0-2");
  EXPECT_EQ(b_rows((*cut)[1]), "0:4-8 1:0-2 2:0-2");
  EXPECT_EQ(b_rows((*cut)[3]), "0:12-16 1:2-4 2:2-4");
}

TEST(SliceLayer, ValuesMayHaveAHeadSizeOfTheirOwn) {
  const ServedLayer qkv{"qkv_proj", LayerKind::Qkv, {16, 8, 4}, 4, 2, {}};
  const std::vector<std::optional<Member>> fused = {member(2, 28)};
  const auto cut = slice_layer(qkv, fused, {}, {2, false, 8});
  ASSERT_TRUE(cut);
  EXPECT_EQ(b_rows((*cut)[0]), "0:0-8 0:16-20 0:24-26");
  EXPECT_EQ(b_rows((*cut)[1]), "0:8-16 0:20-24 0:26-28");
}

TEST(SliceLayer, ASliceThatEveryRankHoldsStaysWhole) {
  ServedLayer layer = merged({8, 2});
  layer.whole = {false, true};
  const std::vector<std::optional<Member>> fused = {member(2, 10)};
  const auto cut = slice_layer(layer, fused, {}, {4, false, 8});
  ASSERT_TRUE(cut);
  EXPECT_EQ(b_rows((*cut)[3]), "0:6-8 0:8-10");
}

/// The code of the refusal; nullopt when it was sliced.
std::optional<Code> refused(const ServedLayer& layer,
                            const std::vector<std::optional<Member>>& members,
                            const Serving& serving) {
  const auto cut = slice_layer(layer, members, {}, serving);
  return cut ? std::nullopt : std::optional(cut.error().code);
}

TEST(SliceLayer, RefusesBeforeAnythingIsPlaced) {
  const auto two = [](Member first) {
    return std::vector<std::optional<Member>>{first, member(2, 4)};
  };
  EXPECT_EQ(refused(merged({4, 4}), two(member(2, 4)), {2, true, 8}), std::nullopt);
  EXPECT_EQ(refused(merged({4, 4}), two(member(9, 4)), {1, false, 8}), Code::AdapterPairBroken);
  EXPECT_EQ(refused(merged({4, 4}), two({2, 4, 4, 3}), {1, false, 8}), Code::AdapterPairBroken);
  EXPECT_EQ(refused(merged({4, 4}), two({0, 4, 4, 0}), {1, false, 8}), Code::AdapterPairBroken);
  EXPECT_EQ(refused(merged({4, 4}), two(member(2, 4, 5)), {1, false, 8}), Code::AdapterShape);
  EXPECT_EQ(refused(merged({4, 4}), two(member(2, 4, 3)), {1, false, 8}), Code::AdapterShape);
  EXPECT_EQ(refused(merged({4, 4}), two(member(2, 3)), {2, false, 8}), Code::SliceSum);
  EXPECT_EQ(refused(merged({4, 4}), two(member(2, 5)), {2, false, 8}), Code::SliceSum);
  EXPECT_EQ(refused(merged({5, 3}), {member(2, 5), member(2, 3)}, {2, false, 8}),
            Code::IndivisibleDim);
  EXPECT_EQ(refused(merged({4, 4}), two(member(1, 4)), {2, true, 1}), Code::IndivisibleDim);
  const ServedLayer heads{"qkv_proj", LayerKind::Qkv, {24, 6, 6}, 4, 3, {}};
  EXPECT_EQ(refused(heads, {member(2, 24), member(2, 6), member(2, 6)}, {2, false, 8}),
            Code::IndivisibleDim);
}

TEST(SliceLayer, DispatchIsAFunctionOfKindMembersAndSlices) {
  struct Kind {
    LayerKind kind;
    std::function<bool(std::int64_t, std::int64_t)> takes;  // members, slices
  };
  const std::vector<Kind> kinds = {
      {LayerKind::MergedColumn, [](auto p, auto n) { return p >= 1 && p <= n; }},
      {LayerKind::Qkv, [](auto p, auto) { return p == 1 || p == 3; }},
      {LayerKind::Column, [](auto p, auto) { return p <= 1; }},
      {LayerKind::Row, [](auto p, auto) { return p <= 1; }},
      {LayerKind::Replicated, [](auto p, auto) { return p <= 1; }},
  };
  for (const Kind& kind : kinds) {
    for (std::int64_t p = 0; p <= 5; ++p) {
      for (std::int64_t n = 1; n <= 5; ++n) {
        const ServedLayer layer{
            "layer", kind.kind, std::vector<std::int64_t>(static_cast<std::size_t>(n), 4),
            4,       2,         {}};
        const auto served = members_served(layer, p, false);
        EXPECT_EQ(served.has_value(), kind.takes(p, n))
            << static_cast<int>(kind.kind) << " " << p << " " << n;
        if (!served) {
          EXPECT_EQ(served.error().code, Code::SliceLayer);
        }
        // A module that the adapter names itself is its own only member.
        EXPECT_TRUE(p != 0 || members_served(layer, 0, true));
      }
    }
  }
}

/// All ranks together hold every row of every member once, and with fully sharded factors every
/// rank row of A once.
TEST(SliceLayer, RanksTogetherHoldEverythingOnce) {
  std::mt19937 random(7);
  const auto up_to = [&](int most) {
    return 1 + static_cast<std::int64_t>(random() % static_cast<std::uint64_t>(most));
  };
  for (int round = 0; round < 500; ++round) {
    const std::int64_t tp = std::array<std::int64_t, 3>{1, 2, 4}[random() % 3];
    std::vector<std::int64_t> slices(static_cast<std::size_t>(up_to(4)));
    for (auto& slice : slices) {
      slice = tp * up_to(3);
    }
    const std::int64_t rows = std::accumulate(slices.begin(), slices.end(), std::int64_t{0});
    const std::int64_t rank = up_to(8);
    const bool sharded = random() % 2 == 0;
    const std::vector<std::optional<Member>> one = {member(rank, rows)};
    const auto cut = slice_layer(merged(slices), one, {}, {tp, sharded, 8});
    ASSERT_TRUE(cut);
    std::vector<int> seen(static_cast<std::size_t>(rows), 0);
    for (std::size_t i = 0; i < slices.size(); ++i) {
      std::vector<int> a_rows(static_cast<std::size_t>(rank), 0);
      for (const auto& shards : *cut) {
        const SliceShard& shard = shards[i];
        EXPECT_EQ(shard.b_from_rows.size(), shard.b_rows);
        for (std::int64_t x = shard.b_from_rows.begin; x < shard.b_from_rows.end; ++x) {
          ++seen[static_cast<std::size_t>(x)];
        }
        for (std::int64_t k = shard.a_from_rows.begin; k < shard.a_from_rows.end; ++k) {
          ++a_rows[static_cast<std::size_t>(k)];
        }
        EXPECT_LE(shard.a_from_rows.size(), shard.a_rows);
      }
      EXPECT_EQ(a_rows, std::vector<int>(a_rows.size(), sharded ? 1 : static_cast<int>(tp)));
    }
    EXPECT_EQ(seen, std::vector<int>(seen.size(), 1));
  }
}

}  // namespace
}  // namespace bv::lora

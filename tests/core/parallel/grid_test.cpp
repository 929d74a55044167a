#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <set>

#include "golden_runs.hpp"

namespace bv::parallel {
namespace {

using ::testing::HasSubstr;
using ::testing::IsEmpty;
using ::testing::SizeIs;

ShardKey key_of(const Coordinates& at, std::int64_t vp) {
  return {at.pp, at.tp, at.ep, at.etp, vp};
}

TEST(RankTable, EqualsTheRanksOfEveryRealRun) {
  const auto runs = golden_runs();
  ASSERT_THAT(runs, SizeIs(144));
  for (const GoldenRun& one : runs) {
    SCOPED_TRACE(one.name);
    const auto table = rank_table(one.layout, one.run.at("world").get<std::int64_t>());
    ASSERT_TRUE(table);
    ASSERT_THAT(*table, SizeIs(one.run.at("ranks").size()));
    for (const nlohmann::json& rank : one.run.at("ranks")) {
      const Coordinates& at = table->at(rank.at("rank").get<std::size_t>());
      const nlohmann::json ours = {
          {"rank", rank.at("rank")}, {"pp", at.pp}, {"tp", at.tp}, {"ep", at.ep},
          {"etp", at.etp},           {"dp", at.dp}};
      ASSERT_EQ(ours, rank);
    }
  }
}

TEST(ShardKeys, EqualTheShardsOfEveryRealRun) {
  for (const GoldenRun& one : golden_runs()) {
    SCOPED_TRACE(one.name);
    std::set<ShardKey> real;
    for (const nlohmann::json& shard : one.run.at("shards")) {
      real.insert(
          {shard.at("pp"), shard.at("tp"), shard.at("ep"), shard.at("etp"), shard.value("vp", 0)});
    }
    // A world larger than the smallest pairs more coordinates; its shards are those of its own
    // ranks.
    std::set<ShardKey> of_world;
    const auto table = rank_table(one.layout, one.run.at("world").get<std::int64_t>());
    ASSERT_TRUE(table);
    for (const Coordinates& at : *table) {
      for (std::int64_t vp = 0; vp < one.layout.vpp; ++vp) {
        of_world.insert(key_of(at, vp));
      }
    }
    EXPECT_EQ(of_world, real);
    const auto keys = shard_keys(one.layout);
    EXPECT_EQ(std::set<ShardKey>(keys.begin(), keys.end()), real);
  }
}

TEST(ShardKeys, AreTheDistinctCoordinatesOfTheSmallestWorldInRankOrder) {
  for (const std::int64_t tp : {1, 2, 3, 4}) {
    for (const std::int64_t ep : {1, 2, 3, 8}) {
      for (const std::int64_t etp : {1, 2}) {
        for (const std::int64_t cp : {1, 2}) {
          const Layout layout{.tp = tp, .pp = 2, .ep = ep, .etp = etp, .vpp = 2, .cp = cp};
          const auto table = rank_table(layout, minimum_world(layout));
          ASSERT_TRUE(table);
          std::vector<ShardKey> wanted;
          std::set<ShardKey> seen;
          for (const Coordinates& at : *table) {
            if (seen.insert(key_of(at, 0)).second) {
              wanted.push_back(key_of(at, 0));
              wanted.push_back(key_of(at, 1));
            }
          }
          EXPECT_EQ(shard_keys(layout), wanted) << layout_id(layout);
        }
      }
    }
  }
}

TEST(ShardKeys, DoNotChangeWithContextParallelism) {
  for (const std::int64_t cp : {2, 3, 4, 8}) {
    EXPECT_EQ(shard_keys({.tp = 2, .pp = 2, .ep = 4, .etp = 1, .cp = cp}),
              shard_keys({.tp = 2, .pp = 2, .ep = 4, .etp = 1}));
  }
}

TEST(ShardKeys, OfALayoutThatCannotBeAreNone) {
  EXPECT_THAT(shard_keys({.tp = 0}), IsEmpty());
  EXPECT_THAT(shard_keys({.tp = 2, .pp = 2, .ep = 4, .etp = 1, .pp_before_dp = true}), IsEmpty());
  EXPECT_THAT(shard_keys({.tp = 2, .pp = 2, .ep = 2, .etp = 1, .pp_before_dp = true}), SizeIs(4));
}

TEST(MinimumWorld, IsTheLeastCommonMultipleOfBothGrids) {
  EXPECT_EQ(minimum_world({.tp = 2, .pp = 3, .ep = 4, .etp = 1}), 12);
  EXPECT_EQ(minimum_world({.tp = 2, .ep = 3, .etp = 1}), 6);
  EXPECT_EQ(minimum_world({.tp = 2, .ep = 4, .etp = 2, .cp = 3}), 24);
}

TEST(MinimumWorld, IsZeroForSizesThatCannotBe) {
  EXPECT_EQ(minimum_world({.tp = -1}), 0);
  EXPECT_EQ(minimum_world({.tp = kMaxSize, .ep = kMaxSize - 1}), 0);
  EXPECT_EQ(minimum_world({.tp = kMaxSize, .etp = 1}), kMaxSize);
}

TEST(RankTable, GoesThereAndBackInBothOrders) {
  std::int64_t tables = 0;
  for (const bool pp_before_dp : {false, true}) {
    for (const std::int64_t tp : {1, 2, 4}) {
      for (const std::int64_t pp : {1, 2, 3}) {
        for (const std::int64_t ep : {1, 2, 4}) {
          for (const std::int64_t etp : {1, 2}) {
            for (const std::int64_t cp : {1, 2}) {
              const Layout layout{
                  .tp = tp, .pp = pp, .ep = ep, .etp = etp, .cp = cp, .pp_before_dp = pp_before_dp};
              const std::int64_t world = 2 * minimum_world(layout);
              const auto table = rank_table(layout, world);
              if (!table) {
                EXPECT_THAT(table.error().message, HasSubstr("needs equal data-parallel sizes"));
                EXPECT_TRUE(pp_before_dp && pp > 1 && tp * cp != ep * etp) << layout_id(layout);
                continue;
              }
              ++tables;
              for (std::int64_t rank = 0; rank < world; ++rank) {
                const auto back = rank_of(layout, world, table->at(static_cast<std::size_t>(rank)));
                ASSERT_TRUE(back);
                ASSERT_EQ(*back, rank);
              }
            }
          }
        }
      }
    }
  }
  EXPECT_GT(tables, 120);
}

TEST(RankTable, PutsPipelineBeforeDataParallelWhenAsked) {
  const Layout layout{.tp = 1, .pp = 2, .ep = 1, .etp = 1, .pp_before_dp = true};
  const auto table = rank_table(layout, 4);
  ASSERT_TRUE(table);
  EXPECT_EQ(table->at(1), (Coordinates{.pp = 1}));
  EXPECT_EQ(table->at(2), (Coordinates{.dp = 1, .edp = 1}));
}

TEST(RankTable, RejectsAWorldThatTheDenseGridDoesNotDivide) {
  const Layout layout{.tp = 4, .ep = 2, .etp = 1};
  const auto table = rank_table(layout, 6);
  ASSERT_FALSE(table);
  EXPECT_EQ(table.error().code, Code::IndivisibleDim);
  EXPECT_THAT(table.error().message, HasSubstr("world size 6 is not a multiple of"));
  EXPECT_EQ(table.error().help, "nearest legal world size: 4 or 8");
  EXPECT_TRUE(rank_table(layout, 8));
}

TEST(RankTable, RejectsAWorldThatTheExpertGridDoesNotDivide) {
  const Layout layout{.tp = 2, .ep = 8, .etp = 1};
  const auto table = rank_table(layout, 12);
  ASSERT_FALSE(table);
  EXPECT_THAT(table.error().message, HasSubstr("world size 12 is not a multiple of"));
  EXPECT_EQ(table.error().help, "nearest legal world size: 8 or 16");
  EXPECT_TRUE(rank_table(layout, 16));
}

TEST(RankTable, RejectsTheOrderWhoseDataParallelSizesDiffer) {
  Layout layout{.tp = 2, .pp = 2, .ep = 4, .etp = 1, .pp_before_dp = true};
  const auto table = rank_table(layout, 8);
  ASSERT_FALSE(table);
  EXPECT_EQ(table.error().code, Code::Conflict);
  EXPECT_THAT(table.error().message, HasSubstr("needs equal data-parallel sizes"));
  layout.ep = 2;
  EXPECT_TRUE(rank_table(layout, 8));
  layout = {.tp = 2, .pp = 1, .ep = 4, .etp = 1, .pp_before_dp = true};
  EXPECT_TRUE(rank_table(layout, 8));
}

TEST(RankTable, RejectsSizesThatAreNoSizes) {
  for (const Layout& layout : {Layout{.tp = 0}, Layout{.pp = -1}, Layout{.ep = kMaxSize + 1},
                               Layout{.etp = 0}, Layout{.vpp = 0}, Layout{.cp = INT64_MIN}}) {
    const auto table = rank_table(layout, 8);
    ASSERT_FALSE(table);
    EXPECT_EQ(table.error().code, Code::BadValue);
    EXPECT_FALSE(table.error().help.empty());
  }
  EXPECT_EQ(rank_table({.tp = 0}, 8).error().message, "--tp 0 is not a positive number");
  EXPECT_FALSE(rank_table({}, 0));
  EXPECT_FALSE(rank_table({}, kMaxSize + 1));
  EXPECT_TRUE(rank_table({}, 1));
}

TEST(RankOf, RejectsCoordinatesOutsideTheirGroup) {
  const Layout layout{.tp = 2, .ep = 2, .etp = 1};
  EXPECT_FALSE(rank_of(layout, 2, {.tp = 2}));
  EXPECT_FALSE(rank_of(layout, 2, {.pp = -1}));
  EXPECT_TRUE(rank_of(layout, 2, {.tp = 1, .ep = 1}));
}

TEST(RankOf, RejectsDenseAndExpertCoordinatesOfTwoRanks) {
  const auto rank = rank_of({.tp = 2, .ep = 2, .etp = 1}, 2, {.tp = 0, .ep = 1});
  ASSERT_FALSE(rank);
  EXPECT_EQ(rank.error().code, Code::BadValue);
}

}  // namespace
}  // namespace bv::parallel

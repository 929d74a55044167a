#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "core/parallel/parallel.hpp"

namespace bv::parallel {
namespace {

TEST(LayoutId, NamesVirtualStagesAndContextOnlyAboveOne) {
  EXPECT_EQ(layout_id({.tp = 2, .ep = 8}), "tp2pp1ep8etp1");
  EXPECT_EQ(layout_id({.pp = 2, .vpp = 3, .cp = 4}), "tp1pp2ep1etp1vpp3cp4");
}

TEST(LayoutId, GoesThereAndBack) {
  const Layout layout{.tp = 2, .pp = 4, .ep = 8, .etp = 1, .vpp = 2, .cp = 3};
  const auto back = layout_from_id(layout_id(layout));
  ASSERT_TRUE(back);
  EXPECT_EQ(*back, layout);
}

TEST(LayoutId, LetsExpertTensorParallelismFollowTensorParallelism) {
  const auto layout = layout_from_id("tp4ep2");
  ASSERT_TRUE(layout);
  EXPECT_EQ(*layout, (Layout{.tp = 4, .ep = 2, .etp = 4}));
}

TEST(LayoutId, RejectsTextThatIsNoLayout) {
  for (const char* text : {"", "tp", "tp0", "tp2tp2", "tp-1", "xp2", "2", "tp2 pp1", "tp02",
                           "tp99999999999999999999", "tp2\n"}) {
    const auto layout = layout_from_id(text);
    ASSERT_FALSE(layout) << text;
    EXPECT_EQ(layout.error().code, Code::BadValue);
    EXPECT_FALSE(layout.error().help.empty());
  }
}

TEST(ShardName, GoesThereAndBack) {
  const ShardKey key{.pp = 1, .tp = 2, .ep = 3, .etp = 4, .vp = 1};
  EXPECT_EQ(shard_name(key, {.pp = 2, .vpp = 2}), "pp1_tp2_ep3_etp4_vp1");
  EXPECT_EQ(shard_from_name("pp1_tp2_ep3_etp4_vp1"), key);
  EXPECT_EQ(shard_name({.pp = 0, .tp = 1}, {.tp = 2}), "pp0_tp1_ep0_etp0");
  EXPECT_EQ(shard_from_name("pp0_tp1_ep0_etp0"), (ShardKey{.tp = 1}));
}

TEST(ShardName, CarriesTheChunkThatAnExplicitLayoutMakes) {
  EXPECT_EQ(shard_name({.vp = 1}, {.pp = 2, .pipeline_layout = "Et|t|t|tL"}),
            "pp0_tp0_ep0_etp0_vp1");
}

TEST(ShardName, RejectsTextThatIsNoShard) {
  for (const char* text :
       {"", "pp0", "pp0_tp0_ep0", "pp0_tp0_ep0_etp0_", "pp0_tp0_ep0_etp0_vp", "pp0_tp0_ep0_etp0.x",
        "tp0_pp0_ep0_etp0", "pp00_tp0_ep0_etp0", "pp-1_tp0_ep0_etp0"}) {
    EXPECT_EQ(shard_from_name(text), std::nullopt) << text;
  }
}

TEST(LegalValues, HoldEveryConditionAtOnce) {
  const std::vector<Divided> conditions = {{24, false}, {4, true}};
  EXPECT_EQ(legal_values(conditions, 64), (std::vector<std::int64_t>{1, 2, 4, 8, 12, 24}));
  EXPECT_EQ(legal_values(conditions, 4), (std::vector<std::int64_t>{1, 2, 4}));
  EXPECT_TRUE(legal_values(conditions, 0).empty());
}

TEST(LegalText, CutsLongLists) {
  EXPECT_EQ(legal_text(std::vector<std::int64_t>{1, 2, 4, 8}), "1 2 4 8");
  EXPECT_EQ(legal_text({}), "none");
  std::vector<std::int64_t> many(64);
  for (std::size_t i = 0; i < many.size(); ++i) {
    many[i] = static_cast<std::int64_t>(i) + 1;
  }
  EXPECT_EQ(legal_text(many), "1 2 3 4 5 6 7 8 9 10 11 ... 64");
}

TEST(NearestText, NamesTheNeighbours) {
  const std::vector<std::int64_t> values = {1, 2, 4, 8};
  EXPECT_EQ(nearest_text(values, 3), "2 or 4");
  EXPECT_EQ(nearest_text(values, 9), "8");
  EXPECT_EQ(nearest_text({}, 9), "none");
}

}  // namespace
}  // namespace bv::parallel

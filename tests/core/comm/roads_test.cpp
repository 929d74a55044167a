// The road of collectives against the direct one, for every golden model and many layouts: equal
// bytes on every rank, and back to the bytes of the checkpoint.

#include <gtest/gtest.h>

#include "core/comm/threads.hpp"
#include "core/plan/layout_set.hpp"
#include "tests/core/comm/road_case.hpp"
#include "tests/support/golden_model.hpp"

namespace bv::comm {
namespace {

constexpr Milliseconds kRoadPatience{20000};

/// Every rank of the world, `times` as large as the layout needs.
void expect_equal_roads(const Case& one, int times) {
  const std::string id = parallel::layout_id(one.plan.layout());
  const auto world = static_cast<int>(parallel::minimum_world(one.plan.layout())) * times;
  std::vector<Held> held(static_cast<std::size_t>(world));
  std::vector<std::size_t> equal(held.size(), 0);
  const auto ends = run_world(world, kRoadPatience, [&](Link& link) -> Status {
    const auto at = static_cast<std::size_t>(link.rank());
    BV_CHECK(import_on(link, one, held[at]));
    return export_on(link, one, held[at], equal[at]);
  });
  std::size_t tensors = 0;
  for (const model::Mapping& mapping : one.plan.model().mappings) {
    tensors += mapping.hf.size();
  }
  for (std::size_t rank = 0; rank < ends.size(); ++rank) {
    ASSERT_TRUE(ends[rank]) << id << " rank " << rank << ": " << ends[rank].error().message;
    EXPECT_EQ(equal[rank], tensors) << id << " rank " << rank;
  }
  std::set<std::string> seen;
  for (const plan::ShardFile& file : one.plan.files()) {
    for (const plan::Target& target : file.targets) {
      const TypedBytes wanted = direct(one.source, one.plan, target, one.policy);
      for (const Held& of_rank : held) {
        const auto found = of_rank.find(key_of(file, target));
        if (found != of_rank.end()) {
          EXPECT_TRUE(found->second == wanted) << id << " " << found->first;
          seen.insert(found->first);
        }
      }
      EXPECT_TRUE(seen.contains(key_of(file, target))) << id << " " << key_of(file, target);
    }
  }
}

class Roads : public ::testing::TestWithParam<std::string> {};

/// Layouts that use every axis that the model allows: each size alone, and the largest of all.
TEST_P(Roads, OfCollectivesGiveEveryRankTheBytesOfTheDirectOne) {
  const checkpoint::HfModel source = support::open_golden(GetParam());
  const auto all = plan::layouts_up_to(source.model, {}, 8, 0).layouts;
  ASSERT_FALSE(all.empty());
  constexpr std::size_t kLayouts = 7;
  const std::size_t step = std::max<std::size_t>(1, all.size() / kLayouts);
  for (std::size_t i = 0; i < all.size(); i += step) {
    const auto plan = plan::Plan::make(source.model, support::catalogue(), all[i]);
    ASSERT_TRUE(plan) << plan.error().message;
    expect_equal_roads({source, *plan, {}}, 1);
  }
}

INSTANTIATE_TEST_SUITE_P(Goldens, Roads, ::testing::ValuesIn(support::golden_cases()),
                         [](const auto& one) { return one.param; });

}  // namespace
}  // namespace bv::comm

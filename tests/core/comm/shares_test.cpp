// Who does what: everything once, by what a rank holds, evenly.

#include <gtest/gtest.h>

#include <numeric>
#include <set>

#include "core/comm/packed.hpp"
#include "core/comm/shares.hpp"
#include "core/plan/layout_set.hpp"
#include "tests/support/golden_model.hpp"

namespace bv::comm {
namespace {

parallel::Layout layout_named(const checkpoint::HfModel& source, const std::string& id) {
  return plan::with_padding(source.model, parallel::layout_from_id(id).value());
}

TEST(Shares, AMappingBelongsToAProcessWhoseRankHoldsAPart) {
  const checkpoint::HfModel source = support::open_golden("qwen3_moe");
  const auto plan =
      plan::Plan::make(source.model, support::catalogue(), layout_named(source, "tp2pp2ep2etp1"));
  ASSERT_TRUE(plan) << plan.error().message;
  const auto world = static_cast<int>(parallel::minimum_world(plan->layout()));
  const auto files = processes_of_files(*plan, world);
  const auto mappings = processes_of_mappings(*plan, source.headers, world);
  const auto table = parallel::rank_table(plan->layout(), world).value();
  for (std::size_t m = 0; m < mappings.size(); ++m) {
    const auto& at = table[static_cast<std::size_t>(mappings[m])];
    bool holds = false;
    for (const plan::Plan::Owner& owner : plan->owners()[m]) {
      const parallel::ShardKey& key = plan->files()[owner.file].key;
      holds = holds || (key.pp == at.pp && key.tp == at.tp && key.ep == at.ep);
    }
    EXPECT_TRUE(holds) << m;
  }
  EXPECT_EQ(std::set<int>(mappings.begin(), mappings.end()).size(),
            static_cast<std::size_t>(world));
  EXPECT_EQ(std::set<int>(files.begin(), files.end()).size(), static_cast<std::size_t>(world));
}

TEST(Shares, EveryNumberOfProcessesHasSomethingToDo) {
  const checkpoint::HfModel source = support::open_golden("llama");
  const auto plan =
      plan::Plan::make(source.model, support::catalogue(), layout_named(source, "tp2pp2"));
  ASSERT_TRUE(plan) << plan.error().message;
  for (const int processes : {1, 2, 3, 4, 5, 8}) {
    for (const int one : processes_of_mappings(*plan, source.headers, processes)) {
      EXPECT_LT(one, processes);
      EXPECT_GE(one, 0);
    }
    const auto files = processes_of_files(*plan, processes);
    EXPECT_EQ(std::set<int>(files.begin(), files.end()).size(),
              static_cast<std::size_t>(std::min(processes, 4)));
  }
}

TEST(Shares, APieceBelongsToAProcessOfItsRankAndAllHaveSome) {
  const checkpoint::HfModel source = support::open_golden("llama");
  const auto plan =
      plan::Plan::make(source.model, support::catalogue(), layout_named(source, "tp2pp2"));
  ASSERT_TRUE(plan) << plan.error().message;
  std::vector<FilePiece> pieces;
  for (std::size_t i = 0; i < 40; ++i) {
    pieces.push_back({i % plan->files().size(), 10 + i});
  }
  for (const int processes : {1, 2, 3, 4, 8, 11}) {
    const auto found = processes_of_pieces(*plan, pieces, processes);
    const auto files = processes_of_files(*plan, processes);
    EXPECT_EQ(std::set<int>(found.begin(), found.end()).size(),
              static_cast<std::size_t>(processes));
    for (std::size_t i = 0; i < pieces.size(); ++i) {
      // Each process stands for a rank; of more processes every fourth for the same one.
      EXPECT_EQ(found[i] % 4, files[pieces[i].file] % 4) << processes;
    }
  }
}

TEST(Shares, BalancedLoadsDifferByAtMostTheLargestPiece) {
  const std::vector<std::uint64_t> sizes = {9, 1, 1, 1, 8, 7, 2, 0, 0, 5};
  const auto process = balanced(sizes, 3);
  std::vector<std::uint64_t> loads(3, 0);
  for (std::size_t i = 0; i < sizes.size(); ++i) {
    loads.at(static_cast<std::size_t>(process[i])) += sizes[i];
  }
  const auto [least, most] = std::minmax_element(loads.begin(), loads.end());
  EXPECT_LE(*most - *least, 9U);
}

TEST(Packed, TextsGoThereAndBack) {
  const std::vector<std::string> texts = {"", "a b\n", std::string(3, '\0')};
  EXPECT_EQ(unpacked(packed(texts)).value(), texts);
  EXPECT_EQ(unpacked({}).value(), std::vector<std::string>());
  Bytes cut = packed(texts);
  cut.pop_back();
  EXPECT_FALSE(unpacked(cut));
  EXPECT_FALSE(unpacked(Bytes(7)));
  EXPECT_FALSE(unpacked(Bytes(8, std::byte{0xff})));
}

}  // namespace
}  // namespace bv::comm

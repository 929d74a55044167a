// Random adapters: right ones are held on every layout, every fault that is planted is seen.

#include "properties/attacks/fuzz/adapters.hpp"

#include <gtest/gtest.h>

#include <map>

namespace bv::fuzz {
namespace {

TEST(RandomAdapters, RightOnesAreHeldAndEveryFaultIsSeen) {
  const Tools tools{mutants::load_library().value(), mutants::builtin_samples().value(), {}};
  std::map<AdapterFault, int> faults;
  int adapters = 0;
  for (std::uint64_t seed = 0; seed < 60; ++seed) {
    SCOPED_TRACE(seed);
    const auto prepared = prepare(tools, draw_from(seed));
    ASSERT_TRUE(prepared) << prepared.error().message;
    const auto trial = try_adapter(tools, *prepared, seed);
    ASSERT_TRUE(trial) << trial.error().message;
    EXPECT_EQ(trial->said, "") << to_text(prepared->world);
    adapters += trial->drawn ? 1 : 0;
    for (const auto& [fault, seen] : trial->seen) {
      EXPECT_TRUE(seen) << name(fault) << " in " << to_text(prepared->world);
      ++faults[fault];
    }
  }
  EXPECT_GT(adapters, 40);
  for (const AdapterFault fault : kAdapterFaults) {
    EXPECT_GT(faults[fault], 0) << name(fault);
  }
}

/// The right adapter beside itself is no fault.
TEST(RandomAdapters, ARightOneIsNotSeenAsAFault) {
  const Tools tools{mutants::load_library().value(), mutants::builtin_samples().value(), {}};
  const auto prepared = prepare(tools, draw_from(3)).value();
  const auto base = base_of(tools, prepared).value();
  generators::Random random(3);
  const auto drawn = draw_adapter(base, tools.library.kinds, prepared.world.layout, random).value();
  ASSERT_FALSE(drawn.tensors.empty());
  EXPECT_FALSE(is_seen(drawn, drawn, base, tools.library.kinds));
}

}  // namespace
}  // namespace bv::fuzz

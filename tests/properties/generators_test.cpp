// Properties over random worlds, the generators themselves, and the saved failures.

#include "properties/generators/simplest_first.hpp"

#include <gtest/gtest.h>
#include <rapidcheck/gtest.h>

#include <filesystem>
#include <fstream>
#include <map>
#include <sstream>

#include "properties/mutants/mutant.hpp"

namespace bv::fuzz {
namespace {

namespace fs = std::filesystem;

const Tools& tools() {
  static const Tools value = {mutants::load_library().value(),
                              mutants::builtin_samples().value(),
                              {oracle::kAbiVersion, oracle::wanted_shard, oracle::why_unanswered,
                               oracle::wanted_value}};
  return value;
}

std::string said(const std::vector<mutants::Finding>& findings) {
  return findings.empty() ? "" : findings.front().claim + ": " + findings.front().title;
}

TEST(RandomWorlds, ARightBridgeHasNoFinding) {
  for (std::uint64_t seed = 0; seed < 120; ++seed) {
    const auto world = world_of(tools(), draw_from(seed));
    ASSERT_TRUE(world) << "seed " << seed << ": " << world.error().message;
    const auto findings = judge(tools(), *world);
    ASSERT_TRUE(findings) << to_text(*world) << findings.error().message;
    EXPECT_TRUE(findings->empty()) << to_text(*world) << said(*findings);
  }
}

TEST(RandomWorlds, AcceptedLayoutsArePlannedAndRefusedOnesHaveADocumentedCode) {
  for (std::uint64_t seed = 0; seed < 300; ++seed) {
    const std::string fault = check_boundary(tools(), draw_from(seed), any_layout(seed));
    EXPECT_EQ(fault, "") << "seed " << seed;
  }
}

TEST(RandomWorlds, AFaultIsSeenOnEveryLayoutThatCutsTheTensor) {
  mutants::Mutant mutant;
  mutant.op = mutants::Operator::Rank;
  mutant.parameter = "*embedding.word_embeddings.weight";
  mutant.parameters = {{"map", "zero"}};
  mutant.two_sided = true;
  int cut = 0;
  for (std::uint64_t seed = 0; seed < 40; ++seed) {
    const auto world = world_of(tools(), draw_from(seed)).value();
    const auto layout = parallel::layout_from_id(world.layout).value();
    const auto sample = tools().samples[draw_from(seed).sample % tools().samples.size()];
    const auto one = mutants::make_case(tools().library, sample, world.settings).value();
    parallel::Layout padded = layout;
    padded.vocab_divisor = 4;
    const auto reference =
        mutants::Reference::make(tools().library, one, padded, tools().oracle).value();
    const auto attack = mutants::apply(tools().library, *one, reference.right(), mutant).value();
    cut += layout.tp > 1 ? 1 : 0;
    EXPECT_EQ(reference.judge(attack).empty(), layout.tp == 1) << to_text(world);
  }
  EXPECT_GT(cut, 5);
}

RC_GTEST_PROP(RandomWorlds, EveryDrawIsAValidWorld, ()) {
  const Draw draw = *generators::draws();
  const auto world = world_of(tools(), draw);
  RC_ASSERT(world.has_value());
}

RC_GTEST_PROP(RandomWorlds, ASavedWorldIsReadBackEqual, ()) {
  const Draw draw = *generators::draws();
  const World world = world_of(tools(), draw).value();
  RC_ASSERT(world_from_text(to_text(world), "saved").value() == world);
}

TEST(Generators, GiveEveryChoice) {
  std::map<std::int64_t, int> seen;
  rc::detail::TestParams params;
  params.maxSuccess = 200;
  const auto result = rc::detail::checkTestable(
      [&] {
        ++seen[*generators::simplest_first<std::int64_t>({1, 2, 4, 8})];
      },
      rc::detail::TestMetadata{}, params);
  EXPECT_EQ(seen.size(), 4U);
  for (const auto& [choice, count] : seen) {
    EXPECT_GT(count, 15) << choice;
  }
}

TEST(SavedWorlds, StillHaveNoFinding) {
  int replayed = 0;
  for (const auto& entry : fs::directory_iterator(fs::path(BV_FIXTURES) / "regress" / "worlds")) {
    std::ostringstream text;
    text << std::ifstream(entry.path()).rdbuf();
    const auto world = world_from_text(text.str(), entry.path().filename().string());
    ASSERT_TRUE(world) << entry.path();
    const auto findings = judge(tools(), *world);
    ASSERT_TRUE(findings) << entry.path() << findings.error().message;
    EXPECT_TRUE(findings->empty()) << entry.path() << said(*findings);
    ++replayed;
  }
  EXPECT_GT(replayed, 0);
}

TEST(SavedWorlds, AFileThatIsNoWorldIsRefused) {
  const auto world = world_from_text("[1, 2", "x.json");
  ASSERT_FALSE(world);
  EXPECT_EQ(world.error().code, Code::BadValue);
}

}  // namespace
}  // namespace bv::fuzz

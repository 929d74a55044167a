// Properties over random worlds (P3 to P5, P7), each with a planted fault, and the saved failures.

#include <gtest/gtest.h>
#include <rapidcheck/gtest.h>

#include <filesystem>
#include <fstream>
#include <map>
#include <set>
#include <sstream>

#include "properties/attacks/generators/simplest_first.hpp"
#include "properties/attacks/lines/line_loop.hpp"
#include "tests/properties/worlds.hpp"

namespace bv::generators {
inline void showValue(const Geometry& geometry, std::ostream& out) {
  print(geometry_fields(), geometry, out);
}
inline void showValue(const Layout& layout, std::ostream& out) {
  print(layout_fields(), layout, out);
}
}  // namespace bv::generators

namespace bv::fuzz {
namespace {

namespace fs = std::filesystem;

TEST(GeometryGenerator, GivesEveryChoiceAndOnlyValidWorlds) {
  std::map<std::string, int> families;
  std::map<std::string_view, std::map<std::int64_t, int>> seen;
  for (std::uint64_t seed = 0; seed < 1300; ++seed) {
    const Draw draw = draw_from(seed);
    const auto world = prepare(tools(), draw);
    ASSERT_TRUE(world) << "seed " << seed << ": " << world.error().message;
    ++families[world->world.sample];
    for (const auto& one : generators::geometry_fields()) {
      ++seen[one.name][draw.geometry.*one.member];
    }
  }
  EXPECT_EQ(families.size(), tools().samples.size());
  for (const auto& one : generators::geometry_fields()) {
    for (const std::int64_t choice : one.choices()) {
      EXPECT_GT(seen[one.name][choice], 30) << one.name << " " << choice;
    }
  }
}

/// A world that cannot even be made is a finding, and is saved so that it can be judged again.
TEST(RandomWorlds, AWorldThatCannotBeMadeIsSavedWithItsSampleAndFailsAgain) {
  for (std::int64_t sample = 0; sample < 20; ++sample) {
    Draw draw = draw_from(static_cast<std::uint64_t>(sample));
    draw.sample = sample;
    const World whole = world_of(tools(), draw);
    const auto made = prepare(tools(), draw);
    ASSERT_TRUE(made);
    EXPECT_TRUE(whole == made->world);
    draw.geometry.hidden = -1;  // or what it is made of
    draw.geometry.groups = -1;
    const auto failed = prepare(tools(), draw);
    ASSERT_FALSE(failed) << sample;
    const World saved = world_of(tools(), draw);
    EXPECT_EQ(saved.sample, whole.sample);
    const auto read = world_from_text(to_text(saved), "world.json");
    ASSERT_TRUE(read) << to_text(saved);
    EXPECT_TRUE(*read == saved || read->layout.vocab_divisor) << to_text(saved);
    const auto again = prepare(tools(), *read);
    ASSERT_FALSE(again) << to_text(saved);
    EXPECT_EQ(again.error().message, failed.error().message);
  }
}

TEST(RandomWorlds, ARightBridgeHasNoFinding) {
  for (std::uint64_t seed = 0; seed < 150; ++seed) {
    const Prepared world = prepared(seed);
    const auto findings = judge(tools(), world);
    ASSERT_TRUE(findings) << to_text(world.world) << findings.error().message;
    EXPECT_TRUE(findings->empty()) << to_text(world.world) << said(*findings);
  }
}

TEST(RandomWorlds, TheForwardClaimIsAskedWhereTheModelHasAForm) {
  oracle::forward::Functions wrong = *tools().oracle.forward;  // the planted fault
  wrong.megatron_forward = [](const auto&, const auto&, const auto&) {
    return Result<oracle::forward::Outputs>(fail(Code::ShapeMismatch, "planted"));
  };
  Tools broken = tools();
  broken.oracle.forward = &wrong;
  int seen = 0;
  for (std::uint64_t seed = 0; seed < 170; ++seed) {
    const auto findings = judge(broken, prepared(seed)).value();
    seen += has(findings, "forward") ? 1 : 0;
    EXPECT_EQ(findings.size(), has(findings, "forward") ? 1U : 0U) << seed;
  }
  EXPECT_GT(seen, 50);
}

TEST(RandomWorlds, AcceptedLayoutsArePlannedAndRefusedOnesHaveADocumentedCode) {
  for (std::uint64_t seed = 0; seed < 200; ++seed) {
    EXPECT_EQ(check_boundary(tools(), prepared(seed), any_layout(seed)), "") << "seed " << seed;
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
    const Prepared world = prepared(seed);
    cut += world.world.layout.tp > 1 ? 1 : 0;
    EXPECT_EQ(judged(world, mutant)->empty(), world.world.layout.tp == 1) << to_text(world.world);
  }
  EXPECT_GT(cut, 5);
}

// P3
TEST(LayoutIndependence, TwoLayoutsExportTheSameBytes) {
  int different = 0;
  for (std::uint64_t seed = 0; seed < 40; ++seed) {
    const Prepared world = prepared(seed);
    const parallel::Layout other = other_layout(world, seed);
    different += other == world.world.layout ? 0 : 1;
    EXPECT_TRUE(exported(*world.model, world.world.layout, {}) == exported(*world.model, other, {}))
        << to_text(world.world) << parallel::layout_id(other);
  }
  EXPECT_GT(different, 30);
}

TEST(LayoutIndependence, RanksThatTakeEachOthersShardsAreSeen) {
  int cut = 0;
  int seen = 0;
  for (std::uint64_t seed = 0; seed < 40; ++seed) {
    const Prepared world = prepared(seed);
    const auto rotate = [](mutants::Program& program) {
      for (mutants::Move& move : program.moves) {
        if (!move.name.ends_with("word_embeddings.weight") || move.t > 1) {
          continue;
        }
        for (const mutants::Move& other : program.moves) {
          if (other.global_name == move.global_name && other.t == 1 - move.t) {
            move.boxes = other.boxes;  // rank 0 takes what rank 1 has; rank 1 keeps its own
            break;
          }
        }
      }
    };
    cut += world.world.layout.tp > 1 ? 1 : 0;
    seen += exported(*world.model, world.world.layout, rotate) ==
                    exported(*world.model, other_layout(world, seed), {})
                ? 0
                : 1;
  }
  EXPECT_GT(cut, 10);
  EXPECT_EQ(seen, cut);
}

// P4
TEST(Replicas, OneRankThatDiffersIsSeenWhereverThereAreTwo) {
  mutants::Mutant mutant;
  mutant.op = mutants::Operator::ReplShard;
  mutant.parameter = "*decoder.layers.*.self_attention.linear_qkv.layer_norm_weight";
  mutant.parameters = {{"element", "3"}};
  int seen = 0;
  for (std::uint64_t seed = 0; seed < 60; ++seed) {
    const Prepared world = prepared(seed);
    const auto findings = judged(world, mutant);
    seen += findings && has(*findings, "replicas") ? 1 : 0;
    if (findings && world.world.layout.tp > 1) {
      EXPECT_TRUE(has(*findings, "replicas")) << to_text(world.world);
    }
  }
  EXPECT_GT(seen, 10);
}

/// P5: "" when every HF tensor is made into one parameter, and every parameter is made once.
std::string name_fault(const model::Model& model, const Headers& headers) {
  std::set<std::string> read;
  std::set<std::string> made;
  for (const model::Mapping& mapping : model.mappings) {
    for (const std::string& name : mapping.hf) {
      if (!read.insert(name).second) {
        return name + " is read twice";
      }
    }
    if (!made.insert(model.megatron_name(mapping, 0)).second) {
      return model.megatron_name(mapping, 0) + " is made twice";
    }
  }
  for (const auto& [name, spec] : headers) {
    if (!read.contains(name)) {
      return name + " is read by nothing";
    }
  }
  return read.size() == headers.size() ? "" : "a name is read that is not there";
}

TEST(Names, AreABijection) {
  for (std::uint64_t seed = 0; seed < 200; ++seed) {
    const Prepared world = prepared(seed);
    EXPECT_EQ(name_fault(world.model->model, world.model->headers), "") << to_text(world.world);
  }
}

TEST(Names, ADoubledADroppedAndASwappedNameAreSeen) {
  for (std::uint64_t seed = 0; seed < 40; ++seed) {
    const Prepared world = prepared(seed);
    const auto fault = [&](const std::function<void(std::vector<model::Mapping>&)>& change) {
      model::Model changed = world.model->model;
      change(changed.mappings);
      return name_fault(changed, world.model->headers);
    };
    EXPECT_NE(fault([](auto& mappings) { mappings.pop_back(); }), "");
    EXPECT_NE(fault([](auto& mappings) { mappings.push_back(mappings.front()); }), "");
    EXPECT_NE(fault([](auto& mappings) { mappings.front().hf = mappings.back().hf; }), "");
    EXPECT_NE(fault([](auto& mappings) { mappings.front().hf.front() += "_"; }), "");
  }
}

/// Gate and up of every fused projection change places; returns how many.
int swap_gate_and_up(mutants::Program& program) {
  int swapped = 0;
  for (mutants::Move& move : program.moves) {
    if (move.boxes.size() == 2 && move.parts == std::vector<std::string>{"gate", "up"}) {
      std::swap(move.boxes[0].source, move.boxes[1].source);
      std::swap(move.boxes[0].source_offset, move.boxes[1].source_offset);
      ++swapped;
    }
  }
  return swapped;
}

// P7: a fault on both ways leaves no trace in the bytes; the independent statement sees it.
TEST(Independence, GateAndUpSwappedOnBothWaysAreSeenByThePlacementAlone) {
  int seen = 0;
  for (std::uint64_t seed = 0; seed < 40; ++seed) {
    const Prepared world = prepared(seed);
    const mutants::Reference ref = reference(world);
    mutants::Attack attack{ref.right(), ref.right(), std::nullopt};
    if (swap_gate_and_up(attack.way_there) == 0) {
      continue;
    }
    swap_gate_and_up(attack.way_back);
    const auto findings = ref.judge(attack);
    EXPECT_TRUE(has(findings, "placement")) << to_text(world.world) << said(findings);
    for (const char* claim : {"names", "shapes", "coverage", "inverse", "bytes"}) {
      EXPECT_FALSE(has(findings, claim)) << to_text(world.world) << claim;
    }
    ++seen;
  }
  EXPECT_GT(seen, 30);
}

TEST(RandomWorlds, AFaultShrinksToTheLeastWorldThatHasIt) {
  const auto fails = [](const Draw& draw) {
    const auto world = prepare(tools(), draw);
    return world && world->world.layout.tp > 1 && world->world.layout.pp > 1;
  };
  std::uint64_t seed = 0;
  while (!fails(draw_from(seed))) {
    ++seed;
  }
  const Draw least = shrink(draw_from(seed), fails);
  EXPECT_EQ(prepare(tools(), least)->world.layout.pp, 2);
  EXPECT_EQ(least.layout.vpp, 1);
  EXPECT_EQ(least.layout.ep, 0);
  EXPECT_EQ(least.geometry.vocabulary, 1);
  for (const auto& candidate : generators::simpler(generators::layout_fields(), least.layout)) {
    EXPECT_FALSE(fails({least.sample, least.geometry, candidate}));
  }
}

RC_GTEST_PROP(RandomWorlds, EveryDrawIsAValidWorldThatIsSavedAndReadBackEqual, ()) {
  const auto count = static_cast<std::int64_t>(tools().samples.size());
  const auto sample = *rc::gen::resize(rc::kNominalSize, rc::gen::inRange<std::int64_t>(0, count));
  const auto geometry = *generators::described(generators::geometry_fields());
  const auto layout = *generators::described(generators::layout_fields());
  const auto world = prepare(tools(), Draw{sample, geometry, layout});
  RC_ASSERT(world.has_value());
  RC_ASSERT(world_from_text(to_text(world->world), "saved").value() == world->world);
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

std::string text_of(const fs::path& path) {
  std::ostringstream text;
  text << std::ifstream(path).rdbuf();
  return text.str();
}

TEST(SavedCases, StillHaveNoFinding) {
  int replayed = 0;
  for (const auto& entry : fs::directory_iterator(fs::path(BV_FIXTURES) / "regress" / "worlds")) {
    const std::string text = text_of(entry.path());
    ++replayed;
    if (text.find("\"line\"") != std::string::npos) {
      lines::LineRunner runner(1);
      const auto line = lines::line_from_text(text, entry.path().filename().string());
      ASSERT_TRUE(line) << entry.path();
      EXPECT_TRUE(lines::check(runner, *line)) << entry.path();
      continue;
    }
    const auto world = world_from_text(text, entry.path().filename().string());
    ASSERT_TRUE(world) << entry.path();
    const auto made = prepare(tools(), *world);
    ASSERT_TRUE(made) << entry.path() << made.error().message;
    const auto findings = judge(tools(), *made);
    ASSERT_TRUE(findings) << entry.path() << findings.error().message;
    EXPECT_TRUE(findings->empty()) << entry.path() << said(*findings);
  }
  EXPECT_GT(replayed, 0);
}

TEST(SavedCases, AFileThatIsNoWorldIsRefused) {
  const auto world = world_from_text("[1, 2", "x.json");
  ASSERT_FALSE(world);
  EXPECT_EQ(world.error().code, Code::BadValue);
}

}  // namespace
}  // namespace bv::fuzz

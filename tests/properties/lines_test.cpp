// Lines of notation: the generator, the properties of a right line, and the planted faults that
// each property must see.

#include <gtest/gtest.h>
#include <rapidcheck/gtest.h>

#include <map>
#include <set>
#include <sstream>

#include "core/kinds/catalogue.hpp"
#include "core/layout/notation.hpp"
#include "core/move/move.hpp"
#include "properties/attacks/generators/simplest_first.hpp"
#include "properties/attacks/lines/line_loop.hpp"
#include "properties/attacks/lines/plain.hpp"

namespace bv::generators {
inline void showValue(const Line& line, std::ostream& out) {
  print(line_fields(), line, out);
}
}  // namespace bv::generators

namespace bv::lines {
namespace {

using generators::Line;

constexpr int kDraws = 4000;

Line drawn(std::uint64_t seed) {
  generators::Random random(seed);
  return generators::draw(generators::line_fields(), random);
}

layout::BoundRule bound(const generators::BoundLine& line) {
  auto out = layout::BoundRule::bind(line.rule, line.binding);
  EXPECT_TRUE(out) << layout::print(line.rule) << ": " << out.error().message;
  return *out;
}

/// The property that a line's boxes are what the notation says, read literally.
std::string differs_from_plain(const generators::BoundLine& line, const Plant& fault) {
  const auto engine = layout::BoundRule::bind(line.rule, line.binding);
  if (!engine) {
    return engine.error().message;
  }
  for (const GridPlace& place : grid_places(*engine)) {
    layout::Shard shard = engine->shard(place.target, place.grid);
    if (fault) {
      fault(shard);
    }
    const auto wanted = plain_shard(line.rule, line.binding, place);
    if (!wanted) {
      return wanted.error().message;
    }
    if (*wanted != shard_of_boxes(shard)) {
      return "a shard has other elements than the notation says";
    }
  }
  return "";
}

bool runs(LineRunner& runner, const Line& description) {
  const generators::BoundLine line = generators::make_line(description);
  return check(runner, {line.rule, line.binding, 2}).has_value();
}

/// How many of the drawn lines a planted fault is seen on.
int seen_by_runner(const Plant& there, const Plant& back) {
  LineRunner runner(1);
  runner.plant_there(there);
  runner.plant_back(back);
  int seen = 0;
  for (int i = 0; i < 200; ++i) {
    seen += runs(runner, drawn(static_cast<std::uint64_t>(i))) ? 0 : 1;
  }
  return seen;
}

/// Two boxes of one size change places in their source: gate and up swapped.
void swap_sources(layout::Shard& shard) {
  if (shard.boxes.size() > 1 && shard.boxes[0].axes == shard.boxes[1].axes) {
    std::swap(shard.boxes[0].source, shard.boxes[1].source);
    std::swap(shard.boxes[0].source_offset, shard.boxes[1].source_offset);
  }
}
void drop_last_box(layout::Shard& shard) {
  shard.boxes.pop_back();
}
void write_twice(layout::Shard& shard) {
  shard.boxes.push_back(shard.boxes.front());
}
void shift_source(layout::Shard& shard) {
  for (layout::Box& box : shard.boxes) {
    if (box.source >= 0 && box.source_offset > 0) {
      --box.source_offset;
      return;
    }
  }
}

TEST(LineGenerator, GivesEveryChoiceOfEveryField) {
  std::map<std::string_view, std::map<std::int64_t, int>> seen;
  for (int i = 0; i < kDraws; ++i) {
    const Line line = drawn(static_cast<std::uint64_t>(i));
    for (const auto& one : generators::line_fields()) {
      ++seen[one.name][line.*one.member];
    }
  }
  for (const auto& one : generators::line_fields()) {
    for (const std::int64_t choice : one.choices()) {
      EXPECT_GT(seen[one.name][choice], kDraws / static_cast<int>(2 * one.count))
          << one.name << " " << choice;
    }
  }
}

TEST(LineGenerator, GivesOnlyProvedLinesThatBindAndPrint) {
  std::set<std::string> different;
  for (int i = 0; i < kDraws; ++i) {
    const generators::BoundLine line = generators::make_line(drawn(static_cast<std::uint64_t>(i)));
    const std::string text = layout::print(line.rule);
    different.insert(text);
    const auto again = layout::parse_rule(text);
    ASSERT_TRUE(again) << text << ": " << again.error().message;
    ASSERT_EQ(*again, line.rule) << text;
    const auto proof = layout::prove_bijection(line.rule);
    ASSERT_TRUE(proof) << text << ": " << proof.error().message;
    ASSERT_TRUE(layout::BoundRule::bind(line.rule, line.binding)) << text;
  }
  EXPECT_GT(different.size(), 2000U);
}

TEST(LineGenerator, HasCutsInsidePartsAndRanksBeyondGroups) {
  int inside = 0;
  for (int i = 0; i < kDraws; ++i) {
    const generators::BoundLine line = generators::make_line(drawn(static_cast<std::uint64_t>(i)));
    const layout::BoundRule engine = bound(line);
    inside += line.rule.cut && engine.size("g") < engine.size("t") && engine.size("t") > 2 ? 1 : 0;
  }
  EXPECT_GT(inside, 20);
}

TEST(LineGenerator, EveryShrinkIsValidAndEndsAtTheSimplestLine) {
  const Line least = generators::shrink(generators::line_fields(), drawn(7), [](const Line& line) {
    return layout::BoundRule::bind(generators::rule_of(line), generators::binding_of(line))
        .has_value();
  });
  EXPECT_EQ(least, generators::simplest(generators::line_fields()));
  EXPECT_EQ(layout::print(generators::rule_of(least)), "line p[a] -> p[a]");
}

// P1 partition and P2 inverse: every element once, there and back, bit for bit.
TEST(Lines, AreBijectionsThatMoveEveryBit) {
  LineLoop loop(3);
  for (int i = 0; i < 20000; ++i) {
    const auto fault = loop.next();
    ASSERT_FALSE(fault) << to_text(fault->line) << fault->error.message;
  }
  EXPECT_GT(loop.lines(), 300);
}

TEST(Lines, AMissingADoubledAndAShiftedBoxAreSeen) {
  EXPECT_EQ(seen_by_runner(drop_last_box, {}), 200);
  EXPECT_EQ(seen_by_runner(write_twice, {}), 200);
  EXPECT_GT(seen_by_runner(shift_source, {}), 50);
}

TEST(Lines, AWayBackThatDiffersFromTheWayThereIsSeen) {
  EXPECT_GT(seen_by_runner({}, swap_sources), 20);
  EXPECT_GT(seen_by_runner(swap_sources, {}), 20);
}

TEST(Lines, AFaultOnBothWaysIsInvisibleToTheRoundTripAndSeenByTheNotation) {
  const generators::BoundLine gated = {
      layout::parse_rule("gated gate[(t f)], up[(t f)] -> fc1{t}[(gate: f | up: f)]").value(),
      {{{"t", 2}, {"f", 2}}, {}}};
  EXPECT_EQ(differs_from_plain(gated, {}), "");
  EXPECT_NE(differs_from_plain(gated, swap_sources), "");
}

TEST(Lines, TheSweepAndTheCountSayTheSame) {
  for (int i = 0; i < 1000; ++i) {
    const generators::BoundLine line = generators::make_line(drawn(static_cast<std::uint64_t>(i)));
    const Status status = check_line(bound(line));
    ASSERT_TRUE(status) << layout::print(line.rule) << ": " << status.error().message;
  }
}

TEST(Lines, BoundAgainAreAsIfBoundForTheFirstTime) {
  for (std::uint64_t seed = 0; seed < 500; ++seed) {
    const generators::BoundLine first = generators::make_line(drawn(seed));
    Line other = drawn(seed);
    other.size_a = other.size_a % 5 + 1;
    other.size_g = other.size_g % 3 + 1;
    other.t = other.t == 1 ? 4 : 1;
    const layout::Binding sizes = generators::binding_of(other);
    layout::BoundRule again = bound(first);
    const layout::BoundRule copy = again;
    ASSERT_TRUE(again.bind_again(sizes)) << layout::print(first.rule);
    const auto same = [](const layout::BoundRule& a, const layout::BoundRule& b) {
      EXPECT_EQ(a.source_shapes(), b.source_shapes());
      for (const GridPlace& place : grid_places(b)) {
        const layout::Shard one = a.shard(place.target, place.grid);
        const layout::Shard two = b.shard(place.target, place.grid);
        EXPECT_TRUE(one.shape == two.shape && one.boxes == two.boxes);
      }
    };
    same(again, bound({first.rule, sizes}));
    same(copy, bound(first));
  }
}

/// Sizes of axes that the line does not have may come and go; one that it has may not.
TEST(Lines, BoundAgainTakeTheSizesOfTheirOwnAxesByName) {
  const auto parsed = layout::parse_rule("line x[(a i) j] -> x[j a i]");
  ASSERT_TRUE(parsed);
  const auto sizes = [](std::int64_t a, std::int64_t i, std::int64_t j) {
    layout::Binding out;
    out.axes = {{"a", a}, {"i", i}, {"j", j}};
    return out;
  };
  layout::Binding more = sizes(5, 6, 7);
  more.axes["b"] = 9;
  more.axes["ab"] = 10;
  layout::Binding renamed = sizes(5, 6, 7);
  renamed.axes.extract("i");
  renamed.axes["k"] = 6;
  layout::BoundRule line = layout::BoundRule::bind(*parsed, sizes(2, 3, 4)).value();
  for (const auto& [again, shape] :
       {std::pair(sizes(1, 2, 3), Shape{3, 1, 2}), std::pair(more, Shape{7, 5, 6}),
        std::pair(sizes(4, 3, 2), Shape{2, 4, 3})}) {
    ASSERT_TRUE(line.bind_again(again));
    EXPECT_EQ(line.target_shapes()[0], shape);
    EXPECT_EQ(line.size("i"), shape[2]);
  }
  EXPECT_EQ(line.bind_again(renamed).error().code, Code::RulesInvalid);
  ASSERT_TRUE(line.bind_again(sizes(1, 2, 3)));
  EXPECT_EQ(line.target_shapes()[0], (Shape{3, 1, 2}));
}

TEST(Lines, AreWhatTheNotationSaysReadLiterally) {
  int elements = 0;
  for (int i = 0; i < 1000; ++i) {
    const generators::BoundLine line = generators::make_line(drawn(static_cast<std::uint64_t>(i)));
    if (elements_of(bound(line)) > 3000) {
      continue;
    }
    ++elements;
    ASSERT_EQ(differs_from_plain(line, {}), "") << layout::print(line.rule);
  }
  EXPECT_GT(elements, 700);
}

TEST(Lines, ASwappedPairShrinksToTheLeastLineThatHasOne) {
  const auto fails = [](const Line& line) {
    return !differs_from_plain(generators::make_line(line), swap_sources).empty();
  };
  std::uint64_t seed = 0;
  while (!fails(drawn(seed))) {
    ++seed;
  }
  const Line least = generators::shrink(generators::line_fields(), drawn(seed), fails);
  std::ostringstream text;
  generators::print(generators::line_fields(), least, text);
  // Two boxes of equal axes with different sources: two parts of one element, or one axis cut in
  // two. No size can be smaller.
  EXPECT_LE(least.size_a + least.size_b + least.size_g, 4) << text.str();
  EXPECT_LE(least.parts, 2) << text.str();
  for (const Line& candidate : generators::simpler(generators::line_fields(), least)) {
    EXPECT_FALSE(fails(candidate));
  }
}

RC_GTEST_PROP(Lines, OfRapidCheckAreRun, ()) {
  const Line line = *generators::described(generators::line_fields());
  LineRunner runner(1);
  RC_TAG(line.spread);
  RC_ASSERT(runs(runner, line));
}

TEST(Lines, OfRapidCheckShrinkTheSameWay) {
  rc::detail::TestParams params;
  params.maxSuccess = 200;
  const auto result = rc::detail::checkTestable(
      [] {
        const Line line = *generators::described(generators::line_fields());
        RC_ASSERT(line.parts < 3 || line.t < 4);
      },
      rc::detail::TestMetadata{}, params);
  rc::detail::FailureResult failure;
  ASSERT_TRUE(result.match(failure));
  ASSERT_EQ(failure.counterExample.size(), 1U);
  Line wanted = generators::simplest(generators::line_fields());
  wanted.parts = 3;
  wanted.t = 4;
  std::ostringstream text;
  generators::print(generators::line_fields(), wanted, text);
  EXPECT_EQ(failure.counterExample.front().second, text.str());
}

TEST(SavedLines, AreReadBackEqual) {
  for (std::uint64_t seed = 0; seed < 100; ++seed) {
    const generators::BoundLine line = generators::make_line(drawn(seed));
    const auto back = line_from_text(to_text({line.rule, line.binding, 4}), "saved");
    ASSERT_TRUE(back) << back.error().message;
    EXPECT_EQ(back->rule, line.rule);
    EXPECT_EQ(back->binding.axes, line.binding.axes);
    EXPECT_EQ(back->binding.rest, line.binding.rest);
    EXPECT_EQ(back->element_bytes, 4U);
  }
  EXPECT_EQ(line_from_text("{}", "x").error().code, Code::BadValue);
  EXPECT_EQ(line_from_text("{\"line\": \"a\", \"axes\": {}}", "x").error().code,
            Code::RulesInvalid);
}

}  // namespace
}  // namespace bv::lines

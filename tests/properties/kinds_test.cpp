// Every kind of the catalogue at every small size, exhaustively: boxes against the notation read
// literally, and against counting.

#include <gtest/gtest.h>

#include "core/kinds/catalogue.hpp"
#include "core/layout/notation.hpp"
#include "properties/attacks/lines/line_run.hpp"
#include "properties/attacks/lines/plain.hpp"
#include "tests/properties/small_sizes.hpp"

namespace bv::lines {
namespace {

TEST(KindsExhaustive, MoveEveryElementAsTheNotationSays) {
  const auto catalogue = kinds::load_catalogue().value();
  int cases = 0;
  for (const layout::Rule& rule : catalogue.rules()) {
    const int here =
        for_each_size(rule, [&](const layout::BoundRule& bound, const layout::Binding& binding) {
          for (const GridPlace& place : grid_places(bound)) {
            const auto wanted = plain_shard(rule, binding, place);
            ASSERT_TRUE(wanted) << layout::print(rule) << wanted.error().message;
            ASSERT_EQ(*wanted, shard_of_boxes(bound.shard(place.target, place.grid)))
                << layout::print(rule);
          }
        });
    EXPECT_GE(here, 8) << rule.name;
    cases += here;
  }
  EXPECT_GT(cases, 3000);
}

TEST(KindsExhaustive, ComeBackBitForBitAndReadEveryElementOnce) {
  const auto catalogue = kinds::load_catalogue().value();
  LineRunner runner(5);
  for (const layout::Rule& rule : catalogue.rules()) {
    for_each_size(rule, [&](const layout::BoundRule& bound, const layout::Binding&) {
      const Status status = runner.run(bound, 2);
      ASSERT_TRUE(status) << layout::print(rule) << status.error().message;
    });
  }
}

/// A line with two of its target parts exchanged is a bijection, and no round trip sees it.
TEST(KindsExhaustive, ALineWithTwoPartsExchangedIsSeen) {
  const auto right =
      layout::parse_rule("fc1 gate[(t f) ...], up[(t f) ...] -> y{t}[(gate: f | up: f) ...]")
          .value();
  const auto wrong =
      layout::parse_rule("fc1 gate[(t f) ...], up[(t f) ...] -> y{t}[(up: f | gate: f) ...]")
          .value();
  LineRunner runner(5);
  int seen = 0;
  const int cases =
      for_each_size(wrong, [&](const layout::BoundRule& bound, const layout::Binding& binding) {
        EXPECT_TRUE(runner.run(bound, 2));
        for (const GridPlace& place : grid_places(bound)) {
          if (plain_shard(right, binding, place).value() !=
              shard_of_boxes(bound.shard(place.target, place.grid))) {
            ++seen;
            break;
          }
        }
      });
  EXPECT_EQ(seen, cases);
}

}  // namespace
}  // namespace bv::lines

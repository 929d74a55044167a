// Rows that a shard holds several times: a cut, or a window of the shard, parts the copies, and
// every claim holds all the same.

#include <gtest/gtest.h>

#include "properties/claims/catalogue.hpp"
#include "properties/claims/roundtrip.hpp"
#include "tests/conditions/own_family.hpp"
#include "tests/support/process.hpp"

namespace bv::conditions {
namespace {

class Copies : public ::testing::Test {
 protected:
  void SetUp() override {
    write_gate_checkpoint(folder_.path());
    auto opened = checkpoint::open_hf(folder_.path(), {own_family(kGateFamily)}, {});
    ASSERT_TRUE(opened) << opened.error().message;
    source_ = std::move(*opened);
    ASSERT_TRUE(source_.model.faults.empty());
  }

  static void expect_held(const std::vector<Verdict>& verdicts) {
    EXPECT_FALSE(verdicts.empty());
    for (const Verdict& verdict : verdicts) {
      EXPECT_TRUE(verdict.outcome == Outcome::Proved || verdict.outcome == Outcome::Held)
          << verdict.claim << " " << verdict.layout << ": " << verdict.title;
    }
  }

  support::TempFolder folder_;
  checkpoint::HfModel source_;
  kinds::Catalogue kinds_ = kinds::load_catalogue().value();
};

TEST_F(Copies, ThatTheCutPartsAreNoFault) {
  // linear_qkv has 36 rows: q 6, gate 3 + 3, k 3, v 3 for each of two groups. Shards of 4 rows part
  // the three copies of a gate row.
  claims::Subject subject;
  subject.parts = {{&source_}};
  subject.kinds = &kinds_;
  for (const std::int64_t tp : {1, 2, 4, 9, 18, 36}) {
    parallel::Layout layout;
    layout.tp = tp;
    layout.vocab_divisor = 1;
    subject.layouts.push_back(layout);
  }
  expect_held(claims::check_coverage(subject));
  expect_held(claims::check_inverse(subject));
  expect_held(claims::check_bytes(subject));
}

TEST_F(Copies, ThatAWindowPartsAreNoFault) {
  const auto plan = plan::Plan::make(source_.model, kinds_, {});
  ASSERT_TRUE(plan) << plan.error().message;
  for (std::size_t i = 0; i < source_.model.mappings.size(); ++i) {
    claims::MoveCount count;
    const auto fault =
        claims::check_round_trip(*plan, i, *source_.checkpoint, std::int64_t{5} * 8, count);
    ASSERT_TRUE(fault) << fault.error().message;
    EXPECT_FALSE(*fault) << (*fault)->tensor << " " << (*fault)->what;
  }
}

}  // namespace
}  // namespace bv::conditions

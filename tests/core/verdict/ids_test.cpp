#include "core/verdict/ids.hpp"

#include <gtest/gtest.h>

#include <set>

#include "core/verdict/source_place.hpp"

namespace bv {
namespace {

Verdict named(std::string megatron, Code code) {
  Verdict out;
  out.claim = "names";
  out.outcome = Outcome::Refuted;
  out.code = code;
  out.megatron = std::move(megatron);
  return out;
}

TEST(Ids, AreTheVerdictsOwnWhereThatIsEnough) {
  EXPECT_EQ(unique_ids({named("a", Code::MegatronParamUnfilled), named("b", Code::RuleDead)}),
            (std::vector<std::string>{"names.a", "names.b"}));
}

TEST(Ids, TwoFaultsOfOneNameHaveTwoThatDoNotDependOnTheOrder) {
  const Verdict unfilled = named("a", Code::MegatronParamUnfilled);
  const Verdict dead = named("a", Code::DuplicateClaim);
  const auto one = unique_ids({unfilled, dead});
  const auto other = unique_ids({dead, unfilled});
  EXPECT_NE(one[0], one[1]);
  EXPECT_EQ(one[0], other[1]);
  EXPECT_EQ(one[1], other[0]);
  EXPECT_TRUE(one[0].starts_with("names.a~")) << one[0];
}

TEST(Ids, EqualVerdictsStillHaveDifferentOnes) {
  const Verdict same = named("a", Code::RuleDead);
  const auto ids = unique_ids({same, same, same});
  EXPECT_EQ(std::set<std::string>(ids.begin(), ids.end()).size(), 3U);
}

TEST(Ids, AFaultIsTheSameOnEveryLayoutAndAtEveryLine) {
  Verdict a = named("a", Code::WrongPlacement);
  Verdict b = a;
  b.layout = "tp2";
  b.rule_source = "x.py:9";
  b.title = "other numbers";
  EXPECT_EQ(fault_fingerprint(a), fault_fingerprint(b));
  b.code = Code::Gap;
  EXPECT_NE(fault_fingerprint(a), fault_fingerprint(b));
  EXPECT_NE(fingerprint({"ab", "c"}), fingerprint({"a", "bc"}));
  EXPECT_EQ(fingerprint({}).size(), 16U);
}

TEST(SourcePlace, SplitsFileAndLine) {
  EXPECT_EQ(source_place("x_bridge.py:257"), (SourcePlace{"x_bridge.py", 257}));
  EXPECT_EQ(source_place("my.rules.json:88:15"), (SourcePlace{"my.rules.json", 88}));
  EXPECT_EQ(source_place("qwen3.json: decoder rule 3"), (SourcePlace{"qwen3.json", 0}));
  EXPECT_EQ(source_place("a.json:-4"), (SourcePlace{"a.json", 0}));
  EXPECT_EQ(source_place(""), SourcePlace{});
}

}  // namespace
}  // namespace bv

#include "core/layout/notation.hpp"

#include <gtest/gtest.h>

namespace bv::layout {
namespace {

constexpr std::string_view kQkv =
    "qkv q[(g n d) ...], k[(g d) ...], v[(g d) ...] -> linear_qkv[(g (q: n d | k: d | v: d)) ...] "
    "cut 0 by t";

Error parse_error(std::string_view text) {
  auto rule = parse_rule(text, "x.layout");
  EXPECT_FALSE(rule.has_value()) << text;
  return rule ? Error{} : rule.error();
}

Error proof_error(std::string_view text) {
  auto rule = parse_rule(text);
  EXPECT_TRUE(rule.has_value()) << (rule ? "" : rule.error().message);
  auto proof = prove_bijection(*rule);
  EXPECT_FALSE(proof.has_value()) << text;
  return proof ? Error{} : proof.error();
}

TEST(Notation, PrintsWhatItParsed) {
  const auto rule = parse_rule(kQkv);
  ASSERT_TRUE(rule.has_value());
  EXPECT_EQ(print(*rule), kQkv);
}

TEST(Notation, PrintingIsAFixedPoint) {
  for (const std::string_view text :
       {kQkv, std::string_view("a x[ ( t   o )  i ]->x{t}[o i]"),
        std::string_view("b x[((t) (o)) 1 w] -> x{*r t}[o 1 w]"),
        std::string_view("c g[(f (gate: 1 | up: 1))] -> y[(gate: (f) | up: f)]"),
        std::string_view("d x[v h] -> x[(x: v | pad: p) h] cut 0 by t"),
        std::string_view("e g[(a b)] -> y[(z: a b *c)]")}) {
    const auto first = parse_rule(text);
    ASSERT_TRUE(first.has_value()) << text << first.error().message;
    const auto second = parse_rule(print(*first));
    ASSERT_TRUE(second.has_value()) << print(*first);
    EXPECT_EQ(print(*second), print(*first));
    EXPECT_EQ(*second, *first);
  }
}

TEST(Notation, NamesLineAndColumnOfTheFirstWrongCharacter) {
  EXPECT_EQ(parse_error("a x[i] -> x[i] ?").where, "x.layout:1:16");
  EXPECT_EQ(parse_error("a x[i]\n  -> x[i").where, "x.layout:2:9");
  EXPECT_EQ(parse_error("a x[(t o i] -> x[i]").where, "x.layout:1:11");
}

TEST(Notation, SaysWhatItExpectedAndWhatItFound) {
  const Error error = parse_error("a x[i] x[i]");
  EXPECT_EQ(error.message, "expected '->', found 'x'");
  EXPECT_EQ(error.found, "x");
  EXPECT_EQ(error.wanted, "'->'");
}

TEST(Notation, RefusesWhatHasNoMeaning) {
  EXPECT_EQ(parse_error("a x[3] -> x[3]").message, "the number 3 is where an axis should be");
  EXPECT_EQ(parse_error("a x[i], x[j] -> y[i j]").message,
            "tensor x appears twice on the same side");
  EXPECT_EQ(parse_error("a x[... ...] -> y[...]").message, "'...' appears twice in x");
  EXPECT_EQ(parse_error("a x[()] -> y[1]").code, Code::RulesInvalid);
  EXPECT_EQ(parse_error("").code, Code::RulesInvalid);
  EXPECT_EQ(parse_error("a x[i] -> x[i] cut 1 by t").code, Code::RulesInvalid);
  EXPECT_EQ(parse_error("a x" + std::string(64, '[')).code, Code::RulesInvalid);
  EXPECT_EQ(parse_error("a x[" + std::string(64, '(') + "i").code, Code::RulesInvalid);
}

TEST(Notation, RefusesALineWhosePartsMultiplyBeyondWhatCanBeProved) {
  std::string sums;
  for (int i = 0; i < 9; ++i) {
    sums += "(a: n | b: m) ";
  }
  EXPECT_TRUE(parse_rule("a x[" + sums + "o] -> x[o]", "f"));  // 512 parts: refuted, not refused
  EXPECT_EQ(parse_error("a x[" + sums + sums + "] -> x[o]").message,
            "x has more parts than a line can be proved for");
  EXPECT_EQ(parse_error("a x[o] -> x[" + sums + "], y[" + sums + "], z[" + sums + "]").message,
            "z has more parts than a line can be proved for");
}

TEST(Notation, ReadsAFileWithDocStringsAndContinuedLines) {
  const auto rules = parse_rules(
      "# Column.\n# Two lines.\ncol x[(t o)] -> x{t}[o]\n\n# lost\n\nrow x[o (t i)]\n    -> x{t}[o "
      "i]\n",
      "f");
  ASSERT_TRUE(rules.has_value()) << rules.error().message;
  ASSERT_EQ(rules->size(), 2U);
  EXPECT_EQ((*rules)[0].doc, "Column. Two lines.");
  EXPECT_EQ((*rules)[1].name, "row");
  EXPECT_EQ((*rules)[1].doc, "");
}

TEST(Notation, RefusesTwoRulesOfOneName) {
  const auto rules = parse_rules("a x[i] -> x[i]\na y[i] -> y[i]\n", "f.layout");
  ASSERT_FALSE(rules.has_value());
  EXPECT_EQ(rules.error().where, "f.layout:2:1");
}

TEST(Proof, HoldsForAllSizesOfARightLine) {
  const auto rule = parse_rule(kQkv);
  ASSERT_TRUE(rule.has_value());
  EXPECT_TRUE(prove_bijection(*rule).has_value());
}

TEST(Proof, NamesThePartThatIsLost) {
  EXPECT_EQ(proof_error("a q[(g n d)], k[(g d)] -> y[(g (q: n d))]").message,
            "kind a: part k of the source goes nowhere");
}

TEST(Proof, NamesThePartThatComesFromNowhere) {
  EXPECT_EQ(proof_error("a q[g] -> y[(q: g | z: s)]").message,
            "kind a: part z of the target comes from nowhere");
}

TEST(Proof, AcceptsDeclaredPaddingOnly) {
  const auto rule = parse_rule("a x[v] -> y[(x: v | pad: p)]");
  ASSERT_TRUE(rule.has_value());
  EXPECT_TRUE(prove_bijection(*rule).has_value());
}

TEST(Proof, NamesTheAxisThatOneSideLacks) {
  EXPECT_EQ(proof_error("a x[(t o)] -> x[o]").message,
            "kind a: part x: axis t appears on the source side only");
  EXPECT_EQ(proof_error("a x[o] -> x{t}[o]").message,
            "kind a: part x: axis t appears on the target side only");
  EXPECT_EQ(proof_error("a x[...] -> x[i]").message,
            "kind a: part x: axis i appears on the target side only");
}

TEST(Proof, AcceptsDeclaredReplicas) {
  for (const std::string_view text : {"a x[o] -> x{*t}[o]", "a x[g] -> x[(g *d)]"}) {
    const auto rule = parse_rule(text);
    ASSERT_TRUE(rule.has_value());
    EXPECT_TRUE(prove_bijection(*rule).has_value()) << text;
  }
}

TEST(Proof, RefusesReplicasOfTheSourceAndRepeatedParts) {
  EXPECT_EQ(proof_error("a x[(o *d)] -> x[o]").code, Code::RulesInvalid);
  EXPECT_EQ(proof_error("a x[o] -> y[(x: o | x: o)]").message,
            "kind a: part x appears twice on the target side");
  EXPECT_EQ(proof_error("a x[o o] -> x[o o]").message,
            "kind a: part x has axis o twice on the source side");
}

TEST(Proof, RefusesASourceOnTheProcessGrid) {
  const auto rule = parse_rule("kind x{t}[o] -> y{t}[o]", "kind");
  ASSERT_TRUE(rule);
  const Status proof = prove_bijection(*rule);
  ASSERT_FALSE(proof);
  EXPECT_NE(proof.error().message.find("x of the source lies on the process grid ({t})"),
            std::string::npos)
      << proof.error().message;
}

TEST(Proof, RefusesACutByAnAxisThatTheGridHasTaken) {
  EXPECT_EQ(proof_error("a x[(t o)] -> x{t}[o] cut 0 by t").message,
            "kind a: tensor x is cut by t, which is in its grid as well");
  EXPECT_EQ(proof_error("a x[o] -> x{*t}[o] cut 0 by t").code, Code::RulesInvalid);
}

TEST(Proof, SwappedAxesOfTwoPartsAreRefused) {
  // gate and up of different lengths: exchanging the names is not a bijection.
  EXPECT_EQ(proof_error("a gate[f], up[h] -> y[(gate: h | up: f)]").code, Code::RulesInvalid);
}

}  // namespace
}  // namespace bv::layout

// The claims on real checkpoints, and on the same checkpoints with a fault planted in one line of
// the catalogue: which claim says no, and that a bit-exact round trip does not.

#include "properties/claims/catalogue.hpp"

#include <gtest/gtest.h>

#include <algorithm>
#include <filesystem>
#include <nlohmann/json.hpp>

#include "core/checkpoint/open_model.hpp"
#include "core/family/changed_family.hpp"
#include "core/layout/notation.hpp"
#include "tests/support/golden_model.hpp"

namespace bv::claims {
namespace {

namespace fs = std::filesystem;

const oracle::Entry kOracle = {};

using support::open_golden;

struct Case {
  checkpoint::HfModel model;
  kinds::Catalogue kinds;
  Subject subject;
};

std::unique_ptr<Case> make_case(const std::string& golden, parallel::Layout layout,
                                const std::string& changed_line = "") {
  auto out = std::make_unique<Case>();
  out->model = open_golden(golden);
  std::string text(kinds::builtin_text());
  if (!changed_line.empty()) {
    const auto changed = layout::parse_rule(changed_line).value();
    std::string rebuilt;
    const auto original = kinds::load_catalogue().value();
    for (const layout::Rule& rule : original.rules()) {
      rebuilt += layout::print(rule.name == changed.name ? changed : rule) + "\n";
    }
    text = rebuilt;
  }
  out->kinds = kinds::Catalogue::parse(text, "test").value();
  out->subject.parts = {{&out->model}};
  out->subject.kinds = &out->kinds;
  out->subject.layouts = {layout};
  out->subject.budget.oracle = kOracle;
  return out;
}

bool all_green(const std::vector<Verdict>& verdicts) {
  return !verdicts.empty() && std::all_of(verdicts.begin(), verdicts.end(), [](const Verdict& one) {
    return one.outcome == Outcome::Proved || one.outcome == Outcome::Held;
  });
}

const Verdict* first_refuted(const std::vector<Verdict>& verdicts) {
  for (const Verdict& verdict : verdicts) {
    if (verdict.outcome == Outcome::Refuted) {
      return &verdict;
    }
  }
  return nullptr;
}

parallel::Layout tp(std::int64_t size) {
  parallel::Layout out;
  out.tp = size;
  out.vocab_divisor = 4;
  return out;
}

TEST(Claims, AreGreenForEveryGoldenCheckpointAtTp1AndTp2) {
  for (const auto& entry : fs::directory_iterator(fs::path(BV_FIXTURES) / "golden" / "hf")) {
    if (!entry.is_directory()) {
      continue;
    }
    for (const std::int64_t size : {1, 2}) {
      const auto c = make_case(entry.path().filename().string(), tp(size));
      const std::string label = entry.path().filename().string() + " tp" + std::to_string(size);
      EXPECT_TRUE(all_green(check_names(c->subject))) << label;
      EXPECT_TRUE(all_green(check_shapes(c->subject))) << label;
      EXPECT_TRUE(all_green(check_coverage(c->subject))) << label;
      EXPECT_TRUE(all_green(check_inverse(c->subject))) << label;
      EXPECT_TRUE(all_green(check_bytes(c->subject))) << label;
      const auto placement = check_placement(c->subject);
      EXPECT_TRUE(all_green(placement)) << label;
      for (const Verdict& verdict : placement) {
        EXPECT_TRUE(verdict.outcome == Outcome::Proved && verdict.evidence.oracle)
            << label << " " << verdict.megatron << " " << verdict.title << " has " << verdict.found
            << " wants " << verdict.wanted;
      }
    }
  }
}

/// Every claim looks at as many subjects as it says it has, on every golden, with and without
/// bytes, on layouts that cut, stage and place experts.
TEST(Claims, LookAtEverySubjectThatTheyCount) {
  for (const auto& entry : fs::directory_iterator(fs::path(BV_FIXTURES) / "golden" / "hf")) {
    if (!entry.is_directory()) {
      continue;
    }
    for (const bool has_bytes : {true, false}) {
      const auto c = make_case(entry.path().filename().string(), tp(1));
      c->subject.layouts.push_back(tp(2));
      if (!has_bytes) {
        c->model.checkpoint.reset();
      }
      for (const Claim& claim : catalogue()) {
        if (claim.needs_bytes && !has_bytes) {
          continue;
        }
        for (const Verdict& verdict : judged(claim, c->subject)) {
          EXPECT_NE(verdict.outcome, Outcome::Broken)
              << entry.path().filename() << " " << claim.id << ": " << verdict.title;
        }
      }
    }
  }
}

TEST(Claims, AJudgeThatPassesOverASubjectIsBroken) {
  const auto c = make_case("llama", tp(1));
  Claim careless = *find_claim("placement");
  careless.judge = [](const Subject& subject) {
    auto all = check_placement(subject);
    all.pop_back();
    return all;
  };
  const auto verdicts = judged(careless, c->subject);
  ASSERT_FALSE(verdicts.empty());
  EXPECT_EQ(verdicts.back().outcome, Outcome::Broken);
  EXPECT_EQ(verdicts.back().code, Code::Assertion);
  EXPECT_EQ(verdicts.back().wanted, std::to_string(count_placement(c->subject)));
}

/// A planted line that survives every round trip must be refuted by placement, and only there.
void expect_seen_by_placement_only(const std::string& golden, std::int64_t size,
                                   const std::string& line, const std::string& subject) {
  const auto c = make_case(golden, tp(size), line);
  EXPECT_TRUE(all_green(check_coverage(c->subject))) << line;
  EXPECT_TRUE(all_green(check_inverse(c->subject))) << line;
  EXPECT_TRUE(all_green(check_bytes(c->subject))) << line;
  const auto placement = check_placement(c->subject);
  const Verdict* refuted = first_refuted(placement);
  ASSERT_NE(refuted, nullptr) << line;
  EXPECT_EQ(refuted->code, Code::WrongPlacement);
  EXPECT_NE(refuted->megatron.find(subject), std::string::npos) << refuted->megatron;
  ASSERT_EQ(refuted->counterexamples.size(), 1U);
  EXPECT_NE(refuted->counterexamples[0].wanted.tensor, "");
  EXPECT_NE(refuted->found, refuted->wanted);
}

TEST(PlantedFaults, SwappedGateAndUp) {
  expect_seen_by_placement_only(
      "llama", 2,
      "gated_mlp gate[(t f) ...], up[(t f) ...] -> linear_fc1{t}[(up: f | gate: f) ...]",
      "linear_fc1");
}

TEST(PlantedFaults, GateAndUpCutAfterTheyAreJoined) {
  expect_seen_by_placement_only("llama", 2,
                                "gated_mlp gate[(t f) ...], up[(t f) ...] -> linear_fc1[(gate: t f "
                                "| up: t f) ...] cut 0 by t",
                                "linear_fc1");
}

TEST(PlantedFaults, HeadMajorInsteadOfGroupMajor) {
  expect_seen_by_placement_only("llama", 1,
                                "qkv q[(g n d) ...], k[(g d) ...], v[(g d) ...] -> linear_qkv[(q: "
                                "g n d | k: g d | v: g d) ...] cut 0 by t",
                                "linear_qkv");
}

TEST(PlantedFaults, OutputGateBesideItsQuery) {
  expect_seen_by_placement_only(
      "qwen3_5_dense", 2,
      "qkv_gated q[(g n (query: d | gate: d)) ...], k[(g d) ...], v[(g d) ...] -> "
      "linear_qkv[(g (q: n (query: d | gate: d) | k: d | v: d)) ...] cut 0 by t",
      "linear_qkv");
}

TEST(PlantedFaults, GatedDeltaNetCutAsOneBlock) {  // the flagship: Megatron-Bridge PR 1694
  expect_seen_by_placement_only(
      "qwen3_5_dense", 2,
      "gdn4 qkv[(q: t a c | k: t a c | v: t b e) ...], z[(t b e) ...], b_[(t b) ...], a_[(t b) "
      "...] -> "
      "in_proj[(q: t a c | k: t a c | v: t b e | z: t b e | b_: t b | a_: t b) ...] cut 0 by t",
      "in_proj");
}

TEST(PlantedFaults, AlphaAndBetaExchanged) {
  expect_seen_by_placement_only(
      "qwen3_5_dense", 1,
      "gdn4 qkv[(q: t a c | k: t a c | v: t b e) ...], z[(t b e) ...], b_[(t b) ...], a_[(t b) "
      "...] -> "
      "in_proj{t}[(q: a c | k: a c | v: b e | z: b e | a_: b | b_: b) ...]",
      "in_proj");
}

TEST(PlantedFaults, PackedExpertsWithSwappedHalves) {
  expect_seen_by_placement_only(
      "qwen3_5_moe_packed", 2,
      "packed_fc1 gate_up[E (gate: t f | up: t f) ...] -> linear_fc1{E t}[(up: f | gate: f) ...]",
      "linear_fc1");
}

TEST(PlantedFaults, HeadsOfTheOutputProjectionReversedOverRanks) {
  expect_seen_by_placement_only("llama", 2, "row x[o (i t)] -> x{t}[o i]", "linear_");
}

TEST(PlantedFaults, AReplicaThatIsCutIsAShapeFault) {
  const auto c = make_case("llama", tp(2), "replicated x[...] -> x[...] cut 0 by t");
  const auto placement = check_placement(c->subject);
  const Verdict* refuted = first_refuted(placement);
  ASSERT_NE(refuted, nullptr);
  EXPECT_EQ(refuted->code, Code::ShapeMismatch);
}

TEST(PlantedFaults, AnExtentThatIsRightOnOneRankOnlyIsAShapeFault) {
  const auto c = make_case("llama", tp(1));
  auto rules = family::rules(*c->model.model.family);
  for (family::Rule& rule : rules) {
    if (rule.kind == "gated_mlp") {
      rule.axes["f"] = "intermediate_size";  // the ranks are forgotten
    }
  }
  const auto family = family::with_rules(*c->model.model.family, std::move(rules));
  const auto config = checkpoint::parse_config(c->model.config_text, "llama").value();
  c->model.model = model::resolve(family, config, c->model.headers, {}).value();
  EXPECT_TRUE(all_green(check_shapes(c->subject)));
  c->subject.layouts = {tp(1), tp(2)};
  const auto shapes = check_shapes(c->subject);
  const Verdict* refuted = first_refuted(shapes);
  ASSERT_NE(refuted, nullptr);
  EXPECT_EQ(refuted->code, Code::ShapeMismatch);
  EXPECT_EQ(refuted->found, "[36, 24]");
  EXPECT_EQ(refuted->wanted, "[72, 24]");
}

TEST(Claims, ForwardWithoutItsModuleIsNeverGreen) {
  const auto c = make_case("llama", tp(1));
  ASSERT_EQ(c->subject.budget.oracle.forward, nullptr);
  const auto verdicts = check_forward(c->subject);
  ASSERT_FALSE(verdicts.empty());
  for (const Verdict& verdict : verdicts) {
    EXPECT_EQ(verdict.outcome, Outcome::Inconclusive);
    EXPECT_EQ(verdict.code, Code::ModuleMissing);
  }
}

TEST(Claims, ValuesNameTheTensorThatLosesBits) {
  const auto c = make_case("qwen3_5_moe", tp(1));
  const auto verdicts = check_values(c->subject);
  const Verdict* refuted = first_refuted(verdicts);
  ASSERT_NE(refuted, nullptr);
  EXPECT_EQ(refuted->code, Code::ValueRuleInexact);
  EXPECT_EQ(refuted->counterexamples[0].tensor, "model.layers.0.linear_attn.norm.weight");
}

TEST(Claims, ValuesWithoutBytesAreUndecided) {
  const auto c = make_case("qwen3_5_moe", tp(1));
  c->model.checkpoint.reset();
  const auto verdicts = check_values(c->subject);
  ASSERT_FALSE(verdicts.empty());
  EXPECT_EQ(verdicts.front().outcome, Outcome::Inconclusive);
}

TEST(Claims, NarrowingIsAVerdictOfItsOwn) {
  const auto c = make_case("qwen3_5_dense", tp(1));
  c->subject.dtype = {DType::BF16};
  const auto verdicts = check_values(c->subject);
  const bool a_log = std::any_of(verdicts.begin(), verdicts.end(), [](const Verdict& one) {
    return one.outcome == Outcome::Refuted && one.megatron.find("A_log") != std::string::npos;
  });
  EXPECT_TRUE(a_log);
}

TEST(Claims, AWrongShapeNamesConfigFieldsAndBothShapes) {
  const auto c = make_case("llama", tp(1));
  c->model.headers["model.layers.1.self_attn.k_proj.weight"].shape = {41, 24};
  const auto verdicts = check_shapes(c->subject);
  const Verdict* refuted = first_refuted(verdicts);
  ASSERT_NE(refuted, nullptr);
  EXPECT_EQ(refuted->code, Code::ShapeMismatch);
  EXPECT_EQ(refuted->counterexamples[0].tensor, "model.layers.1.self_attn.k_proj.weight");
  EXPECT_EQ(refuted->found, "[41, 24]");
  EXPECT_EQ(refuted->wanted, "[40, 24]");
  EXPECT_TRUE(
      std::any_of(refuted->facts.begin(), refuted->facts.end(), [](const std::string& fact) {
        return fact.find("num_key_value_heads=4") != std::string::npos;
      }));
}

TEST(Claims, TiedEmbeddingsStoredTwiceMustBeEqual) {
  const auto c = make_case("llama", tp(1));
  c->model.model.must_equal = {{"lm_head.weight", "model.embed_tokens.weight"}};
  const auto verdicts = check_copies(c->subject);
  ASSERT_EQ(verdicts.size(), 1U);
  EXPECT_EQ(verdicts[0].outcome, Outcome::Refuted);
  EXPECT_EQ(verdicts[0].code, Code::TiedEmbeddings);
}

}  // namespace
}  // namespace bv::claims

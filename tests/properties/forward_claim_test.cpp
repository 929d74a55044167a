// The forward claim: a fault that is the same on both ways survives every round trip and changes
// what the model computes.

#include <gtest/gtest.h>

#include <algorithm>
#include <iterator>
#include <set>
#include <sstream>

#include "properties/attacks/mutants/forward.hpp"
#include "properties/attacks/mutants/museum.hpp"

namespace bv::mutants {
namespace {

namespace fw = oracle::forward;

const oracle::Entry kOracle = {};
const fw::Functions kForward = {fw::read_facts, fw::hf_forward, fw::megatron_forward,
                                fw::probe_inputs};

bool seen_by_forward(const std::vector<Finding>& findings) {
  return std::any_of(findings.begin(), findings.end(),
                     [](const Finding& one) { return one.claim == "forward"; });
}

struct World {
  Library library;
  Reference reference;
};

World world(const std::string& name, const std::string& layout) {
  Library library = load_library().value();
  const auto samples = builtin_samples().value();
  const auto one = make_case(library, find_sample(samples, name).value()).value();
  auto reference = Reference::make(library, one, padded_layout(layout).value(), kOracle).value();
  reference.set_forward(forward_of(*one, reference.right(), kForward).value());
  return {std::move(library), std::move(reference)};
}

struct Asked {
  std::string sample;
  std::string layout;
  std::string same = {};  // a fault that computes the same
  friend std::ostream& operator<<(std::ostream& out, const Asked& asked) {
    return out << asked.sample << " " << asked.layout;
  }
};

class ForwardClaim : public ::testing::TestWithParam<Asked> {};

TEST_P(ForwardClaim, HoldsOnARightBridgeAndSeesTwoSidedFaults) {
  const World w = world(GetParam().sample, GetParam().layout);
  const Program& right = w.reference.right();
  EXPECT_FALSE(seen_by_forward(w.reference.judge({right, right, std::nullopt})));
  int judged = 0;
  int seen = 0;
  int same = 0;
  for (const Mutant& mutant : enumerate(w.library, w.reference.model(), right)) {
    const bool placed = mutant.op == Operator::Swap || mutant.op == Operator::FlatChunk ||
                        mutant.op == Operator::Layer;
    if (!mutant.two_sided || !placed) {
      continue;
    }
    const auto attack = apply(w.library, w.reference.model(), right, mutant).value();
    const auto findings = w.reference.judge(attack);
    if (findings.empty()) {
      continue;  // equivalent
    }
    if (!GetParam().same.empty() && text(mutant).starts_with(GetParam().same)) {
      ++same;
      EXPECT_FALSE(seen_by_forward(findings)) << text(mutant);
      continue;
    }
    ++judged;
    seen += seen_by_forward(findings) ? 1 : 0;
    EXPECT_TRUE(seen_by_forward(findings)) << text(mutant);
  }
  EXPECT_GT(judged, 3);
  EXPECT_EQ(seen, judged);
  EXPECT_EQ(same, GetParam().same.empty() ? 0 : 1);
}

/// Both are added to the same residual.
constexpr const char* kSideBySide =
    "SWAP decoder.layers.*.self_attention.linear_proj.bias "
    "with=decoder.layers.*.mlp.linear_fc2.bias";
/// Nothing stands between them and the product of queries and keys.
constexpr const char* kNormsBehindTurn =
    "SWAP decoder.layers.*.self_attention.q_layernorm.weight "
    "with=decoder.layers.*.self_attention.k_layernorm.weight";

INSTANTIATE_TEST_SUITE_P(
    Mutants, ForwardClaim,
    ::testing::Values(
        Asked{"llama", "tp2"}, Asked{"llama_bias", "tp2"}, Asked{"qwen3_5_dense", "tp2"},
        Asked{"qwen3_vl_moe_square", "tp2ep2etp2"},
        Asked{"qwen3_5_dense_mtp", "tp1pp3 --pipeline-model-parallel-layout Ett|tt|mL"},
        Asked{"qwen3_5_dense_mtp", "tp1pp3 --pipeline-model-parallel-layout Ett|ttm|L"},
        // One family for each kind of layer or router that Llama lacks.
        Asked{"arcee", "tp2"}, Asked{"nemotron", "tp2"}, Asked{"phi", "tp2", kSideBySide},
        Asked{"olmo", "tp2"}, Asked{"olmo2", "tp2"}, Asked{"cohere", "tp2"},
        Asked{"hyperclovax", "tp2"}, Asked{"hunyuan_v1_dense", "tp2", kNormsBehindTurn},
        Asked{"minimax_m2", "tp2ep2"}, Asked{"flex_olmo", "tp2ep2"},
        Asked{"granitemoeshared", "tp2ep2"}, Asked{"phimoe", "tp2ep2"},
        Asked{"ernie4_5_moe", "tp2ep2"}, Asked{"deepseek_v2", "tp2ep2"}, Asked{"youtu", "tp2"},
        // Mamba beside attention and alone, rotary shares, chunks, indexers.
        Asked{"gpt_neox", "tp2"}, Asked{"falcon_h1", "tp2"}, Asked{"nemotron_h", "tp2ep2"},
        Asked{"llama4_text", "tp2ep2"}, Asked{"deepseek_v32", "tp2ep2"},
        Asked{"gemma4_text", "tp2"}, Asked{"gemma4_experts", "tp2ep2"},
        // Models that transformers has no class of.
        Asked{"nemotron_nas", "tp2"}, Asked{"mimo", "tp2"}, Asked{"bailing_moe_v2", "tp2ep2"},
        Asked{"sarvam_mla", "tp2ep2"}, Asked{"sarvam_moe", "tp2ep2"}));

/// Samples of families that have no forward form yet.
constexpr std::string_view kKnownWithout = "step3p5 step3p7";

/// A family whose form fell away would leave its mutants unasked.
TEST(ForwardForms, EverySampleButTheseHasOneAndItsRightBridgeHoldsOnEveryLayout) {
  std::set<std::string> without;
  const Library library = load_library().value();
  const auto samples = builtin_samples().value();
  for (const Sample& sample : samples) {
    const auto one = make_case(library, sample).value();
    for (const std::string& id : sample.layouts) {
      const auto right = compile(one->model, library.kinds, padded_layout(id).value()).value();
      const auto forward = forward_of(*one, right, kForward);
      ASSERT_TRUE(forward) << sample.name << " " << id << ": " << forward.error().message;
      if (!static_cast<bool>(*forward)) {
        without.insert(sample.name);
      }
    }
  }
  std::istringstream names{std::string(kKnownWithout)};
  const std::set<std::string> known(std::istream_iterator<std::string>(names), {});
  EXPECT_EQ(without, known);
}

}  // namespace
}  // namespace bv::mutants

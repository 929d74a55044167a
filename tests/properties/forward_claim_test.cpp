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

class ForwardClaim : public ::testing::TestWithParam<std::pair<std::string, std::string>> {};

TEST_P(ForwardClaim, HoldsOnARightBridgeAndSeesTwoSidedFaults) {
  const World w = world(GetParam().first, GetParam().second);
  const Program& right = w.reference.right();
  EXPECT_FALSE(seen_by_forward(w.reference.judge({right, right, std::nullopt})));
  int judged = 0;
  int seen = 0;
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
    ++judged;
    seen += seen_by_forward(findings) ? 1 : 0;
    EXPECT_TRUE(seen_by_forward(findings)) << text(mutant);
  }
  EXPECT_GT(judged, 3);
  EXPECT_EQ(seen, judged);
}

INSTANTIATE_TEST_SUITE_P(
    Mutants, ForwardClaim,
    ::testing::Values(
        std::pair("llama", "tp2"), std::pair("llama_bias", "tp2"),
        std::pair("qwen3_5_dense", "tp2"), std::pair("qwen3_vl_moe_square", "tp2ep2etp2"),
        std::pair("qwen3_5_dense_mtp", "tp1pp3 --pipeline-model-parallel-layout Ett|tt|mL"),
        std::pair("qwen3_5_dense_mtp", "tp1pp3 --pipeline-model-parallel-layout Ett|ttm|L")));

/// Samples of families that have no forward form yet.
constexpr std::string_view kKnownWithout =
    "arcee bailing_moe_v2 cohere cohere2 cwm deepseek_v2 deepseek_v2_lite deepseek_v32 "
    "dots1 ernie4_5 ernie4_5_moe ernie4_5_vl exaone4 exaone4_5 exaone_moe falcon_h1 "
    "flex_olmo gemma3_vl gemma4 gemma4_experts gemma4_text glm4v_moe glm_moe_dsa gpt_neox "
    "granite granitemoe granitemoeshared hunyuan_v1_dense hunyuan_v1_moe hy_v3 "
    "hyperclovax jais2 kimi_k25 llama4 llama4_text mimo mimo_v2_flash minimax_m2 "
    "minimax_m3 ministral ministral3 mistral3 nemotron nemotron_h nemotron_h_mtp "
    "nemotron_h_omni nemotron_h_vl nemotron_nas olmo olmo2 olmo3 olmoe phi phimoe "
    "qwen2_5_omni qwen2_5_vl qwen2_audio qwen2_vl qwen3_asr qwen3_omni_moe sarvam_mla "
    "sarvam_moe seed_oss smollm3 solar_open stablelm starcoder2 step3p5 step3p7 "
    "vaultgemma youtu";

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

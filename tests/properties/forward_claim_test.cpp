// The forward claim: a fault that is the same on both ways survives every round trip and changes
// what the model computes.

#include <gtest/gtest.h>

#include "core/base/arith.hpp"
#include "core/kinds/values.hpp"
#include "oracles/forward/forward.hpp"
#include "properties/mutants/museum.hpp"

namespace bv::mutants {
namespace {

namespace fw = oracle::forward;

const oracle::Entry kOracle = {oracle::kAbiVersion, oracle::wanted_shard, oracle::why_unanswered,
                               oracle::wanted_value};

fw::NamedTensors widened(const Tensors& tensors) {
  fw::NamedTensors out;
  for (const auto& [name, tensor] : tensors) {
    fw::Tensor wide;
    wide.shape = tensor.shape;
    const auto size = static_cast<std::size_t>(bytes(tensor.dtype));
    for (std::size_t i = 0; i < tensor.bytes.size() / size; ++i) {
      wide.values.push_back(kinds::load(tensor.bytes.data() + i * size, tensor.dtype));
    }
    out.emplace(name, std::move(wide));
  }
  return out;
}

RunForward forward_of(const Reference& reference) {
  const auto facts = fw::read_facts(reference.model().sample.config).value();
  const auto inputs = fw::probe_inputs(facts, 7, 3);
  const auto right = fw::hf_forward(facts, widened(reference.values()), inputs).value();
  return [=](const std::vector<parallel::ShardKey>& files, const Image& image) {
    std::vector<fw::RankTensors> ranks;
    for (std::size_t i = 0; i < files.size(); ++i) {
      ranks.push_back({files[i].pp, files[i].tp, files[i].ep, files[i].etp, files[i].vp,
                       widened(image.files[i])});
    }
    Forward out;
    const auto found = fw::megatron_forward(facts, ranks, inputs);
    if (!found) {
      out.refused = found.error().message;
      return out;
    }
    for (const auto& [where, difference] : fw::differences(right, *found)) {
      if (!(difference <= out.difference)) {
        out.difference = difference;
        out.where = where;
      }
    }
    return out;
  };
}

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
  reference.set_forward(forward_of(reference));
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

INSTANTIATE_TEST_SUITE_P(Mutants, ForwardClaim,
                         ::testing::Values(std::pair("llama", "tp2"),
                                           std::pair("qwen3_5_dense", "tp2")));

}  // namespace
}  // namespace bv::mutants

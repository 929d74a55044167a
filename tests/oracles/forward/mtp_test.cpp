// MTP blocks that lie behind the decoder layers in HF (DeepSeek-V3, GLM-4.5). No real library ran
// these with the golden weights, so both forms get a block made of the last decoder layer and
// made-up projections.
#include <fmt/format.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <random>

#include "tests/oracles/forward/golden.hpp"
#include "tests/oracles/forward/planted.hpp"
#include "tests/oracles/forward/reshard.hpp"

namespace bv::oracle::forward {
namespace {

Tensor random_tensor(std::vector<std::int64_t> shape, std::mt19937_64& random) {
  Tensor tensor{std::move(shape), {}};
  std::int64_t count = 1;
  for (const std::int64_t extent : tensor.shape) count *= extent;
  for (std::int64_t i = 0; i < count; ++i) {
    tensor.values.push_back(static_cast<double>(random() >> 11) * 0x1.0p-53 - 0.5);
  }
  return tensor;
}

/// Copies every tensor below `from` to the same name below `to`.
void copy_below(NamedTensors& tensors, const std::string& from, const std::string& to) {
  NamedTensors copies;
  for (const auto& [name, tensor] : tensors) {
    if (name.starts_with(from)) copies.emplace(to + name.substr(from.size()), tensor);
  }
  tensors.merge(copies);
}

struct Pair {
  golden::Whole whole;
  NamedTensors hf;
};

/// Two depths; depth k is HF layer L + k and Megatron mtp.layers.k.
Pair with_two_depths(const std::string& name) {
  Pair pair{golden::unsharded(name, stored_layout(name)), golden::read_checkpoint(name)};
  ModelFacts& facts = pair.whole.facts;
  facts.mtp_layers = 2;
  std::mt19937_64 random(11);
  const std::string last = fmt::format("layers.{}.", facts.layers - 1);
  for (std::int64_t depth = 0; depth < 2; ++depth) {
    const std::string hf = fmt::format("model.layers.{}.", facts.layers + depth);
    const std::string block = fmt::format("mtp.layers.{}.", depth);
    copy_below(pair.hf, "model." + last, hf);
    copy_below(pair.whole.tensors, "decoder." + last, block + "mtp_model_layer.");
    const std::pair<const char*, const char*> norms[] = {
        {"enorm.weight", "enorm.weight"},
        {"hnorm.weight", "hnorm.weight"},
        {"shared_head.norm.weight", "final_layernorm.weight"}};
    for (const auto& [hf_norm, megatron_norm] : norms) {
      const Tensor norm = random_tensor({facts.hidden}, random);
      pair.hf[hf + hf_norm] = norm;
      pair.whole.tensors[block + megatron_norm] = norm;
    }
    const Tensor projection = random_tensor({facts.hidden, 2 * facts.hidden}, random);
    pair.hf[hf + "eh_proj.weight"] = projection;
    pair.whole.tensors[block + "eh_proj.weight"] = projection;
  }
  return pair;
}

class MtpBehindLayers : public testing::TestWithParam<const char*> {};

TEST_P(MtpBehindLayers, IsTheSameInBothFormsAtTwoDepths) {
  const Pair pair = with_two_depths(GetParam());
  const Inputs inputs = probe_inputs(pair.whole.facts, 7, 3);
  const auto hf = hf_forward(pair.whole.facts, pair.hf, inputs);
  ASSERT_TRUE(hf) << hf.error().message;
  ASSERT_EQ(hf->mtp_logits.size(), 2U);
  EXPECT_GT(largest_difference(hf->mtp_logits[0], hf->mtp_logits[1]), 1e-3);
  for (const std::int64_t tp_size : {1, 2, 4}) {
    const auto megatron =
        megatron_forward(pair.whole.facts, golden::tensor_parallel(pair.whole, tp_size), inputs);
    ASSERT_TRUE(megatron) << megatron.error().message;
    for (const auto& [output, difference] : differences(*hf, *megatron))
      EXPECT_LT(difference, 1e-9) << output;
  }
}

TEST_P(MtpBehindLayers, DiffersWhenTheHalvesOfTheProjectionSwap) {
  Pair pair = with_two_depths(GetParam());
  const Inputs inputs = probe_inputs(pair.whole.facts, 7, 3);
  const auto hf = hf_forward(pair.whole.facts, pair.hf, inputs);
  Tensor& projection = pair.whole.tensors.at("mtp.layers.1.eh_proj.weight");
  const std::int64_t half = projection.shape[1] / 2;
  for (std::int64_t row = 0; row < projection.shape[0]; ++row) {
    const auto begin = projection.values.begin() + row * 2 * half;
    std::swap_ranges(begin, begin + half, begin + half);
  }
  const auto megatron =
      megatron_forward(pair.whole.facts, golden::tensor_parallel(pair.whole, 2), inputs);
  ASSERT_TRUE(hf && megatron);
  const auto found = differences(*hf, *megatron);
  EXPECT_LT(found.at("mtp_logits.0"), 1e-9);
  EXPECT_GT(found.at("mtp_logits.1"), 1e-3);
}

INSTANTIATE_TEST_SUITE_P(Made, MtpBehindLayers, testing::Values("deepseek_v3", "glm4_moe"),
                         [](const auto& one) { return std::string(one.param); });

}  // namespace
}  // namespace bv::oracle::forward

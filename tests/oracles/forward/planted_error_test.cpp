// Errors that survive every round trip, planted one at a time at TP 2: each must be seen in some
// output.
#include <fmt/format.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <functional>

#include "tests/oracles/forward/golden.hpp"
#include "tests/oracles/forward/planted.hpp"
#include "tests/oracles/forward/reshard.hpp"

namespace bv::oracle::forward {
namespace {

using golden::Whole;

/// Damages one parameter of qwen3_5_vl_moe_mtp_packed (or another case) at TP 2 and gives the
/// largest difference of any output, images included.
double seen_after(const std::string& name, const std::function<void(Ranks&)>& damage) {
  Whole whole = golden::unsharded(name, stored_layout(name));
  const NamedTensors hf = golden::read_checkpoint(name);
  EXPECT_LT(golden::repair_out_norms(whole, hf), 0.01);
  Ranks ranks = golden::tensor_parallel(whole, 2);
  const NamedTensors vectors = golden::vectors_of(name);
  const Inputs inputs = vectors.contains("image.input_ids") ? golden::image_inputs(vectors)
                                                            : golden::text_inputs(vectors);
  const auto right = hf_forward(whole.facts, hf, inputs);
  const auto sound = megatron_forward(whole.facts, ranks, inputs);
  damage(ranks);
  const auto found = megatron_forward(whole.facts, ranks, inputs);
  EXPECT_TRUE(right && sound && found);
  if (!right || !sound || !found) return 0.0;
  double before = 0.0;
  double after = 0.0;
  for (const auto& entry : differences(*right, *sound)) before = std::max(before, entry.second);
  for (const auto& entry : differences(*right, *found)) after = std::max(after, entry.second);
  EXPECT_LT(before, 1e-9);
  return after;
}

/// Replaces the shards of a square matrix by those of its transpose.
void transpose_square(Ranks& ranks, const std::string& name, int axis) {
  const auto count = static_cast<std::int64_t>(ranks.size());
  const std::int64_t size = ranks[0].tensors.at(name).shape[axis == 0 ? 1 : 0];
  std::vector<double> whole(static_cast<std::size_t>(size * size));
  const auto visit = [&](bool write) {
    for (std::int64_t i = 0; i < size; ++i) {
      for (std::int64_t j = 0; j < size; ++j) {
        const std::int64_t along = axis == 0 ? i : j;
        const std::int64_t share = size / count;
        const std::int64_t local = axis == 0 ? (i % share) * size + j : i * share + j % share;
        double& element = ranks[static_cast<std::size_t>(along / share)]
                              .tensors.at(name)
                              .values[static_cast<std::size_t>(local)];
        if (write)
          element = whole[static_cast<std::size_t>(j * size + i)];
        else
          whole[static_cast<std::size_t>(i * size + j)] = element;
      }
    }
  };
  visit(false);
  visit(true);
}

constexpr double kSeen = 1e-3;
constexpr const char* kVision = "qwen3_5_vl_moe_mtp_packed";

TEST(ForwardOracle, SeesATransposedVisionProjection) {
  EXPECT_GT(seen_after(kVision,
                       [](Ranks& ranks) {
                         transpose_square(
                             ranks,
                             "vision_model.decoder.layers.0.self_attention.linear_proj.weight", 1);
                       }),
            kSeen);
}

TEST(ForwardOracle, SeesATransposedMerger) {
  EXPECT_GT(seen_after(kVision,
                       [](Ranks& ranks) {
                         transpose_square(ranks, "vision_model.merger.linear_fc1.weight", 0);
                       }),
            kSeen);
}

TEST(ForwardOracle, SeesATransposedDeepstackMerger) {
  EXPECT_GT(seen_after("qwen3_vl",
                       [](Ranks& ranks) {
                         transpose_square(
                             ranks,
                             "vision_model.decoder.deepstack_merger_list.0.linear_fc1.weight", 0);
                       }),
            kSeen);
}

TEST(ForwardOracle, SeesVisionHeadsLeftConcatenated) {
  EXPECT_GT(
      seen_after(kVision,
                 [](Ranks& ranks) {
                   for_each(ranks, [](const std::string& name, Tensor& tensor) {
                     if (!has(name,
                              "vision_model.decoder.layers.1.self_attention.linear_qkv.weight"))
                       return;
                     // 2 local heads of size 4: [q0 k0 v0 q1 k1 v1] becomes [q0 q1 k0 k1 v0 v1].
                     std::vector<std::int64_t> order;
                     for (const std::int64_t block : {0, 3, 1, 4, 2, 5})
                       append(order, counted(block * 4, 4));
                     tensor = reordered(tensor, order);
                   });
                 }),
      kSeen);
}

TEST(ForwardOracle, SeesSwappedHalvesOfEhProj) {
  EXPECT_GT(seen_after(kVision,
                       [](Ranks& ranks) {
                         for_each(ranks, [](const std::string& name, Tensor& tensor) {
                           if (!has(name, "eh_proj.weight")) return;
                           const std::int64_t half = tensor.shape[1] / 2;
                           for (std::int64_t row = 0; row < tensor.shape[0]; ++row) {
                             const auto begin = tensor.values.begin() + row * 2 * half;
                             std::swap_ranges(begin, begin + half, begin + half);
                           }
                         });
                       }),
            kSeen);
}

TEST(ForwardOracle, SeesSwappedNormsOfTheMtpBlock) {
  EXPECT_GT(seen_after("qwen3_5_dense_mtp",
                       [](Ranks& ranks) {
                         for (RankTensors& rank : ranks) {
                           std::swap(rank.tensors.at("mtp.layers.0.enorm.weight"),
                                     rank.tensors.at("mtp.layers.0.hnorm.weight"));
                         }
                       }),
            kSeen);
}

/// The shards of one parameter change places between the two ranks.
class ForeignRows : public testing::TestWithParam<const char*> {};

TEST_P(ForeignRows, AreSeen) {
  const std::string name = GetParam();
  EXPECT_GT(seen_after("qwen3_5_dense_mtp",
                       [&](Ranks& ranks) {
                         std::swap(ranks[0].tensors.at(name), ranks[1].tensors.at(name));
                       }),
            kSeen);
}

INSTANTIATE_TEST_SUITE_P(TwoRanks, ForeignRows,
                         testing::Values("embedding.word_embeddings.weight", "output_layer.weight",
                                         "decoder.layers.0.self_attention.in_proj.weight",
                                         "decoder.layers.0.self_attention.conv1d.weight",
                                         "decoder.layers.0.self_attention.A_log",
                                         "decoder.layers.0.self_attention.dt_bias",
                                         "decoder.layers.0.self_attention.out_proj.weight",
                                         "decoder.layers.3.self_attention.linear_qkv.weight",
                                         "decoder.layers.3.self_attention.linear_proj.weight",
                                         "decoder.layers.1.mlp.linear_fc1.weight",
                                         "decoder.layers.1.mlp.linear_fc2.weight",
                                         "mtp.layers.0.eh_proj.weight"),
                         [](const auto& one) {
                           std::string label = one.param;
                           std::ranges::replace(label, '.', '_');
                           return label;
                         });

/// A replicated parameter that is wrong on the second rank only.
class WrongCopy : public testing::TestWithParam<const char*> {};

TEST_P(WrongCopy, OnOneRankIsSeen) {
  const std::string name = GetParam();
  EXPECT_GT(seen_after(kVision,
                       [&](Ranks& ranks) {
                         auto& values = ranks[1].tensors.at(name).values;
                         std::ranges::reverse(values);
                       }),
            1e-6);
}

INSTANTIATE_TEST_SUITE_P(
    TwoRanks, WrongCopy,
    testing::Values("language_model.decoder.final_layernorm.weight",
                    "language_model.decoder.layers.0.self_attention.in_proj.layer_norm_weight",
                    "language_model.decoder.layers.0.self_attention.out_norm.weight",
                    "language_model.decoder.layers.0.mlp.router.weight",
                    "language_model.decoder.layers.0.mlp.shared_experts.gate_weight",
                    "language_model.decoder.layers.0.pre_mlp_layernorm.weight",
                    "language_model.decoder.layers.3.self_attention.q_layernorm.weight",
                    "language_model.mtp.layers.0.enorm.weight",
                    "vision_model.decoder.layers.0.self_attention.linear_proj.bias",
                    "vision_model.patch_embed.proj.weight", "vision_model.pos_embed.weight",
                    "vision_model.merger.linear_fc2.bias"),
    [](const auto& one) {
      std::string label = one.param;
      std::ranges::replace(label, '.', '_');
      return label;
    });

}  // namespace
}  // namespace bv::oracle::forward

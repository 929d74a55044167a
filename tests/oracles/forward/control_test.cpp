// Deliberate errors. Each one that the real Megatron-Core was run with changes our logits by the size it changed
// there, and errors that survive every round trip are seen.
#include <fmt/format.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <functional>

#include "golden.hpp"
#include "reshard.hpp"

namespace bv::oracle::forward {
namespace {

using golden::Whole;
using Ranks = std::vector<RankTensors>;

std::string stored_layout(const std::string& name) {
  return name.find("moe") != std::string::npos || name == "qwen3_next" ? "tp2_ep2" : "tp2";
}

std::int64_t row_size(const Tensor& tensor) {
  return static_cast<std::int64_t>(tensor.values.size()) / tensor.shape[0];
}

/// The rows of `tensor` in another order: row i of the result is row order[i].
Tensor reordered(const Tensor& tensor, const std::vector<std::int64_t>& order) {
  Tensor out = tensor;
  const std::int64_t width = row_size(tensor);
  for (std::size_t i = 0; i < order.size(); ++i) {
    std::copy_n(tensor.values.begin() + order[i] * width, width,
                out.values.begin() + static_cast<std::int64_t>(i) * width);
  }
  return out;
}

std::vector<std::int64_t> counted(std::int64_t from, std::int64_t count) {
  std::vector<std::int64_t> out;
  for (std::int64_t i = 0; i < count; ++i) out.push_back(from + i);
  return out;
}

void append(std::vector<std::int64_t>& order, const std::vector<std::int64_t>& more) {
  order.insert(order.end(), more.begin(), more.end());
}

bool has(const std::string& name, std::string_view part) { return name.find(part) != std::string::npos; }

void for_each(Ranks& ranks, const std::function<void(const std::string&, Tensor&)>& change) {
  for (RankTensors& rank : ranks) {
    for (auto& [name, tensor] : rank.tensors) change(name, tensor);
  }
}

void swap_gate_and_up(Ranks& ranks, std::string_view where) {
  for_each(ranks, [&](const std::string& name, Tensor& tensor) {
    if (!has(name, where) || !has(name, "linear_fc1.weight")) return;
    const std::int64_t half = tensor.shape[0] / 2;
    std::vector<std::int64_t> order = counted(half, half);
    append(order, counted(0, half));
    tensor = reordered(tensor, order);
  });
}

/// Rows of one query group of linear_qkv: query heads, gate heads, key, value.
struct Group {
  std::int64_t queries;
  std::int64_t gates;
  std::int64_t rows;
};
Group group_of(const ModelFacts& facts) {
  const std::int64_t queries = facts.heads / facts.kv_heads;
  const std::int64_t gates = facts.output_gate ? queries : 0;
  return {queries, gates, (queries + gates + 2) * facts.head_dim};
}

/// All queries (with the gates of each head behind it, as in q_proj), then all keys, then all values.
void concatenate_qkv(const ModelFacts& facts, Ranks& ranks) {
  const Group group = group_of(facts);
  const std::int64_t d = facts.head_dim;
  std::vector<std::int64_t> order;
  for (std::int64_t g = 0; g < facts.kv_heads; ++g) {
    for (std::int64_t head = 0; head < group.queries; ++head) {
      append(order, counted(g * group.rows + head * d, d));
      if (group.gates > 0) append(order, counted(g * group.rows + (group.queries + head) * d, d));
    }
  }
  for (std::int64_t slot = 2; slot >= 1; --slot) {
    for (std::int64_t g = 0; g < facts.kv_heads; ++g) append(order, counted((g + 1) * group.rows - slot * d, d));
  }
  for_each(ranks, [&](const std::string& name, Tensor& tensor) {
    if (has(name, "linear_qkv.weight") || has(name, "linear_qkv.bias")) tensor = reordered(tensor, order);
  });
}

/// Inside each group: query 0, gate 0, query 1, gate 1, as in q_proj.
void alternate_gates(const ModelFacts& facts, Ranks& ranks) {
  const Group group = group_of(facts);
  const std::int64_t d = facts.head_dim;
  std::vector<std::int64_t> order;
  for (std::int64_t g = 0; g < facts.kv_heads; ++g) {
    for (std::int64_t head = 0; head < group.queries; ++head) {
      append(order, counted(g * group.rows + head * d, d));
      append(order, counted(g * group.rows + (group.queries + head) * d, d));
    }
    append(order, counted((g + 1) * group.rows - 2 * d, 2 * d));
  }
  for_each(ranks, [&](const std::string& name, Tensor& tensor) {
    if (has(name, "linear_qkv.weight")) tensor = reordered(tensor, order);
  });
}

void keep_out_norm(Ranks& ranks) {
  for_each(ranks, [](const std::string& name, Tensor& tensor) {
    if (!has(name, "out_norm.weight")) return;
    for (double& value : tensor.values) value += 1.0;
  });
}

void swap_alpha_and_beta(const ModelFacts& facts, Ranks& ranks) {
  const std::int64_t heads = facts.delta.value_heads;
  for_each(ranks, [&](const std::string& name, Tensor& tensor) {
    if (!has(name, "in_proj.weight")) return;
    std::vector<std::int64_t> order = counted(0, tensor.shape[0] - 2 * heads);
    append(order, counted(tensor.shape[0] - heads, heads));
    append(order, counted(tensor.shape[0] - 2 * heads, heads));
    tensor = reordered(tensor, order);
  });
}

void shift_experts(const ModelFacts& facts, Ranks& ranks) {
  for (RankTensors& rank : ranks) {
    const NamedTensors right = rank.tensors;
    for (auto& [name, tensor] : rank.tensors) {
      constexpr std::string_view kStem = "experts.linear_fc1.weight";
      const auto at = name.find(kStem);
      if (at == std::string::npos || has(name, "shared_experts")) continue;
      const auto expert = std::stoll(name.substr(at + kStem.size()));
      tensor = right.at(name.substr(0, at + kStem.size()) + fmt::format("{}", (expert + 1) % facts.moe.experts));
    }
  }
}

/// Shards of the parameters `where`, cut as if they were one section.
void cut_plainly(const Whole& whole, Ranks& ranks, std::string_view where) {
  const auto tp_size = static_cast<std::int64_t>(ranks.size());
  for (RankTensors& rank : ranks) {
    for (auto& [name, tensor] : rank.tensors) {
      if (!has(name, where)) continue;
      const Tensor& full = whole.tensors.at(name);
      const std::int64_t rows = full.shape[0] / tp_size;
      const std::int64_t width = row_size(full);
      std::copy_n(full.values.begin() + rank.tp * rows * width, rows * width, tensor.values.begin());
    }
  }
}

/// One cell of the table of controls in fixtures/golden/megatron_forward/NOTES.md.
struct Control {
  const char* label;
  const char* name;
  double size;
  std::int64_t tp_size;
  void (*damage)(const Whole&, Ranks&);
};

void gate_up(const Whole&, Ranks& ranks) { swap_gate_and_up(ranks, ""); }
void shared_gate_up(const Whole&, Ranks& ranks) { swap_gate_and_up(ranks, "shared_experts"); }
void qkv(const Whole& whole, Ranks& ranks) { concatenate_qkv(whole.facts, ranks); }
void gates(const Whole& whole, Ranks& ranks) { alternate_gates(whole.facts, ranks); }
void out_norm(const Whole&, Ranks& ranks) { keep_out_norm(ranks); }
void alpha_beta(const Whole& whole, Ranks& ranks) { swap_alpha_and_beta(whole.facts, ranks); }
void experts(const Whole& whole, Ranks& ranks) { shift_experts(whole.facts, ranks); }
void plain_fc1(const Whole& whole, Ranks& ranks) { cut_plainly(whole, ranks, ".mlp.linear_fc1.weight"); }
void plain_shared(const Whole& whole, Ranks& ranks) { cut_plainly(whole, ranks, "shared_experts.linear_fc1.weight"); }
void plain_in_proj(const Whole& whole, Ranks& ranks) { cut_plainly(whole, ranks, "in_proj.weight"); }

class ControlCase : public testing::TestWithParam<Control> {};

TEST_P(ControlCase, ChangesTheLogitsAsItDidInMegatronCore) {
  const Control& control = GetParam();
  const Whole whole = golden::unsharded(control.name, stored_layout(control.name));
  const NamedTensors vectors = golden::vectors_of(control.name);
  Ranks ranks = golden::tensor_parallel(whole, control.tp_size);
  control.damage(whole, ranks);
  const auto found = megatron_forward(whole.facts, ranks, golden::text_inputs(vectors));
  ASSERT_TRUE(found) << found.error().message;
  const double difference = largest_difference(found->logits, golden::squeezed(vectors.at("logits"), 2));
  EXPECT_GT(difference, control.size / 2);
  EXPECT_LT(difference, control.size * 2);
}

INSTANTIATE_TEST_SUITE_P(
    Golden, ControlCase,
    testing::Values(
        Control{"GateUp", "llama", 0.045, 1, gate_up}, Control{"GateUp", "qwen2", 0.019, 1, gate_up},
        Control{"GateUp", "qwen3", 0.034, 1, gate_up}, Control{"GateUp", "qwen3_moe", 0.025, 1, gate_up},
        Control{"GateUp", "qwen3_5_dense", 0.11, 1, gate_up},
        Control{"GateUp", "qwen3_5_moe_packed", 0.12, 1, gate_up}, Control{"GateUp", "qwen3_next", 0.062, 1, gate_up},
        Control{"SharedGateUp", "qwen3_5_moe_packed", 0.059, 1, shared_gate_up},
        Control{"SharedGateUp", "qwen3_next", 0.040, 1, shared_gate_up}, Control{"Qkv", "llama", 1.2, 1, qkv},
        Control{"Qkv", "qwen2", 1.0, 1, qkv}, Control{"Qkv", "qwen3", 1.0, 1, qkv},
        Control{"Qkv", "qwen3_moe", 0.87, 1, qkv}, Control{"Qkv", "qwen3_5_dense", 0.80, 1, qkv},
        Control{"Qkv", "qwen3_5_moe_packed", 0.68, 1, qkv}, Control{"Qkv", "qwen3_next", 0.84, 1, qkv},
        Control{"Gates", "qwen3_5_dense", 0.38, 1, gates}, Control{"Gates", "qwen3_5_moe_packed", 0.37, 1, gates},
        Control{"Gates", "qwen3_next", 0.33, 1, gates}, Control{"OutNorm", "qwen3_5_dense", 0.65, 1, out_norm},
        Control{"OutNorm", "qwen3_5_moe_packed", 0.87, 1, out_norm}, Control{"OutNorm", "qwen3_next", 0.90, 1, out_norm},
        Control{"AlphaBeta", "qwen3_5_dense", 0.23, 1, alpha_beta},
        Control{"AlphaBeta", "qwen3_5_moe_packed", 0.26, 1, alpha_beta},
        Control{"AlphaBeta", "qwen3_next", 0.22, 1, alpha_beta}, Control{"Experts", "qwen3_moe", 0.13, 1, experts},
        Control{"Experts", "qwen3_5_moe_packed", 0.45, 1, experts}, Control{"Experts", "qwen3_next", 0.36, 1, experts},
        Control{"PlainFc1", "llama", 0.30, 2, plain_fc1}, Control{"PlainFc1", "qwen2", 0.11, 2, plain_fc1},
        Control{"PlainFc1", "qwen3", 0.23, 2, plain_fc1}, Control{"PlainFc1", "qwen3_5_dense", 0.63, 2, plain_fc1},
        Control{"PlainShared", "qwen3_5_moe_packed", 0.42, 2, plain_shared},
        Control{"PlainShared", "qwen3_next", 0.24, 2, plain_shared},
        Control{"PlainInProj", "qwen3_5_dense", 0.86, 2, plain_in_proj},
        Control{"PlainInProj", "qwen3_5_moe_packed", 1.2, 2, plain_in_proj},
        Control{"PlainInProj", "qwen3_next", 1.2, 2, plain_in_proj}),
    [](const auto& one) { return fmt::format("{}_{}", one.param.label, one.param.name); });

/// Damages one parameter of qwen3_5_vl_moe_mtp_packed (or another case) at TP 2 and gives the largest difference of
/// any output, images included.
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
        double& element = ranks[static_cast<std::size_t>(along / share)].tensors.at(name).values
                              [static_cast<std::size_t>(local)];
        if (write) element = whole[static_cast<std::size_t>(j * size + i)];
        else whole[static_cast<std::size_t>(i * size + j)] = element;
      }
    }
  };
  visit(false);
  visit(true);
}

constexpr double kSeen = 1e-3;
constexpr const char* kVision = "qwen3_5_vl_moe_mtp_packed";

TEST(ForwardOracle, SeesATransposedVisionProjection) {
  EXPECT_GT(seen_after(kVision, [](Ranks& ranks) {
              transpose_square(ranks, "vision_model.decoder.layers.0.self_attention.linear_proj.weight", 1);
            }), kSeen);
}

TEST(ForwardOracle, SeesATransposedMerger) {
  EXPECT_GT(seen_after(kVision, [](Ranks& ranks) {
              transpose_square(ranks, "vision_model.merger.linear_fc1.weight", 0);
            }), kSeen);
}

TEST(ForwardOracle, SeesATransposedDeepstackMerger) {
  EXPECT_GT(seen_after("qwen3_vl", [](Ranks& ranks) {
              transpose_square(ranks, "vision_model.decoder.deepstack_merger_list.0.linear_fc1.weight", 0);
            }), kSeen);
}

TEST(ForwardOracle, SeesVisionHeadsLeftConcatenated) {
  EXPECT_GT(seen_after(kVision, [](Ranks& ranks) {
              for_each(ranks, [](const std::string& name, Tensor& tensor) {
                if (!has(name, "vision_model.decoder.layers.1.self_attention.linear_qkv.weight")) return;
                // 2 local heads of size 4: [q0 k0 v0 q1 k1 v1] becomes [q0 q1 k0 k1 v0 v1].
                std::vector<std::int64_t> order;
                for (const std::int64_t block : {0, 3, 1, 4, 2, 5}) append(order, counted(block * 4, 4));
                tensor = reordered(tensor, order);
              });
            }), kSeen);
}

TEST(ForwardOracle, SeesSwappedHalvesOfEhProj) {
  EXPECT_GT(seen_after(kVision, [](Ranks& ranks) {
              for_each(ranks, [](const std::string& name, Tensor& tensor) {
                if (!has(name, "eh_proj.weight")) return;
                const std::int64_t half = tensor.shape[1] / 2;
                for (std::int64_t row = 0; row < tensor.shape[0]; ++row) {
                  const auto begin = tensor.values.begin() + row * 2 * half;
                  std::swap_ranges(begin, begin + half, begin + half);
                }
              });
            }), kSeen);
}

TEST(ForwardOracle, SeesSwappedNormsOfTheMtpBlock) {
  EXPECT_GT(seen_after("qwen3_5_dense_mtp", [](Ranks& ranks) {
              for (RankTensors& rank : ranks) {
                std::swap(rank.tensors.at("mtp.layers.0.enorm.weight"), rank.tensors.at("mtp.layers.0.hnorm.weight"));
              }
            }), kSeen);
}

/// The shards of one parameter change places between the two ranks.
class ForeignRows : public testing::TestWithParam<const char*> {};

TEST_P(ForeignRows, AreSeen) {
  const std::string name = GetParam();
  EXPECT_GT(seen_after("qwen3_5_dense_mtp", [&](Ranks& ranks) {
              std::swap(ranks[0].tensors.at(name), ranks[1].tensors.at(name));
            }), kSeen);
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
                                         "decoder.layers.1.mlp.linear_fc2.weight", "mtp.layers.0.eh_proj.weight"),
                         [](const auto& one) {
                           std::string label = one.param;
                           std::ranges::replace(label, '.', '_');
                           return label;
                         });

/// A replicated parameter that is wrong on the second rank only.
class WrongCopy : public testing::TestWithParam<const char*> {};

TEST_P(WrongCopy, OnOneRankIsSeen) {
  const std::string name = GetParam();
  EXPECT_GT(seen_after(kVision, [&](Ranks& ranks) {
              auto& values = ranks[1].tensors.at(name).values;
              std::ranges::reverse(values);
            }), 1e-6);
}

INSTANTIATE_TEST_SUITE_P(TwoRanks, WrongCopy,
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

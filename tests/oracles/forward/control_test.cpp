// Deliberate errors. Each one that the real Megatron-Core was run with changes our logits by the
// size it changed there, and errors that survive every round trip are seen.
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

/// All queries (with the gates of each head behind it, as in q_proj), then all keys, then all
/// values.
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
    for (std::int64_t g = 0; g < facts.kv_heads; ++g)
      append(order, counted((g + 1) * group.rows - slot * d, d));
  }
  for_each(ranks, [&](const std::string& name, Tensor& tensor) {
    if (has(name, "linear_qkv.weight") || has(name, "linear_qkv.bias"))
      tensor = reordered(tensor, order);
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
      tensor = right.at(name.substr(0, at + kStem.size()) +
                        fmt::format("{}", (expert + 1) % facts.moe.experts));
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
      std::copy_n(full.values.begin() + rank.tp * rows * width, rows * width,
                  tensor.values.begin());
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

void gate_up(const Whole&, Ranks& ranks) {
  swap_gate_and_up(ranks, "");
}
void shared_gate_up(const Whole&, Ranks& ranks) {
  swap_gate_and_up(ranks, "shared_experts");
}
void qkv(const Whole& whole, Ranks& ranks) {
  concatenate_qkv(whole.facts, ranks);
}
void gates(const Whole& whole, Ranks& ranks) {
  alternate_gates(whole.facts, ranks);
}
void out_norm(const Whole&, Ranks& ranks) {
  keep_out_norm(ranks);
}
void alpha_beta(const Whole& whole, Ranks& ranks) {
  swap_alpha_and_beta(whole.facts, ranks);
}
void experts(const Whole& whole, Ranks& ranks) {
  shift_experts(whole.facts, ranks);
}
void plain_fc1(const Whole& whole, Ranks& ranks) {
  cut_plainly(whole, ranks, ".mlp.linear_fc1.weight");
}
void plain_shared(const Whole& whole, Ranks& ranks) {
  cut_plainly(whole, ranks, "shared_experts.linear_fc1.weight");
}
void plain_in_proj(const Whole& whole, Ranks& ranks) {
  cut_plainly(whole, ranks, "in_proj.weight");
}

class ControlCase : public testing::TestWithParam<Control> {};

TEST_P(ControlCase, ChangesTheLogitsAsItDidInMegatronCore) {
  const Control& control = GetParam();
  const Whole whole = golden::unsharded(control.name, stored_layout(control.name));
  const NamedTensors vectors = golden::vectors_of(control.name);
  Ranks ranks = golden::tensor_parallel(whole, control.tp_size);
  control.damage(whole, ranks);
  const auto found = megatron_forward(whole.facts, ranks, golden::text_inputs(vectors));
  ASSERT_TRUE(found) << found.error().message;
  const double difference =
      largest_difference(found->logits, golden::squeezed(vectors.at("logits"), 2));
  EXPECT_GT(difference, control.size / 2);
  EXPECT_LT(difference, control.size * 2);
}

INSTANTIATE_TEST_SUITE_P(
    Golden, ControlCase,
    testing::Values(Control{"GateUp", "llama", 0.045, 1, gate_up},
                    Control{"GateUp", "qwen2", 0.019, 1, gate_up},
                    Control{"GateUp", "qwen3", 0.034, 1, gate_up},
                    Control{"GateUp", "qwen3_moe", 0.025, 1, gate_up},
                    Control{"GateUp", "qwen3_5_dense", 0.11, 1, gate_up},
                    Control{"GateUp", "qwen3_5_moe_packed", 0.12, 1, gate_up},
                    Control{"GateUp", "qwen3_next", 0.062, 1, gate_up},
                    Control{"SharedGateUp", "qwen3_5_moe_packed", 0.059, 1, shared_gate_up},
                    Control{"SharedGateUp", "qwen3_next", 0.040, 1, shared_gate_up},
                    Control{"Qkv", "llama", 1.2, 1, qkv}, Control{"Qkv", "qwen2", 1.0, 1, qkv},
                    Control{"Qkv", "qwen3", 1.0, 1, qkv}, Control{"Qkv", "qwen3_moe", 0.87, 1, qkv},
                    Control{"Qkv", "qwen3_5_dense", 0.80, 1, qkv},
                    Control{"Qkv", "qwen3_5_moe_packed", 0.68, 1, qkv},
                    Control{"Qkv", "qwen3_next", 0.84, 1, qkv},
                    Control{"Gates", "qwen3_5_dense", 0.38, 1, gates},
                    Control{"Gates", "qwen3_5_moe_packed", 0.37, 1, gates},
                    Control{"Gates", "qwen3_next", 0.33, 1, gates},
                    Control{"OutNorm", "qwen3_5_dense", 0.65, 1, out_norm},
                    Control{"OutNorm", "qwen3_5_moe_packed", 0.87, 1, out_norm},
                    Control{"OutNorm", "qwen3_next", 0.90, 1, out_norm},
                    Control{"AlphaBeta", "qwen3_5_dense", 0.23, 1, alpha_beta},
                    Control{"AlphaBeta", "qwen3_5_moe_packed", 0.26, 1, alpha_beta},
                    Control{"AlphaBeta", "qwen3_next", 0.22, 1, alpha_beta},
                    Control{"Experts", "qwen3_moe", 0.13, 1, experts},
                    Control{"Experts", "qwen3_5_moe_packed", 0.45, 1, experts},
                    Control{"Experts", "qwen3_next", 0.36, 1, experts},
                    Control{"PlainFc1", "llama", 0.30, 2, plain_fc1},
                    Control{"PlainFc1", "qwen2", 0.11, 2, plain_fc1},
                    Control{"PlainFc1", "qwen3", 0.23, 2, plain_fc1},
                    Control{"PlainFc1", "qwen3_5_dense", 0.63, 2, plain_fc1},
                    Control{"PlainShared", "qwen3_5_moe_packed", 0.42, 2, plain_shared},
                    Control{"PlainShared", "qwen3_next", 0.24, 2, plain_shared},
                    Control{"PlainInProj", "qwen3_5_dense", 0.86, 2, plain_in_proj},
                    Control{"PlainInProj", "qwen3_5_moe_packed", 1.2, 2, plain_in_proj},
                    Control{"PlainInProj", "qwen3_next", 1.2, 2, plain_in_proj}),
    [](const auto& one) { return fmt::format("{}_{}", one.param.label, one.param.name); });

}  // namespace
}  // namespace bv::oracle::forward

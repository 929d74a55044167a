// The Megatron form of the vision tower: fused qkv by head, column and row linears, the merger cut
// the same way. Source: Megatron-Bridge 0.6.2, models/qwen_vl/modelling_qwen3_vl.
#include <fmt/format.h>

#include <algorithm>

#include "oracles/forward/megatron_layer.hpp"

namespace bv::oracle::forward::megatron {
namespace {

PerRank layer_norms(const Team& team, const std::string& weight, const std::string& bias,
                    const PerRank& x) {
  PerRank out;
  for (std::size_t r = 0; r < team.size(); ++r) {
    const std::int64_t width = x[r].size(-1);
    out.push_back(layer_norm(x[r], team[r].get(weight, {width}), team[r].get(bias, {width})));
  }
  return out;
}

PerRank block(const VisionFacts& vision, const Team& team, const VisionPlan& plan,
              const PerRank& hidden) {
  const std::int64_t d = vision.hidden / vision.heads;
  const std::int64_t heads =
      cut(vision.heads, static_cast<std::int64_t>(team.size()), "vision heads");
  const Team attention = in(team, "self_attention.");
  const PerRank x =
      layer_norms(attention, "linear_qkv.layer_norm_weight", "linear_qkv.layer_norm_bias", hidden);
  PerRank mixed;
  for (const at::Tensor& local :
       column_linear(attention, "linear_qkv", x, 3 * vision.hidden, true)) {
    // Head after head: its query, key, value.
    const at::Tensor qkv = local.view({local.size(0), heads, 3, d});
    mixed.push_back(attend(turned(qkv.select(2, 0), plan.rope), turned(qkv.select(2, 1), plan.rope),
                           qkv.select(2, 2), plan.allowed, 1.0 / std::sqrt(static_cast<double>(d)),
                           std::nullopt));
  }
  const PerRank between =
      plus(hidden, row_linear(attention, "linear_proj", mixed, vision.hidden, true));
  const Team mlp = in(team, "mlp.");
  const PerRank y =
      layer_norms(mlp, "linear_fc1.layer_norm_weight", "linear_fc1.layer_norm_bias", between);
  PerRank inner = column_linear(mlp, "linear_fc1", y, vision.ffn, true);
  for (at::Tensor& local : inner) local = at::gelu(local, "tanh");
  return plus(between, row_linear(mlp, "linear_fc2", inner, vision.hidden, true));
}

PerRank reshaped(const PerRank& x, std::int64_t width) {
  PerRank out;
  for (const at::Tensor& local : x) out.push_back(local.reshape({-1, width}));
  return out;
}

PerRank merger(const VisionFacts& vision, const Team& team, const PerRank& hidden,
               bool norm_joined) {
  const std::int64_t joined = vision.hidden * vision.merge * vision.merge;
  const auto norm = [&](const PerRank& x) {
    return layer_norms(team, "patch_norm.weight", "patch_norm.bias", x);
  };
  const PerRank x = norm_joined ? norm(reshaped(hidden, joined)) : reshaped(norm(hidden), joined);
  PerRank inner = column_linear(team, "linear_fc1", x, joined, true);
  for (at::Tensor& local : inner) local = at::gelu(local);
  return row_linear(team, "linear_fc2", inner, vision.out, true);
}

}  // namespace

VisionOutputs vision(const ModelFacts& facts, const Team& team, const VisionPlan& plan) {
  const VisionFacts& vision = facts.vision;
  PerRank hidden;
  for (const Scope& rank : team) {
    const at::Tensor filter = rank.get(
        "patch_embed.proj.weight",
        {vision.hidden, vision.channels, vision.temporal_patch, vision.patch, vision.patch});
    const at::Tensor patches = at::matmul(plan.patches, filter.reshape({vision.hidden, -1}).t()) +
                               rank.get("patch_embed.proj.bias", {vision.hidden});
    hidden.push_back(patches + grid_positions(plan, rank.get("pos_embed.weight",
                                                             {vision.positions, vision.hidden})));
  }
  VisionOutputs out;
  out.deepstack.resize(vision.deepstack.size());
  for (std::int64_t i = 0; i < vision.depth; ++i) {
    hidden = block(vision, in(team, fmt::format("decoder.layers.{}.", i)), plan, hidden);
    const auto found = std::ranges::find(vision.deepstack, i);
    if (found == vision.deepstack.end()) continue;
    const auto k = found - vision.deepstack.begin();
    const Team list = in(team, fmt::format("decoder.deepstack_merger_list.{}.", k));
    out.deepstack[static_cast<std::size_t>(k)] = merger(vision, list, hidden, true);
  }
  out.merged = merger(vision, in(team, "merger."), hidden, false);
  return out;
}

}  // namespace bv::oracle::forward::megatron

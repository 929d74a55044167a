// The HF form of the vision tower. Source: modeling_qwen3_vl.py and modeling_qwen3_5.py of
// transformers 5.12.1.
#include <fmt/format.h>

#include <algorithm>

#include "oracles/forward/hf_layer.hpp"

namespace bv::oracle::forward::hf {
namespace {

at::Tensor vision_norm(const Scope& scope, const std::string& name, const at::Tensor& x) {
  const std::int64_t width = x.size(-1);
  return layer_norm(x, scope.get(name + ".weight", {width}), scope.get(name + ".bias", {width}));
}

at::Tensor block(const VisionFacts& vision, const Scope& scope, const VisionPlan& plan,
                 const at::Tensor& hidden) {
  const std::int64_t d = vision.hidden / vision.heads;
  const at::Tensor qkv =
      linear(scope, "attn.qkv", vision_norm(scope, "norm1", hidden), 3 * vision.hidden, true)
          .view({hidden.size(0), 3, vision.heads, d});
  const double scale = 1.0 / std::sqrt(static_cast<double>(d));
  const at::Tensor mixed =
      attend(turned(qkv.select(1, 0), plan.rope), turned(qkv.select(1, 1), plan.rope),
             qkv.select(1, 2), plan.allowed, scale, std::nullopt);
  const at::Tensor between = hidden + linear(scope, "attn.proj", mixed, vision.hidden, true);
  const at::Tensor up =
      linear(scope, "mlp.linear_fc1", vision_norm(scope, "norm2", between), vision.ffn, true);
  return between + linear(scope, "mlp.linear_fc2", at::gelu(up, "tanh"), vision.hidden, true);
}

/// Merges merge x merge patches into one token; the norm runs before (merger) or after (deepstack)
/// they join.
at::Tensor merger(const VisionFacts& vision, const Scope& scope, const at::Tensor& hidden,
                  bool norm_joined) {
  const std::int64_t joined = vision.hidden * vision.merge * vision.merge;
  const at::Tensor x = norm_joined ? vision_norm(scope, "norm", hidden.reshape({-1, joined}))
                                   : vision_norm(scope, "norm", hidden).reshape({-1, joined});
  return linear(scope, "linear_fc2", at::gelu(linear(scope, "linear_fc1", x, joined, true)),
                vision.out, true);
}

}  // namespace

VisionOutputs vision(const ModelFacts& facts, const Scope& visual, const VisionPlan& plan) {
  const VisionFacts& vision = facts.vision;
  const at::Tensor filter = visual.get(
      "patch_embed.proj.weight",
      {vision.hidden, vision.channels, vision.temporal_patch, vision.patch, vision.patch});
  at::Tensor hidden = at::matmul(plan.patches, filter.reshape({vision.hidden, -1}).t()) +
                      visual.get("patch_embed.proj.bias", {vision.hidden});
  hidden = hidden +
           grid_positions(plan, visual.get("pos_embed.weight", {vision.positions, vision.hidden}));
  VisionOutputs out;
  out.deepstack.resize(vision.deepstack.size());
  for (std::int64_t i = 0; i < vision.depth; ++i) {
    hidden = block(vision, visual.in(fmt::format("blocks.{}.", i)), plan, hidden);
    const auto found = std::ranges::find(vision.deepstack, i);
    if (found == vision.deepstack.end()) continue;
    const auto k = found - vision.deepstack.begin();
    const Scope list = visual.in(fmt::format("deepstack_merger_list.{}.", k));
    out.deepstack[static_cast<std::size_t>(k)] = merger(vision, list, hidden, true);
  }
  out.merged = merger(vision, visual.in("merger."), hidden, false);
  return out;
}

}  // namespace bv::oracle::forward::hf

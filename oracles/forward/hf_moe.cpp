// The HF form of the experts, where their weights lie as transformers 5.12.1 says.
#include <fmt/format.h>

#include <cmath>

#include "oracles/forward/hf_layer.hpp"

namespace bv::oracle::forward::hf {
namespace {

/// A stack of expert matrices as [E, out, in]; files hold that or [E, in, out], told apart by shape
/// as the library does (it reads a square stack as [E, out, in], unless the caller declares it);
/// gpt-oss always holds [E, in, out].
at::Tensor expert_stack(const Scope& experts, std::string_view name, std::int64_t count,
                        std::int64_t out, std::int64_t in, const MoeFacts& moe) {
  const std::vector<std::int64_t> turned_shape{count, in, out};
  const bool turned = in == out ? moe.square_stacks_in_out : experts.shape_of(name) == turned_shape;
  if (moe.biases || turned) {
    return experts.get(name, turned_shape).transpose(1, 2);
  }
  return experts.get(name, {count, out, in});
}

/// A stack's name, with ".weight" where the file has that.
std::string stack_name(const Scope& experts, std::string_view name) {
  const std::string longer = std::string(name) + ".weight";
  return experts.has(longer) ? longer : std::string(name);
}

/// What experts work on: the hidden state, or a projection of it (Nemotron 3 Super).
std::int64_t expert_width(const ModelFacts& facts) {
  return facts.moe.latent > 0 ? facts.moe.latent : facts.hidden;
}

at::Tensor packed_experts(const Pass& pass, const Scope& experts, std::string_view up_name,
                          const at::Tensor& x, const at::Tensor& weights) {
  const ModelFacts& facts = pass.facts;
  const MoeFacts& moe = facts.moe;
  const std::int64_t width = expert_width(facts);
  const std::int64_t rows = facts.gated ? 2 * moe.expert_ffn : moe.expert_ffn;
  const at::Tensor up_stack =
      expert_stack(experts, stack_name(experts, up_name), moe.experts, rows, width, moe);
  const at::Tensor down_stack = expert_stack(experts, stack_name(experts, moe.names.packed_down),
                                             moe.experts, width, moe.expert_ffn, moe);
  std::optional<at::Tensor> up_bias;
  std::optional<at::Tensor> down_bias;
  if (moe.biases) {
    up_bias = experts.get("gate_up_proj_bias", {moe.experts, rows});
    down_bias = experts.get("down_proj_bias", {moe.experts, width});
  }
  return dispatched(x, weights, before(moe), [&](std::int64_t e, const at::Tensor& of) {
    at::Tensor inner = at::matmul(of, up_stack[e].t());
    if (up_bias) inner = inner + (*up_bias)[e];
    if (facts.gated) {
      const auto [gate, up] = halves(inner, moe.biases);
      inner = gated_activation(facts.activation, gate, up);
    } else {
      inner = activation_of(facts.activation, inner);
    }
    const at::Tensor out = at::matmul(inner, down_stack[e].t());
    return down_bias ? out + (*down_bias)[e] : out;
  });
}

/// gate_proj, up_proj and down_proj of each expert, or w1, w3 and w2.
at::Tensor single_experts(const Pass& pass, const Scope& experts, const at::Tensor& x,
                          const at::Tensor& weights) {
  const ModelFacts& facts = pass.facts;
  const std::int64_t ffn = facts.moe.expert_ffn;
  const bool numbered = experts.has("0.w1.weight");
  return dispatched(x, weights, before(facts.moe), [&](std::int64_t e, const at::Tensor& rows) {
    const Scope expert = experts.in(fmt::format("{}.", e));
    const at::Tensor up = linear(expert, numbered ? "w3" : "up_proj", rows, ffn, false);
    at::Tensor inner;
    if (facts.gated) {
      const at::Tensor gate = linear(expert, numbered ? "w1" : "gate_proj", rows, ffn, false);
      inner = gated_activation(facts.activation, gate, up);
    } else {
      inner = activation_of(facts.activation, up);
    }
    return linear(expert, numbered ? "w2" : "down_proj", inner, expert_width(facts), false);
  });
}

/// The experts: packed below the router's block or below mlp. (as a class of packed experts saves
/// them), else one by one.
at::Tensor all_experts(const Pass& pass, const Scope& layer, const Scope& block,
                       const at::Tensor& x, const at::Tensor& weights) {
  const ModelFacts& facts = pass.facts;
  const std::string_view up = facts.gated ? facts.moe.names.packed_up : facts.names.up;
  for (const Scope& scope : {block, block.in("experts."), layer.in("mlp.experts.")}) {
    if (scope.has(up) || scope.has(std::string(up) + ".weight"))
      return packed_experts(pass, scope, up, x, weights);
  }
  return single_experts(pass, block.in("experts."), x, weights);
}

at::Tensor shared_expert(const Pass& pass, const Scope& layer, const at::Tensor& x) {
  const ModelFacts& facts = pass.facts;
  const Scope shared = layer.in(facts.moe.names.shared);
  if (!shared.has("input_linear.weight"))
    return feed_forward(pass, shared, x, facts.moe.shared_ffn);
  const auto [gate, up] =
      halves(linear(shared, "input_linear", x, 2 * facts.moe.shared_ffn, false), false);
  return linear(shared, "output_linear", gated_activation(facts.activation, gate, up), facts.hidden,
                false);
}

}  // namespace

at::Tensor moe(const Pass& pass, const Scope& layer, const at::Tensor& x) {
  const MoeFacts& facts = pass.facts.moe;
  const HfExpertNames& names = facts.names;
  const bool mixtral = layer.has("block_sparse_moe.gate.weight");
  const Scope block = layer.in(mixtral ? "block_sparse_moe." : names.moe);
  const bool plain = block.has("router.weight");  // Phi-3.5-MoE, packed
  const std::string router(plain ? "router" : names.router);
  const at::Tensor logits =
      facts.pools ? at::matmul(x, block.get(router + ".weight", {x.size(-1), facts.experts}))
                  : linear(block, router, x, facts.experts, facts.biases);
  std::optional<at::Tensor> choice_bias;
  if (facts.router == Router::SigmoidGrouped)
    choice_bias = block.get(names.choice_bias, {facts.experts});
  if (facts.router == Router::SoftmaxBiased)
    choice_bias = block.get(names.choice_bias, {facts.pools ? 2 : 1, facts.experts})[0];
  const at::Tensor weights = routing(facts, logits, choice_bias);
  const std::int64_t latent = facts.latent;
  at::Tensor out = latent > 0 ? linear(block, "fc1_latent_proj", x, latent, false) : x;
  out = all_experts(pass, layer, block, out, weights);
  if (latent > 0) out = linear(block, "fc2_latent_proj", out, pass.facts.hidden, false);
  if (facts.shared_ffn == 0) return out;
  at::Tensor shared = shared_expert(pass, layer, x);
  if (facts.shared_gate)
    shared = shared * at::sigmoid(linear(block, "shared_expert_gate", x, 1, false));
  return out + shared;
}

at::Tensor experts_beside(const Pass& pass, const Scope& layer, const at::Tensor& y,
                          const at::Tensor& residual) {
  const ModelFacts& facts = pass.facts;
  const at::Tensor dense = norm(facts, layer, "post_feedforward_layernorm_1",
                                feed_forward(pass, layer.in(facts.names.mlp), y, facts.ffn));
  const Scope router = layer.in("router.");
  const at::Tensor seen = normed(NormKind::Rms, residual, {}, facts.eps, false) *
                          router.get("scale", {facts.hidden}) /
                          std::sqrt(static_cast<double>(facts.hidden));
  const at::Tensor weights =
      routing(facts.moe, linear(router, "proj", seen, facts.moe.experts, false), {}) *
      router.get("per_expert_scale", {facts.moe.experts});
  const at::Tensor routed =
      packed_experts(pass, layer.in("experts."), facts.moe.names.packed_up,
                     norm(facts, layer, "pre_feedforward_layernorm_2", residual), weights);
  return dense + norm(facts, layer, "post_feedforward_layernorm_2", routed);
}

}  // namespace bv::oracle::forward::hf

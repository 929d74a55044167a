// The HF form of each decoder module, where its weights lie as transformers 5.12.1 says.
#include "oracles/forward/hf_layer.hpp"

#include <fmt/format.h>

#include <array>

namespace bv::oracle::forward::hf {
namespace {

/// gate_up [rows, 2F] -> halves; gpt-oss keeps gate and up in alternating columns.
std::pair<at::Tensor, at::Tensor> halves(const at::Tensor& gate_up, bool alternating) {
  const std::int64_t width = gate_up.size(-1);
  if (alternating) return {gate_up.slice(-1, 0, width, 2), gate_up.slice(-1, 1, width, 2)};
  return {gate_up.slice(-1, 0, width / 2), gate_up.slice(-1, width / 2, width)};
}

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

at::Tensor packed_experts(const Pass& pass, const Scope& experts, const at::Tensor& x,
                          const at::Tensor& weights) {
  const ModelFacts& facts = pass.facts;
  const MoeFacts& moe = facts.moe;
  const at::Tensor up_stack =
      expert_stack(experts, "gate_up_proj", moe.experts, 2 * moe.expert_ffn, facts.hidden, moe);
  const at::Tensor down_stack =
      expert_stack(experts, "down_proj", moe.experts, facts.hidden, moe.expert_ffn, moe);
  std::optional<at::Tensor> up_bias;
  std::optional<at::Tensor> down_bias;
  if (moe.biases) {
    up_bias = experts.get("gate_up_proj_bias", {moe.experts, 2 * moe.expert_ffn});
    down_bias = experts.get("down_proj_bias", {moe.experts, facts.hidden});
  }
  return dispatched(x, weights, [&](std::int64_t e, const at::Tensor& rows) {
    at::Tensor gate_up = at::matmul(rows, up_stack[e].t());
    if (up_bias) gate_up = gate_up + (*up_bias)[e];
    const auto [gate, up] = halves(gate_up, moe.biases);
    at::Tensor out = at::matmul(gated_activation(facts.activation, gate, up), down_stack[e].t());
    if (down_bias) out = out + (*down_bias)[e];
    return out;
  });
}

at::Tensor single_experts(const Pass& pass, const Scope& experts, const at::Tensor& x,
                          const at::Tensor& weights, bool mixtral_names) {
  const ModelFacts& facts = pass.facts;
  const std::int64_t ffn = facts.moe.expert_ffn;
  return dispatched(x, weights, [&](std::int64_t e, const at::Tensor& rows) {
    const Scope expert = experts.in(fmt::format("{}.", e));
    const at::Tensor gate = linear(expert, mixtral_names ? "w1" : "gate_proj", rows, ffn, false);
    const at::Tensor up = linear(expert, mixtral_names ? "w3" : "up_proj", rows, ffn, false);
    return linear(expert, mixtral_names ? "w2" : "down_proj",
                  gated_activation(facts.activation, gate, up), facts.hidden, false);
  });
}

struct DeltaProjections {
  at::Tensor query_key_value;
  at::Tensor z;
  at::Tensor b;
  at::Tensor a;
};

/// Qwen3-Next: rows of one key head lie together: its q, k, then v and z of its value heads.
DeltaProjections grouped_projections(const DeltaNetFacts& delta, const Scope& scope,
                                     const at::Tensor& x) {
  const std::int64_t tokens = x.size(0);
  const std::int64_t shared = delta.value_heads / delta.key_heads;
  const std::int64_t values = shared * delta.value_dim;
  const std::int64_t rows =
      2 * (delta.key_heads * delta.key_dim + delta.value_heads * delta.value_dim);
  const auto qkvz = linear(scope, "in_proj_qkvz", x, rows, false)
                        .view({tokens, delta.key_heads, 2 * delta.key_dim + 2 * values})
                        .split_with_sizes({delta.key_dim, delta.key_dim, values, values}, 2);
  const auto ba = linear(scope, "in_proj_ba", x, 2 * delta.value_heads, false)
                      .view({tokens, delta.key_heads, 2 * shared})
                      .split_with_sizes({shared, shared}, 2);
  const auto flat = [&](const at::Tensor& part) { return part.reshape({tokens, -1}); };
  return {at::cat({flat(qkvz[0]), flat(qkvz[1]), flat(qkvz[2])}, 1), flat(qkvz[3]), flat(ba[0]),
          flat(ba[1])};
}

}  // namespace

at::Tensor linear(const Scope& scope, std::string_view name, const at::Tensor& x, std::int64_t out,
                  bool biased) {
  const std::string stem(name);
  const at::Tensor y = at::matmul(x, scope.get(stem + ".weight", {out, x.size(-1)}).t());
  return biased ? y + scope.get(stem + ".bias", {out}) : y;
}

/// Queries, keys and values, one behind the other in one matrix where the model has one (Phi-3).
std::array<at::Tensor, 3> projections(const Pass& pass, const Scope& self_attn, const at::Tensor& x,
                                      std::int64_t query_rows) {
  const ModelFacts& facts = pass.facts;
  const std::int64_t rows = facts.kv_heads * facts.head_dim;
  if (self_attn.has("qkv_proj.weight")) {
    const auto parts = linear(self_attn, "qkv_proj", x, query_rows + 2 * rows, facts.qkv_bias)
                           .split_with_sizes({query_rows, rows, rows}, 1);
    return {parts[0].contiguous(), parts[1].contiguous(), parts[2].contiguous()};
  }
  return {linear(self_attn, "q_proj", x, query_rows, facts.qkv_bias),
          linear(self_attn, "k_proj", x, rows, facts.qkv_bias),
          linear(self_attn, "v_proj", x, rows, facts.qkv_bias)};
}

at::Tensor attention(const Pass& pass, Mixer mixer, const Scope& self_attn, const at::Tensor& x) {
  const ModelFacts& facts = pass.facts;
  const std::int64_t tokens = x.size(0);
  const std::int64_t d = facts.head_dim;
  const std::int64_t width = facts.output_gate ? 2 * d : d;
  const auto [queries, keys, values] = projections(pass, self_attn, x, facts.heads * width);
  const at::Tensor query_gate = queries.view({tokens, facts.heads, width});
  at::Tensor q = query_gate.slice(2, 0, d);
  at::Tensor k = keys.view({tokens, -1, d});
  const at::Tensor v = values.view({tokens, -1, d});
  if (facts.qk_norm) {
    q = rms_norm(q, self_attn.get("q_norm.weight", {d}), facts.eps, facts.zero_centred);
    k = rms_norm(k, self_attn.get("k_norm.weight", {d}), facts.eps, facts.zero_centred);
  }
  std::optional<at::Tensor> sinks;
  if (facts.sinks) sinks = self_attn.get("sinks", {facts.heads});
  const RopeTable& rope = rope_of(pass, mixer);
  at::Tensor out = attend(turned(q, rope), turned(k, rope), v, mask_of(pass, mixer),
                          facts.attention_scale, sinks, facts.attention_cap);
  if (facts.output_gate)
    out = out * at::sigmoid(query_gate.slice(2, d, 2 * d).reshape({tokens, -1}));
  return linear(self_attn, "o_proj", out, facts.hidden, facts.output_bias);
}

at::Tensor latent_attention(const Pass& pass, const Scope& self_attn, const at::Tensor& x) {
  const ModelFacts& facts = pass.facts;
  const LatentFacts& latent = facts.latent;
  const std::int64_t tokens = x.size(0);
  const std::int64_t width = latent.nope + latent.rope;
  at::Tensor q;
  if (latent.q_lora == 0) {
    q = linear(self_attn, "q_proj", x, facts.heads * width, false);
  } else {
    const at::Tensor down = linear(self_attn, "q_a_proj", x, latent.q_lora, false);
    const at::Tensor norm = self_attn.get("q_a_layernorm.weight", {latent.q_lora});
    q = linear(self_attn, "q_b_proj", rms_norm(down, norm, facts.eps, false), facts.heads * width,
               false);
  }
  q = q.view({tokens, facts.heads, width});
  const at::Tensor compressed =
      linear(self_attn, "kv_a_proj_with_mqa", x, latent.kv_lora + latent.rope, false);
  const at::Tensor norm = self_attn.get("kv_a_layernorm.weight", {latent.kv_lora});
  const at::Tensor unit = rms_norm(compressed.slice(1, 0, latent.kv_lora), norm, facts.eps, false);
  const at::Tensor key_value =
      linear(self_attn, "kv_b_proj", unit, facts.heads * (latent.nope + latent.value), false)
          .view({tokens, facts.heads, latent.nope + latent.value});
  const at::Tensor shared_key = turned(compressed.slice(1, latent.kv_lora).unsqueeze(1), pass.rope);
  const at::Tensor query =
      at::cat({q.slice(2, 0, latent.nope), turned(q.slice(2, latent.nope), pass.rope)}, 2);
  const at::Tensor key =
      at::cat({key_value.slice(2, 0, latent.nope), shared_key.expand({-1, facts.heads, -1})}, 2);
  const at::Tensor out = attend(query, key, key_value.slice(2, latent.nope), pass.allowed,
                                facts.attention_scale, std::nullopt);
  return linear(self_attn, "o_proj", out, facts.hidden, false);
}

at::Tensor delta_mixer(const Pass& pass, const Scope& scope, const at::Tensor& x) {
  const ModelFacts& facts = pass.facts;
  const DeltaNetFacts& delta = facts.delta;
  const std::int64_t channels =
      2 * delta.key_heads * delta.key_dim + delta.value_heads * delta.value_dim;
  const std::int64_t values = delta.value_heads * delta.value_dim;
  DeltaProjections in;
  if (delta.grouped_projection) {
    in = grouped_projections(delta, scope, x);
  } else {
    in = {linear(scope, "in_proj_qkv", x, channels, false),
          linear(scope, "in_proj_z", x, values, false),
          linear(scope, "in_proj_b", x, delta.value_heads, false),
          linear(scope, "in_proj_a", x, delta.value_heads, false)};
  }
  const DeltaHeads heads{delta.key_heads,
                         delta.value_heads,
                         in.query_key_value,
                         in.z,
                         in.b,
                         in.a,
                         scope.get("conv1d.weight", {channels, 1, delta.kernel}),
                         scope.get("A_log", {delta.value_heads}),
                         scope.get("dt_bias", {delta.value_heads}),
                         scope.get("norm.weight", {delta.value_dim}),
                         false};
  return linear(scope, "out_proj", delta_net(delta, heads, facts.eps), facts.hidden, false);
}

at::Tensor gated_mlp(const Pass& pass, const Scope& mlp, const at::Tensor& x, std::int64_t ffn) {
  const bool bias = pass.facts.mlp_bias;
  if (mlp.has("gate_up_proj.weight")) {
    const auto [gate, up] = halves(linear(mlp, "gate_up_proj", x, 2 * ffn, bias), false);
    return linear(mlp, "down_proj", gated_activation(pass.facts.activation, gate, up),
                  pass.facts.hidden, bias);
  }
  const at::Tensor gate = linear(mlp, "gate_proj", x, ffn, bias);
  const at::Tensor up = linear(mlp, "up_proj", x, ffn, bias);
  return linear(mlp, "down_proj", gated_activation(pass.facts.activation, gate, up),
                pass.facts.hidden, bias);
}

at::Tensor moe(const Pass& pass, const Scope& layer, const at::Tensor& x) {
  const MoeFacts& facts = pass.facts.moe;
  const bool mixtral_names = layer.has("block_sparse_moe.gate.weight");
  const Scope mlp = layer.in(mixtral_names ? "block_sparse_moe." : "mlp.");
  const at::Tensor logits =
      linear(mlp, facts.biases ? "router" : "gate", x, facts.experts, facts.biases);
  std::optional<at::Tensor> choice_bias;
  if (facts.router == Router::SigmoidGrouped) {
    choice_bias = mlp.get("gate.e_score_correction_bias", {facts.experts});
  }
  const at::Tensor weights = routing(facts, logits, choice_bias);
  const Scope experts = mlp.in("experts.");
  at::Tensor out = experts.has("gate_up_proj")
                       ? packed_experts(pass, experts, x, weights)
                       : single_experts(pass, experts, x, weights, mixtral_names);
  if (facts.shared_ffn == 0) return out;
  const bool gated = facts.shared_gate;
  at::Tensor shared =
      gated_mlp(pass, mlp.in(gated ? "shared_expert." : "shared_experts."), x, facts.shared_ffn);
  if (gated) shared = shared * at::sigmoid(linear(mlp, "shared_expert_gate", x, 1, false));
  return out + shared;
}

at::Tensor decoder_layer(const Pass& pass, Mixer mixer, bool is_moe, const Scope& layer,
                         const at::Tensor& hidden) {
  const ModelFacts& facts = pass.facts;
  const auto norm = [&](std::string_view name, const at::Tensor& x) {
    return rms_norm(x, layer.get(std::string(name) + ".weight", {facts.hidden}), facts.eps,
                    facts.zero_centred);
  };
  const at::Tensor x = norm("input_layernorm", hidden);
  at::Tensor mixed = mixer == Mixer::GatedDeltaNet ? delta_mixer(pass, layer.in("linear_attn."), x)
                     : mixer == Mixer::LatentAttention
                         ? latent_attention(pass, layer.in("self_attn."), x)
                         : attention(pass, mixer, layer.in("self_attn."), x);
  const bool own_names = facts.own_norm_names;
  if (facts.sandwich_norms)
    mixed = norm(own_names ? "post_self_attn_layernorm" : "post_attention_layernorm", mixed);
  const at::Tensor between = hidden + mixed;
  const bool behind = facts.sandwich_norms && !own_names;
  const at::Tensor y =
      norm(behind ? "pre_feedforward_layernorm" : "post_attention_layernorm", between);
  at::Tensor fed = is_moe ? moe(pass, layer, y) : gated_mlp(pass, layer.in("mlp."), y, facts.ffn);
  if (facts.sandwich_norms)
    fed = norm(own_names ? "post_mlp_layernorm" : "post_feedforward_layernorm", fed);
  return between + fed;
}

}  // namespace bv::oracle::forward::hf

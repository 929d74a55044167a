// The HF form of a decoder layer and its MLP, where their weights lie as transformers 5.12.1 says.
#include "oracles/forward/hf_layer.hpp"

namespace bv::oracle::forward::hf {

std::pair<at::Tensor, at::Tensor> halves(const at::Tensor& gate_up, bool alternating) {
  const std::int64_t width = gate_up.size(-1);
  if (alternating) return {gate_up.slice(-1, 0, width, 2), gate_up.slice(-1, 1, width, 2)};
  return {gate_up.slice(-1, 0, width / 2), gate_up.slice(-1, width / 2, width)};
}

at::Tensor linear(const Scope& scope, std::string_view name, const at::Tensor& x, std::int64_t out,
                  bool biased) {
  const std::string stem(name);
  const at::Tensor y = at::matmul(x, scope.get(stem + ".weight", {out, x.size(-1)}).t());
  return biased ? y + scope.get(stem + ".bias", {out}) : y;
}

at::Tensor norm(const ModelFacts& facts, const Scope& scope, std::string_view name,
                const at::Tensor& x) {
  const std::string stem(name);
  NormWeights stored;
  if (facts.norm != NormKind::LayerBare) stored.weight = scope.get(stem + ".weight", {x.size(-1)});
  if (facts.norm == NormKind::Layer) stored.bias = scope.get(stem + ".bias", {x.size(-1)});
  return normed(facts.norm, x, stored, facts.eps, facts.zero_centred);
}

at::Tensor feed_forward(const Pass& pass, const Scope& mlp, const at::Tensor& x, std::int64_t ffn) {
  const ModelFacts& facts = pass.facts;
  const bool bias = facts.mlp_bias;
  at::Tensor inner;
  if (!facts.gated) {
    inner = activation_of(facts.activation, linear(mlp, facts.names.up, x, ffn, bias));
  } else if (mlp.has("gate_up_proj.weight")) {
    const auto [gate, up] = halves(linear(mlp, "gate_up_proj", x, 2 * ffn, bias), false);
    inner = gated_activation(facts.activation, gate, up);
  } else {
    const at::Tensor gate = linear(mlp, "gate_proj", x, ffn, bias) * facts.gate_scale;
    inner = gated_activation(facts.activation, gate, linear(mlp, facts.names.up, x, ffn, bias));
  }
  return linear(mlp, facts.names.down, inner, facts.hidden, bias) * facts.down_scale;
}

namespace {

at::Tensor mixed_tokens(const Pass& pass, const LayerKind& kind, const Scope& layer,
                        const at::Tensor& x) {
  const ModelFacts& facts = pass.facts;
  const Scope mixing = layer.in(facts.names.attention);
  switch (kind.mixer) {
    case Mixer::GatedDeltaNet:
      return delta_mixer(pass, layer.in("linear_attn."), x);
    case Mixer::LatentAttention:
      return latent_attention(pass, kind, mixing, x);
    case Mixer::Mamba:
      return mamba_mixer(pass, mixing, x);
    case Mixer::MambaAndAttention:
      return mamba_mixer(pass, layer.in("mamba."), x) +
             attention(pass, kind, mixing, x * facts.attention_in_scale) *
                 facts.attention_out_scale;
    case Mixer::FullAttention:
    case Mixer::SlidingAttention:
    case Mixer::ChunkedAttention:
      return attention(pass, kind, mixing, x);
  }
  return {};
}

at::Tensor fed_forward(const Pass& pass, const LayerKind& kind, const Scope& layer,
                       const at::Tensor& x) {
  return kind.is_moe ? moe(pass, layer, x)
                     : feed_forward(pass, layer.in(pass.facts.names.mlp), x, pass.facts.ffn);
}

}  // namespace

at::Tensor decoder_layer(const Pass& pass, const LayerKind& kind, const Scope& layer,
                         const at::Tensor& hidden) {
  const ModelFacts& facts = pass.facts;
  const HfNames& names = facts.names;
  const bool alone_behind = facts.placement == Placement::Behind;
  if (kind.block == Block::Nothing) return hidden;
  if (kind.block == Block::MlpAlone)
    return hidden + fed_forward(pass, kind, layer, norm(facts, layer, names.before_mlp, hidden));
  const at::Tensor x = alone_behind ? hidden : norm(facts, layer, names.before_attention, hidden);
  at::Tensor mixed = mixed_tokens(pass, kind, layer, x);
  if (behind(facts.placement)) mixed = norm(facts, layer, names.behind_attention, mixed);
  const at::Tensor between = hidden + mixed * facts.residual_scale;
  if (kind.block == Block::MixerAlone) return between;
  const at::Tensor& seen = facts.placement == Placement::BesideEach ? hidden : between;
  const at::Tensor y = facts.placement == Placement::Beside ? x
                       : alone_behind                       ? between
                                      : norm(facts, layer, names.before_mlp, seen);
  at::Tensor fed = facts.experts_beside ? experts_beside(pass, layer, y, between)
                                        : fed_forward(pass, kind, layer, y);
  if (behind(facts.placement)) fed = norm(facts, layer, names.behind_mlp, fed);
  return between + fed * facts.residual_scale;
}

at::Tensor with_layer_input(const ModelFacts& facts, const Scope& layer, const at::Tensor& hidden,
                            const at::Tensor& input) {
  at::Tensor out = hidden;
  if (facts.layer_input > 0) {
    const at::Tensor gate = activation_of(
        facts.activation, linear(layer, "per_layer_input_gate", hidden, facts.layer_input, false));
    const at::Tensor added =
        linear(layer, "per_layer_projection", gate * input, facts.hidden, false);
    out = out + norm(facts, layer, "post_per_layer_input_norm", added);
  }
  return facts.layer_scalar ? out * layer.get("layer_scalar", {1}) : out;
}

}  // namespace bv::oracle::forward::hf

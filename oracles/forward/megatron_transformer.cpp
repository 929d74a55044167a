// The Megatron form of a whole layer. Source: Megatron-Core 0.19.2,
// transformer/transformer_layer.py, ssm/mamba_block.py; Falcon-H1: Megatron-Bridge 0.6.2.
#include "oracles/forward/megatron_layer.hpp"

namespace bv::oracle::forward::megatron {
namespace {

/// What stands before the mixer's norm where the norm is fused with its first linear layer.
std::string_view fused_norm(Mixer mixer) {
  switch (mixer) {
    case Mixer::GatedDeltaNet:
      return "self_attention.in_proj.layer_norm_";
    case Mixer::LatentAttention:
      return "input_layernorm.";
    case Mixer::Mamba:
      return "mixer.in_proj.layer_norm_";
    case Mixer::MambaAndAttention:
      return "norm.";
    case Mixer::FullAttention:
    case Mixer::SlidingAttention:
    case Mixer::ChunkedAttention:
      return "self_attention.linear_qkv.layer_norm_";
  }
  return "";
}

PerRank mixed_tokens(const Pass& pass, const LayerKind& kind, const Team& layer, const PerRank& x) {
  const ModelFacts& facts = pass.facts;
  const Team mixing = in(layer, "self_attention.");
  switch (kind.mixer) {
    case Mixer::GatedDeltaNet:
      return delta_mixer(pass, mixing, x);
    case Mixer::LatentAttention:
      return latent_attention(pass, kind, mixing, x);
    case Mixer::Mamba:
      return mamba_mixer(pass, in(layer, "mixer."), x);
    case Mixer::MambaAndAttention:
      return plus(mamba_mixer(pass, in(layer, "mamba_mixer."), x),
                  scaled(attention(pass, kind, mixing, scaled(x, facts.attention_in_scale)),
                         facts.attention_out_scale));
    case Mixer::FullAttention:
    case Mixer::SlidingAttention:
    case Mixer::ChunkedAttention:
      return attention(pass, kind, mixing, x);
  }
  return {};
}

PerRank fed_forward(const Pass& pass, const LayerKind& kind, const Stage& layer, const PerRank& x) {
  return kind.is_moe ? moe(pass, layer.in("mlp."), x)
                     : feed_forward(pass, in(layer.dense, "mlp."), x, pass.facts.ffn);
}

}  // namespace

PerRank transformer_layer(const Pass& pass, const LayerKind& kind, const Stage& layer,
                          const PerRank& hidden) {
  const ModelFacts& facts = pass.facts;
  const bool alone_behind = facts.placement == Placement::Behind;
  const auto norm = [&](std::string_view stem, std::string_view other, const PerRank& x) {
    return norms(norm_of(facts), layer.dense, stem, other, x);
  };
  const auto after = [&](bool fused, std::string_view inside, std::string_view by_itself,
                         const PerRank& x) {
    if (!behind(facts.placement)) return x;
    const std::string_view stem = fused ? inside : by_itself;
    return norm(stem, stem, x);
  };
  const bool hybrid = kind.mixer == Mixer::Mamba;
  const auto before_mixer = [&] {
    return alone_behind
               ? hidden
               : norm(fused_norm(kind.mixer), hybrid ? "norm." : "input_layernorm.", hidden);
  };
  const std::string_view mlp_norm =
      kind.is_moe ? "pre_mlp_layernorm." : "mlp.linear_fc1.layer_norm_";
  if (kind.block == Block::Nothing) return hidden;
  if (kind.block == Block::MlpAlone) {
    return plus(hidden,
                fed_forward(pass, kind, layer, norm(mlp_norm, "pre_mlp_layernorm.", hidden)));
  }
  const PerRank x = before_mixer();
  const PerRank mixed =
      after(!facts.norms_beside_blocks, "self_attention.linear_proj.post_layernorm.",
            "post_self_attn_layernorm.", mixed_tokens(pass, kind, layer.dense, x));
  const PerRank between = plus(hidden, scaled(mixed, facts.residual_scale));
  if (kind.block == Block::MixerAlone) return between;
  if (facts.experts_beside) return plus(between, experts_beside(pass, layer, between));
  const PerRank& seen = facts.placement == Placement::BesideEach ? hidden : between;
  const PerRank y = facts.placement == Placement::Beside ? x
                    : alone_behind                       ? between
                                   : norm(mlp_norm, "pre_mlp_layernorm.", seen);
  const PerRank fed =
      after(!facts.norms_beside_blocks && !kind.is_moe, "mlp.linear_fc2.post_layernorm.",
            "post_mlp_layernorm.", fed_forward(pass, kind, layer, y));
  return plus(between, scaled(fed, facts.residual_scale));
}

PerRank with_layer_input(const ModelFacts& facts, const Team& layer, const PerRank& hidden,
                         const PerRank& input) {
  PerRank out = hidden;
  for (std::size_t r = 0; r < layer.size(); ++r) {
    const Scope& own = layer[r];
    const auto whole = [&](const char* name, const at::Tensor& x, std::int64_t rows) {
      return at::matmul(x, own.get(std::string(name) + ".weight", {rows, x.size(-1)}).t());
    };
    if (facts.layer_input > 0) {
      const at::Tensor gate = activation_of(
          facts.activation, whole("per_layer_input_gate", hidden[r], facts.layer_input));
      const at::Tensor added = whole("per_layer_projection", gate * input[r], facts.hidden);
      out[r] = out[r] + rms_norm(added, own.get("post_per_layer_input_norm.weight", {facts.hidden}),
                                 facts.eps, facts.megatron_zero_centred);
    }
    if (facts.layer_scalar) out[r] = out[r] * own.get("layer_scalar", {1});
  }
  return out;
}

}  // namespace bv::oracle::forward::megatron

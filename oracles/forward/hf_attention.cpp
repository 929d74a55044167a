// The HF form of attention, where its weights lie as transformers 5.12.1 says.
#include <array>

#include "oracles/forward/hf_layer.hpp"

namespace bv::oracle::forward::hf {
namespace {

/// Queries, keys and values [S, heads, d]; queries have their gates behind them.
using Heads = std::array<at::Tensor, 3>;

/// One matrix: queries, keys, values one behind the other (Phi-3), or those of one head after those
/// of another (GPT-NeoX). Otherwise three.
Heads projections(const Pass& pass, const LayerKind& layer, const Scope& self_attn,
                  const at::Tensor& x, std::int64_t width) {
  const ModelFacts& facts = pass.facts;
  const std::int64_t tokens = x.size(0);
  const std::int64_t query_rows = facts.heads * width;
  const std::int64_t rows = facts.kv_heads * facts.head_dim;
  const std::int64_t value_rows = facts.kv_heads * value_dim_of(facts);
  const std::string together(facts.names.together);
  Heads heads;
  if (self_attn.has(together + ".weight")) {
    const at::Tensor all = linear(self_attn, together, x, query_rows + 2 * rows, facts.qkv_bias);
    const auto parts = facts.heads_together ? all.view({tokens, facts.heads, -1}).chunk(3, 2)
                                            : all.split_with_sizes({query_rows, rows, rows}, 1);
    heads = {parts[0], parts[1], parts[2]};
  } else {
    heads[0] = linear(self_attn, "q_proj", x, query_rows, facts.qkv_bias);
    if (layer.shares) return {heads[0].reshape({tokens, facts.heads, width}), {}, {}};
    heads[1] = linear(self_attn, "k_proj", x, rows, facts.qkv_bias);
    heads[2] = layer.keys_are_values ? heads[1]
                                     : linear(self_attn, "v_proj", x, value_rows, facts.qkv_bias);
  }
  return {heads[0].reshape({tokens, facts.heads, width}),
          heads[1].reshape({tokens, -1, facts.head_dim}),
          heads[2].reshape({tokens, -1, value_dim_of(facts)})};
}

/// Normed queries or keys [S, heads, d].
at::Tensor normed_heads(const ModelFacts& facts, const Scope& self_attn, std::string_view name,
                        const at::Tensor& x) {
  const std::int64_t heads = x.size(1);
  const std::int64_t d = x.size(2);
  const Scope norm = self_attn.in(std::string(name) + ".");
  const auto with = [&](const at::Tensor& of, const std::vector<std::int64_t>& shape) {
    NormWeights stored{norm.get("weight", shape), {}};
    if (facts.qk_norm_bias) stored.bias = norm.get("bias", shape);
    return normed(head_norm(facts), of, stored, facts.eps, facts.zero_centred);
  };
  switch (facts.qk_norm) {
    case QkNorm::None:
      return x;
    case QkNorm::Unit:
      return normed(NormKind::Rms, x, {}, facts.eps, false);
    case QkNorm::Head:
      return with(x, {d});
    case QkNorm::EachHead:
      return with(x, {heads, d});
    case QkNorm::Whole:
    case QkNorm::WholeCut:
      return with(x.reshape({x.size(0), -1}), {heads * d}).view({x.size(0), heads, d});
  }
  return x;
}

}  // namespace

at::Tensor attention(const Pass& pass, const LayerKind& layer, const Scope& self_attn,
                     const at::Tensor& x) {
  const ModelFacts& facts = pass.facts;
  const std::int64_t tokens = x.size(0);
  const std::int64_t d = facts.head_dim;
  const std::int64_t width = facts.output_gate ? 2 * d : d;
  const auto [query_gate, keys, values] = projections(pass, layer, self_attn, x, width);
  const auto made = [&](const at::Tensor& raw, std::string_view norm) {
    if (facts.qk_norm == QkNorm::Unit && !layer.turns) return raw;
    if (facts.qk_norm_behind_turn)
      return normed_heads(facts, self_attn, norm, placed(pass, layer, raw));
    const at::Tensor unit = normed_heads(facts, self_attn, norm, raw);
    return placed(pass, layer, clipped(unit, facts.qkv_clip));
  };
  const at::Tensor q = grown(pass, layer, made(query_gate.slice(2, 0, d), facts.names.q_norm));
  if (!layer.shares) {
    pass.left->keys_values[layer.mixer].assign(
        1, std::pair(made(keys, facts.names.k_norm) * facts.key_scale,
                     value_of(facts, clipped(values, facts.qkv_clip))));
  }
  const auto& [k, v] = pass.left->keys_values.at(layer.mixer).front();
  std::optional<at::Tensor> sinks;
  if (facts.sinks) sinks = self_attn.get(facts.names.sinks, {facts.heads});
  at::Tensor seen = mask_of(pass, layer.mixer);
  if (layer.indexes)
    seen = chosen_blocks(facts, block_indexer(facts, self_attn, "index_"), pass.rope, x, seen);
  at::Tensor out = attend(q, k, v, seen, facts.attention_scale, sinks, facts.attention_cap);
  if (facts.output_gate)
    out = out * at::sigmoid(query_gate.slice(2, d, 2 * d).reshape({tokens, -1}));
  return linear(self_attn, facts.names.output, out, facts.hidden, facts.output_bias);
}

namespace {

/// What a query may see: everything before it, or what the last indexer chose.
at::Tensor seen_tokens(const Pass& pass, const LayerKind& layer, const Scope& self_attn,
                       const at::Tensor& x, const at::Tensor& latent_query) {
  const LatentFacts& latent = pass.facts.latent;
  if (latent.index_topk == 0) return pass.allowed;
  if (layer.indexes) {
    const Scope scope = self_attn.in("indexer.");
    const Indexer indexer{
        scope.get("wq_b.weight", {latent.index_heads * latent.index_dim, latent.q_lora}),
        scope.get("wk.weight", {latent.index_dim, pass.facts.hidden}),
        scope.get("k_norm.weight", {latent.index_dim}),
        scope.get("k_norm.bias", {latent.index_dim}),
        scope.get("weights_proj.weight", {latent.index_heads, pass.facts.hidden})};
    pass.left->chosen = {chosen_tokens(latent, indexer, pass.rope, x, latent_query, pass.allowed)};
  }
  return pass.left->chosen.front();
}

}  // namespace

at::Tensor latent_attention(const Pass& pass, const LayerKind& layer, const Scope& self_attn,
                            const at::Tensor& x) {
  const ModelFacts& facts = pass.facts;
  const LatentFacts& latent = facts.latent;
  const std::int64_t tokens = x.size(0);
  const std::int64_t width = latent.nope + latent.rope;
  at::Tensor q;
  at::Tensor latent_query = x;
  if (latent.q_lora == 0) {
    q = linear(self_attn, "q_proj", x, facts.heads * width, false);
  } else {
    const at::Tensor down = linear(self_attn, "q_a_proj", x, latent.q_lora, false);
    const at::Tensor norm = self_attn.get("q_a_layernorm.weight", {latent.q_lora});
    latent_query = rms_norm(down, norm, latent.eps, false);
    q = linear(self_attn, "q_b_proj", latent_query, facts.heads * width, false);
  }
  q = q.view({tokens, facts.heads, width});
  const at::Tensor compressed =
      linear(self_attn, "kv_a_proj_with_mqa", x, latent.kv_lora + latent.rope, false);
  const at::Tensor norm = self_attn.get("kv_a_layernorm.weight", {latent.kv_lora});
  const at::Tensor unit = rms_norm(compressed.slice(1, 0, latent.kv_lora), norm, latent.eps, false);
  const at::Tensor key_value =
      linear(self_attn, "kv_b_proj", unit, facts.heads * (latent.nope + latent.value), false)
          .view({tokens, facts.heads, latent.nope + latent.value});
  const at::Tensor shared_key = turned(compressed.slice(1, latent.kv_lora).unsqueeze(1), pass.rope);
  const at::Tensor query =
      at::cat({q.slice(2, 0, latent.nope), turned(q.slice(2, latent.nope), pass.rope)}, 2);
  const at::Tensor key =
      at::cat({key_value.slice(2, 0, latent.nope), shared_key.expand({-1, facts.heads, -1})}, 2);
  const at::Tensor out = attend(query, key, key_value.slice(2, latent.nope),
                                seen_tokens(pass, layer, self_attn, x, latent_query),
                                facts.attention_scale, std::nullopt);
  return linear(self_attn, "o_proj", out, facts.hidden, false);
}

}  // namespace bv::oracle::forward::hf

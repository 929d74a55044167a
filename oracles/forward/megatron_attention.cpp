// The Megatron form of attention. Source: Megatron-Core 0.19.2, transformer/attention.py,
// transformer/multi_latent_attention.py; norms over all heads: Megatron-Bridge 0.6.2, OLMoE.
#include <fmt/format.h>

#include "oracles/forward/megatron_layer.hpp"

namespace bv::oracle::forward::megatron {
namespace {

/// Query, gate, key and value of the groups that one rank works on, [S, groups, heads a group, d].
struct GroupParts {
  at::Tensor query;
  at::Tensor gate;
  at::Tensor key;
  at::Tensor value;
};

/// linear_qkv's output: group after group; in each its queries, its gates, one key, one value.
GroupParts split_groups(const ModelFacts& facts, const at::Tensor& mixed, std::int64_t groups) {
  const std::int64_t queries = facts.heads / facts.kv_heads;
  const std::int64_t gates = facts.output_gate ? queries : 0;
  const std::int64_t d = facts.head_dim;
  const std::int64_t e = value_dim_of(facts);
  const at::Tensor rows = mixed.reshape({mixed.size(0), groups, -1});
  const auto parts = rows.split_with_sizes({queries * d, gates * d, d, e}, 2);
  const auto heads = [&](const at::Tensor& part, std::int64_t size) {
    return part.reshape({part.size(0), part.size(1) * part.size(2) / size, size});
  };
  return {heads(parts[0], d), heads(parts[1], d), heads(parts[2], d), heads(parts[3], e)};
}

/// What rank r attends with. With fewer groups than ranks the qkv outputs are all-gathered, the
/// rank takes its group and of that group's heads its own share; weight rows are never copied.
GroupParts parts_of_rank(const ModelFacts& facts, const PerRank& mixed, std::size_t r) {
  const auto tp_size = static_cast<std::int64_t>(mixed.size());
  const auto rank = static_cast<std::int64_t>(r);
  if (facts.kv_heads % tp_size == 0) return split_groups(facts, mixed[r], facts.kv_heads / tp_size);
  const std::int64_t ranks_a_group = cut(tp_size, facts.kv_heads, "ranks over the query groups");
  const at::Tensor full = all_gather(mixed);
  const std::int64_t width = full.size(1) / facts.kv_heads;
  const std::int64_t group = rank / ranks_a_group;
  GroupParts parts = split_groups(facts, full.slice(1, group * width, (group + 1) * width), 1);
  const std::int64_t heads = cut(facts.heads, tp_size, "query heads");
  const std::int64_t first = rank % ranks_a_group * heads;
  parts.query = parts.query.slice(1, first, first + heads);
  if (facts.output_gate) parts.gate = parts.gate.slice(1, first, first + heads);
  return parts;
}

/// A norm over all heads together: what all ranks have, gathered; the rank keeps its own heads.
/// `first` is the first of them, `weight` that of the whole or of these heads.
at::Tensor normed_over_all(const ModelFacts& facts, const at::Tensor& all, std::int64_t first,
                           std::int64_t heads, const Scope& rank, const std::string& name) {
  const std::int64_t d = facts.head_dim;
  const std::int64_t tokens = all.size(0);
  const at::Tensor unit = normed(head_norm(facts), all.reshape({tokens, -1}), {}, facts.eps, false)
                              .slice(1, first * d, (first + heads) * d);
  const bool whole = facts.qk_norm == QkNorm::Whole;
  at::Tensor weight = rank.get(name, {whole ? all.size(1) * d : heads * d});
  if (whole) weight = weight.slice(0, first * d, (first + heads) * d);
  return (unit * (facts.megatron_zero_centred ? 1.0 + weight : weight)).view({tokens, heads, d});
}

/// Norms queries and keys of rank r, whose parts they are.
void norm_queries_and_keys(const ModelFacts& facts, const Team& team, const PerRank& mixed,
                           std::size_t r, bool keys, at::Tensor& query, at::Tensor& key) {
  const std::int64_t d = facts.head_dim;
  if (facts.qk_norm == QkNorm::None) return;
  if (facts.qk_norm == QkNorm::Unit) {
    query = normed(NormKind::Rms, query, {}, facts.eps, false);
    key = normed(NormKind::Rms, key, {}, facts.eps, false);
    return;
  }
  if (facts.qk_norm == QkNorm::Head || facts.qk_norm == QkNorm::EachHead) {
    const bool each = facts.qk_norm == QkNorm::EachHead;
    const auto over_heads = [&](const at::Tensor& x, const std::string& name) {
      const std::vector<std::int64_t> shape =
          each ? std::vector<std::int64_t>{x.size(1), d} : std::vector<std::int64_t>{d};
      NormWeights stored{team[r].get(name + "weight", shape), {}};
      if (facts.qk_norm_bias) stored.bias = team[r].get(name + "bias", shape);
      return normed(head_norm(facts), x, stored, facts.eps, facts.megatron_zero_centred);
    };
    query = over_heads(query, "q_layernorm.");
    if (keys) key = over_heads(key, "k_layernorm.");
    return;
  }
  const auto tp_size = static_cast<std::int64_t>(team.size());
  const GroupParts all = split_groups(facts, all_gather(mixed), facts.kv_heads);
  const auto rank = static_cast<std::int64_t>(r);
  query = normed_over_all(facts, all.query, rank * query.size(1), query.size(1), team[r],
                          "q_layernorm.weight");
  key = normed_over_all(facts, all.key, rank * facts.kv_heads / tp_size, key.size(1), team[r],
                        "k_layernorm.weight");
}

/// Megatron-Bridge 0.6.2 keeps the block indexers of MiniMax-M3 beside the layers, by their numbers
/// in the whole model, and attends to everything. Here they choose, as in HF: so their weights
/// count.
at::Tensor mask_of_rank(const Pass& pass, const LayerKind& layer, const Scope& rank,
                        const at::Tensor& x) {
  const at::Tensor& allowed = mask_of(pass, layer.mixer);
  if (!layer.indexes) return allowed;
  const Scope beside = rank.whole().in(fmt::format("lightning_indexers.{}.", layer.number));
  return chosen_blocks(pass.facts, block_indexer(pass.facts, beside, ""), pass.rope, x, allowed);
}

}  // namespace

PerRank attention(const Pass& pass, const LayerKind& layer, const Team& team, const PerRank& x) {
  const ModelFacts& facts = pass.facts;
  const std::int64_t d = facts.head_dim;
  const std::int64_t gates = facts.output_gate ? facts.heads : 0;
  const std::int64_t rows =
      (facts.heads + gates + facts.kv_heads) * d + facts.kv_heads * value_dim_of(facts);
  const PerRank mixed = column_linear(team, "linear_qkv", x, rows, facts.qkv_bias);
  const std::int64_t heads =
      cut(facts.heads, static_cast<std::int64_t>(team.size()), "query heads");
  PerRank out;
  auto& kept = pass.left->keys_values[layer.mixer];
  if (!layer.shares) kept.assign(team.size(), {});
  for (std::size_t r = 0; r < team.size(); ++r) {
    GroupParts parts = parts_of_rank(facts, mixed, r);
    if (layer.keys_are_values) parts.value = parts.key;
    const auto place = [&] {
      parts.query = placed(pass, layer, clipped(parts.query, facts.qkv_clip));
      parts.key = placed(pass, layer, clipped(parts.key, facts.qkv_clip));
    };
    if (facts.qk_norm_behind_turn) place();
    if (facts.qk_norm != QkNorm::Unit || layer.turns)
      norm_queries_and_keys(facts, team, mixed, r, !layer.shares, parts.query, parts.key);
    if (!facts.qk_norm_behind_turn) place();
    std::optional<at::Tensor> sinks;
    if (facts.sinks) sinks = team[r].get("core_attention.softmax_offset", {heads});
    if (!layer.shares) {
      kept[r] = {parts.key * facts.key_scale,
                 value_of(facts, clipped(parts.value, facts.qkv_clip))};
    }
    const auto& [key, value] = kept[r];
    at::Tensor seen = attend(grown(pass, layer, parts.query), key, value,
                             mask_of_rank(pass, layer, team[r], x[r]), facts.attention_scale, sinks,
                             facts.attention_cap);
    if (facts.output_gate) seen = seen * at::sigmoid(parts.gate.reshape({seen.size(0), -1}));
    out.push_back(seen);
  }
  return row_linear(team, "linear_proj", out, facts.hidden, facts.output_bias);
}

namespace {

/// What queries of each rank may see: everything before them, or what the last indexer chose; every
/// rank has the whole indexer. Source: Megatron-Core 0.19.2, experimental_attention_variant/dsa.py.
PerRank seen_tokens(const Pass& pass, const LayerKind& layer, const Team& team, const PerRank& x,
                    const PerRank& latent_query) {
  const LatentFacts& latent = pass.facts.latent;
  if (latent.index_topk == 0) return PerRank(team.size(), pass.allowed);
  if (layer.indexes) pass.left->chosen.clear();
  for (std::size_t r = 0; layer.indexes && r < team.size(); ++r) {
    const Scope scope = team[r].in("core_attention.indexer.");
    const Indexer indexer{
        scope.get("linear_wq_b.weight", {latent.index_heads * latent.index_dim, latent.q_lora}),
        scope.get("linear_wk.weight", {latent.index_dim, pass.facts.hidden}),
        scope.get("k_norm.weight", {latent.index_dim}),
        scope.get("k_norm.bias", {latent.index_dim}),
        scope.get("linear_weights_proj.weight", {latent.index_heads, pass.facts.hidden})};
    pass.left->chosen.push_back(
        chosen_tokens(latent, indexer, pass.rope, x[r], latent_query[r], pass.allowed));
  }
  return pass.left->chosen;
}

}  // namespace

PerRank latent_attention(const Pass& pass, const LayerKind& layer, const Team& team,
                         const PerRank& x) {
  const ModelFacts& facts = pass.facts;
  const LatentFacts& latent = facts.latent;
  const std::int64_t heads =
      cut(facts.heads, static_cast<std::int64_t>(team.size()), "attention heads");
  const std::int64_t width = latent.nope + latent.rope;
  const NormFacts latent_norm{NormKind::Rms, latent.eps, facts.megatron_zero_centred};
  // The down projections are not cut: each rank has the whole matrix.
  const auto whole = [&](std::size_t r, const std::string& name, std::int64_t rows) {
    return at::matmul(x[r], team[r].get(name + ".weight", {rows, facts.hidden}).t());
  };
  PerRank query = x;
  PerRank compressed;
  PerRank shared_key;
  for (std::size_t r = 0; r < team.size(); ++r) {
    if (latent.q_lora > 0) query[r] = whole(r, "linear_q_down_proj", latent.q_lora);
    const at::Tensor down = whole(r, "linear_kv_down_proj", latent.kv_lora + latent.rope);
    compressed.push_back(down.slice(1, 0, latent.kv_lora));
    shared_key.push_back(turned(down.slice(1, latent.kv_lora).unsqueeze(1), pass.rope));
  }
  if (latent.q_lora > 0) {
    query = norms(latent_norm, team, "linear_q_up_proj.layer_norm_", "q_layernorm.", query);
  }
  const PerRank seen = seen_tokens(pass, layer, team, x, query);
  const std::string_view up = latent.q_lora > 0 ? "linear_q_up_proj" : "linear_q_proj";
  query = column_linear(team, up, query, facts.heads * width, false);
  const PerRank unit =
      norms(latent_norm, team, "linear_kv_up_proj.layer_norm_", "kv_layernorm.", compressed);
  const PerRank key_value = column_linear(team, "linear_kv_up_proj", unit,
                                          facts.heads * (latent.nope + latent.value), false);
  PerRank out;
  for (std::size_t r = 0; r < team.size(); ++r) {
    const at::Tensor q = query[r].view({x[r].size(0), heads, width});
    const at::Tensor kv = key_value[r].view({x[r].size(0), heads, latent.nope + latent.value});
    const at::Tensor q_full =
        at::cat({q.slice(2, 0, latent.nope), turned(q.slice(2, latent.nope), pass.rope)}, 2);
    const at::Tensor k_full =
        at::cat({kv.slice(2, 0, latent.nope), shared_key[r].expand({-1, heads, -1})}, 2);
    out.push_back(
        attend(q_full, k_full, kv.slice(2, latent.nope), seen[r], facts.attention_scale, {}));
  }
  return row_linear(team, "linear_proj", out, facts.hidden, false);
}

}  // namespace bv::oracle::forward::megatron

// The Megatron form of the linear layers, norms, attention and the gated delta net.
// Source: Megatron-Core 0.19.2, tensor_parallel/layers.py, transformer/attention.py,
// transformer/multi_latent_attention.py, ssm/gated_delta_net.
#include "oracles/forward/megatron_layer.hpp"

#include <fmt/format.h>

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
  const at::Tensor heads =
      mixed.reshape({mixed.size(0), groups, queries + gates + 2, facts.head_dim});
  const auto parts = heads.split_with_sizes({queries, gates, 1, 1}, 2);
  const auto flat = [&](const at::Tensor& part) {
    return part.reshape({part.size(0), -1, facts.head_dim});
  };
  return {flat(parts[0]), flat(parts[1]), flat(parts[2]), flat(parts[3])};
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

}  // namespace

Team in(const Team& team, std::string_view part) {
  Team out;
  for (const Scope& rank : team) out.push_back(rank.in(part));
  return out;
}

Stage Stage::in(std::string_view part) const {
  Stage out{megatron::in(dense, part), {}};
  for (const Team& team : experts) out.experts.push_back(megatron::in(team, part));
  return out;
}

std::int64_t cut(std::int64_t total, std::int64_t parts, std::string_view what) {
  if (parts > 0 && total % parts == 0) return total / parts;
  throw Refusal{fail(Code::IndivisibleDim, fmt::format("{} cannot be cut evenly", what))
                    .pair(fmt::format("{} over {} ranks", total, parts),
                          fmt::format("a divisor of {}", total))
                    .advise("choose a parallel size that divides it")};
}

at::Tensor all_reduce(const PerRank& parts) {
  at::Tensor sum = parts.front();
  for (std::size_t r = 1; r < parts.size(); ++r) sum = sum + parts[r];
  return sum;
}

at::Tensor all_gather(const PerRank& parts) {
  return at::cat(parts, -1);
}

PerRank plus(const PerRank& one, const PerRank& other) {
  PerRank out;
  for (std::size_t r = 0; r < one.size(); ++r) out.push_back(one[r] + other[r]);
  return out;
}

PerRank column_linear(const Team& team, std::string_view name, const PerRank& x, std::int64_t out,
                      bool biased) {
  const std::string stem(name);
  const std::int64_t rows =
      cut(out, static_cast<std::int64_t>(team.size()), team.front().prefix() + stem);
  PerRank y;
  for (std::size_t r = 0; r < team.size(); ++r) {
    y.push_back(at::matmul(x[r], team[r].get(stem + ".weight", {rows, x[r].size(-1)}).t()));
    if (biased) y[r] = y[r] + team[r].get(stem + ".bias", {rows});
  }
  return y;
}

PerRank row_linear(const Team& team, std::string_view name, const PerRank& x, std::int64_t out,
                   bool biased) {
  const std::string stem(name);
  PerRank partial;
  for (std::size_t r = 0; r < team.size(); ++r) {
    partial.push_back(at::matmul(x[r], team[r].get(stem + ".weight", {out, x[r].size(-1)}).t()));
  }
  const at::Tensor sum = all_reduce(partial);
  PerRank y;
  for (const Scope& rank : team) y.push_back(biased ? sum + rank.get(stem + ".bias", {out}) : sum);
  return y;
}

PerRank norms(const ModelFacts& facts, const Team& team, std::string_view name,
              std::string_view other, const PerRank& x) {
  PerRank out;
  for (std::size_t r = 0; r < team.size(); ++r) {
    const at::Tensor weight = team[r].either(name, other, {x[r].size(-1)});
    out.push_back(rms_norm(x[r], weight, facts.eps, facts.megatron_zero_centred));
  }
  return out;
}

PerRank attention(const Pass& pass, Mixer mixer, const Team& team, const PerRank& x) {
  const ModelFacts& facts = pass.facts;
  const std::int64_t d = facts.head_dim;
  const std::int64_t gates = facts.output_gate ? facts.heads : 0;
  const std::int64_t rows = (facts.heads + gates + 2 * facts.kv_heads) * d;
  const PerRank mixed = column_linear(team, "linear_qkv", x, rows, facts.qkv_bias);
  const std::int64_t heads =
      cut(facts.heads, static_cast<std::int64_t>(team.size()), "query heads");
  const RopeTable& rope = rope_of(pass, mixer);
  PerRank out;
  for (std::size_t r = 0; r < team.size(); ++r) {
    GroupParts parts = parts_of_rank(facts, mixed, r);
    if (facts.qk_norm) {
      const at::Tensor q_norm = team[r].get("q_layernorm.weight", {d});
      const at::Tensor k_norm = team[r].get("k_layernorm.weight", {d});
      parts.query = rms_norm(parts.query, q_norm, facts.eps, facts.megatron_zero_centred);
      parts.key = rms_norm(parts.key, k_norm, facts.eps, facts.megatron_zero_centred);
    }
    std::optional<at::Tensor> sinks;
    if (facts.sinks) sinks = team[r].get("core_attention.softmax_offset", {heads});
    at::Tensor seen =
        attend(turned(parts.query, rope), turned(parts.key, rope), parts.value,
               mask_of(pass, mixer), facts.attention_scale, sinks, facts.attention_cap);
    if (facts.output_gate) seen = seen * at::sigmoid(parts.gate.reshape({seen.size(0), -1}));
    out.push_back(seen);
  }
  return row_linear(team, "linear_proj", out, facts.hidden, facts.output_bias);
}

PerRank latent_attention(const Pass& pass, const Team& team, const PerRank& x) {
  const ModelFacts& facts = pass.facts;
  const LatentFacts& latent = facts.latent;
  const std::int64_t heads =
      cut(facts.heads, static_cast<std::int64_t>(team.size()), "attention heads");
  const std::int64_t width = latent.nope + latent.rope;
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
    query = norms(facts, team, "linear_q_up_proj.layer_norm_weight", "q_layernorm.weight", query);
  }
  const std::string_view up = latent.q_lora > 0 ? "linear_q_up_proj" : "linear_q_proj";
  query = column_linear(team, up, query, facts.heads * width, false);
  const PerRank unit =
      norms(facts, team, "linear_kv_up_proj.layer_norm_weight", "kv_layernorm.weight", compressed);
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
        attend(q_full, k_full, kv.slice(2, latent.nope), pass.allowed, facts.attention_scale, {}));
  }
  return row_linear(team, "linear_proj", out, facts.hidden, false);
}

PerRank delta_mixer(const Pass& pass, const Team& team, const PerRank& x) {
  const ModelFacts& facts = pass.facts;
  const DeltaNetFacts& delta = facts.delta;
  const auto tp_size = static_cast<std::int64_t>(team.size());
  const std::int64_t key_heads = cut(delta.key_heads, tp_size, "linear key heads");
  const std::int64_t value_heads = cut(delta.value_heads, tp_size, "linear value heads");
  const std::int64_t values = value_heads * delta.value_dim;
  const std::int64_t channels = 2 * key_heads * delta.key_dim + values;
  const PerRank projected =
      column_linear(team, "in_proj", x, (channels + values + 2 * value_heads) * tp_size, false);
  PerRank out;
  for (std::size_t r = 0; r < team.size(); ++r) {
    // Rows of in_proj on a rank: its q, k, v, then z, then beta, then alpha.
    const auto parts =
        projected[r].split_with_sizes({channels, values, value_heads, value_heads}, 1);
    const DeltaHeads heads{key_heads,
                           value_heads,
                           parts[0],
                           parts[1],
                           parts[2],
                           parts[3],
                           team[r].get("conv1d.weight", {channels, 1, delta.kernel}),
                           team[r].get("A_log", {value_heads}),
                           team[r].get("dt_bias", {value_heads}),
                           team[r].get("out_norm.weight", {delta.value_dim}),
                           facts.megatron_zero_centred};
    out.push_back(delta_net(delta, heads, facts.eps));
  }
  return row_linear(team, "out_proj", out, facts.hidden, false);
}

PerRank transformer_layer(const Pass& pass, Mixer mixer, bool is_moe, const Stage& layer,
                          const PerRank& hidden) {
  const ModelFacts& facts = pass.facts;
  const auto after = [&](std::string_view name, const PerRank& x) {
    return facts.sandwich_norms ? norms(facts, layer.dense, name, name, x) : x;
  };
  const bool delta = mixer == Mixer::GatedDeltaNet;
  const std::string_view fused = delta ? "self_attention.in_proj.layer_norm_weight"
                                       : "self_attention.linear_qkv.layer_norm_weight";
  const PerRank x =
      mixer == Mixer::LatentAttention
          ? norms(facts, layer.dense, "input_layernorm.weight", "input_layernorm.weight", hidden)
          : norms(facts, layer.dense, fused, "input_layernorm.weight", hidden);
  const Team mixing = in(layer.dense, "self_attention.");
  const PerRank mixed = delta                             ? delta_mixer(pass, mixing, x)
                        : mixer == Mixer::LatentAttention ? latent_attention(pass, mixing, x)
                                                          : attention(pass, mixer, mixing, x);
  const PerRank between =
      plus(hidden, after(facts.own_norm_names ? "post_self_attn_layernorm.weight"
                                              : "self_attention.linear_proj.post_layernorm.weight",
                         mixed));
  const std::string_view before =
      is_moe ? "pre_mlp_layernorm.weight" : "mlp.linear_fc1.layer_norm_weight";
  const PerRank y = norms(facts, layer.dense, before, "pre_mlp_layernorm.weight", between);
  const PerRank fed = is_moe ? moe(pass, layer.in("mlp."), y)
                             : gated_mlp(pass, in(layer.dense, "mlp."), y, facts.ffn);
  return plus(between, after(facts.own_norm_names ? "post_mlp_layernorm.weight"
                                                  : "mlp.linear_fc2.post_layernorm.weight",
                             fed));
}

}  // namespace bv::oracle::forward::megatron

// The Megatron form of the feed-forward blocks: gated MLP, router, experts over EP and ETP, shared
// expert. Source: Megatron-Core 0.19.2, transformer/mlp.py, transformer/moe.
#include <fmt/format.h>

#include <cmath>

#include "oracles/forward/megatron_layer.hpp"

namespace bv::oracle::forward::megatron {
namespace {

/// A rank's fc1 output: with a gate its half first, the up half behind.
at::Tensor activated(const ModelFacts& facts, const at::Tensor& fc1) {
  if (!facts.gated) return activation_of(facts.activation, fc1);
  const std::int64_t half = fc1.size(-1) / 2;
  return gated_activation(facts.activation, fc1.slice(-1, 0, half), fc1.slice(-1, half));
}

/// What experts work on: the hidden state, or a projection of it (Nemotron 3 Super).
std::int64_t expert_width(const ModelFacts& facts) {
  return facts.moe.latent > 0 ? facts.moe.latent : facts.hidden;
}

/// Row s of what rank s mod tp_size holds: with sequence parallelism each rank routes and sends its
/// own tokens.
at::Tensor owned_rows(const PerRank& parts) {
  const auto ranks = static_cast<std::int64_t>(parts.size());
  if (ranks == 1) return parts.front();
  at::Tensor out = parts.front().clone();
  for (std::int64_t r = 1; r < ranks && r < out.size(0); ++r) {
    const at::Tensor rows = at::arange(r, out.size(0), ranks, at::kLong);
    out.index_copy_(0, rows, parts[static_cast<std::size_t>(r)].index_select(0, rows));
  }
  return out;
}

/// Grouped: linear_fc1.weight3; sequential: local_experts.3.linear_fc1.weight.
at::Tensor expert_tensor(const Scope& experts, const std::string& linear, const std::string& part,
                         std::int64_t local, const std::vector<std::int64_t>& shape) {
  return experts.either(fmt::format("{}.{}{}", linear, part, local),
                        fmt::format("local_experts.{}.{}.{}", local, linear, part), shape);
}

/// One expert over its expert-tensor-parallel ranks; partial outputs are summed.
at::Tensor expert_output(const ModelFacts& facts, const Team& ranks, std::int64_t local,
                         const at::Tensor& rows) {
  const auto etp_size = static_cast<std::int64_t>(ranks.size());
  const std::int64_t ffn =
      cut(facts.moe.expert_ffn, etp_size, "expert FFN over expert-tensor ranks");
  const std::int64_t rows_of_fc1 = facts.gated ? 2 * ffn : ffn;
  const std::int64_t width = expert_width(facts);
  PerRank partial;
  for (const Scope& rank : ranks) {
    const Scope experts = rank.in("experts.");
    at::Tensor fc1 = at::matmul(
        rows, expert_tensor(experts, "linear_fc1", "weight", local, {rows_of_fc1, width}).t());
    if (facts.moe.biases)
      fc1 = fc1 + expert_tensor(experts, "linear_fc1", "bias", local, {rows_of_fc1});
    const at::Tensor x = activated(facts, fc1);
    at::Tensor out =
        at::matmul(x, expert_tensor(experts, "linear_fc2", "weight", local, {width, ffn}).t());
    // The bias counts once; equal shares of every copy let each copy count.
    if (facts.moe.biases) {
      out = out + expert_tensor(experts, "linear_fc2", "bias", local, {width}) /
                      static_cast<double>(etp_size);
    }
    partial.push_back(out);
  }
  return all_reduce(partial);
}

/// Each rank's own copy of a projection into what experts work on, or out of it.
PerRank latent_projection(const Team& mlp, const std::string& name, const PerRank& x,
                          std::int64_t out) {
  PerRank y;
  for (std::size_t r = 0; r < mlp.size(); ++r)
    y.push_back(at::matmul(x[r], mlp[r].get(name + ".weight", {out, x[r].size(-1)}).t()));
  return y;
}

PerRank shared_expert(const Pass& pass, const Team& shared, const PerRank& x) {
  PerRank out = feed_forward(pass, shared, x, pass.facts.moe.shared_ffn);
  if (!pass.facts.moe.shared_gate) return out;
  for (std::size_t r = 0; r < shared.size(); ++r) {
    out[r] = out[r] * at::sigmoid(at::matmul(
                          x[r], shared[r].get("gate_weight", {1, pass.facts.hidden}).t()));
  }
  return out;
}

/// The experts' outputs, weighed and summed.
at::Tensor routed_rows(const ModelFacts& facts, const Stage& mlp, const PerRank& seen,
                       const PerRank& chosen) {
  const std::int64_t local =
      cut(facts.moe.experts, static_cast<std::int64_t>(mlp.experts.size()), "experts");
  return dispatched(owned_rows(seen), owned_rows(chosen), before(facts.moe),
                    [&](std::int64_t e, const at::Tensor& rows) {
                      return expert_output(facts, mlp.experts[static_cast<std::size_t>(e / local)],
                                           e % local, rows);
                    });
}

}  // namespace

PerRank feed_forward(const Pass& pass, const Team& mlp, const PerRank& x, std::int64_t ffn) {
  const ModelFacts& facts = pass.facts;
  PerRank inner;
  for (const at::Tensor& fc1 :
       column_linear(mlp, "linear_fc1", x, facts.gated ? 2 * ffn : ffn, facts.mlp_bias)) {
    if (facts.gate_scale == 1.0) {
      inner.push_back(activated(facts, fc1));
      continue;
    }
    const std::int64_t half = fc1.size(-1) / 2;
    inner.push_back(gated_activation(facts.activation, fc1.slice(-1, 0, half) * facts.gate_scale,
                                     fc1.slice(-1, half)));
  }
  return scaled(row_linear(mlp, "linear_fc2", inner, facts.hidden, facts.mlp_bias),
                facts.down_scale);
}

PerRank moe(const Pass& pass, const Stage& block, const PerRank& x) {
  const Stage mlp = pass.facts.moe.pools ? block.in("text_moe_layer.") : block;
  const ModelFacts& facts = pass.facts;
  const std::int64_t experts = facts.moe.experts;
  PerRank chosen;
  for (std::size_t r = 0; r < mlp.dense.size(); ++r) {
    const Scope router = mlp.dense[r].in("router.");
    at::Tensor logits = at::matmul(x[r], router.get("weight", {experts, facts.hidden}).t());
    if (facts.moe.biases) logits = logits + router.get("bias", {experts});
    std::optional<at::Tensor> choice_bias;
    if (facts.moe.router == Router::SigmoidGrouped || facts.moe.router == Router::SoftmaxBiased)
      choice_bias = router.get("expert_bias", {experts});
    chosen.push_back(routing(facts.moe, logits, choice_bias));
  }
  const std::int64_t latent = facts.moe.latent;
  const PerRank seen = latent > 0 ? latent_projection(mlp.dense, "fc1_latent_proj", x, latent) : x;
  const at::Tensor routed = routed_rows(facts, mlp, seen, chosen);
  PerRank out(mlp.dense.size(), routed);
  if (latent > 0) out = latent_projection(mlp.dense, "fc2_latent_proj", out, facts.hidden);
  if (facts.moe.shared_ffn == 0) return out;
  return plus(out, shared_expert(pass, in(block.dense, "shared_experts."), x));
}

PerRank experts_beside(const Pass& pass, const Stage& layer, const PerRank& residual) {
  const ModelFacts& facts = pass.facts;
  const Stage mlp = layer.in("mlp.");
  const auto norm = [&](std::string_view name, const PerRank& x) {
    return norms(norm_of(facts), layer.dense, name, name, x);
  };
  const PerRank dense =
      norm("mlp.post_shared_expert_layernorm.",
           feed_forward(pass, in(mlp.dense, "shared_experts."),
                        norm("pre_shared_expert_layernorm.", residual), facts.ffn));
  PerRank chosen;
  for (std::size_t r = 0; r < mlp.dense.size(); ++r) {
    const Scope router = mlp.dense[r].in("router.");
    const at::Tensor seen = normed(NormKind::Rms, residual[r], {}, facts.eps, false) *
                            router.get("scale", {facts.hidden}) /
                            std::sqrt(static_cast<double>(facts.hidden));
    const at::Tensor logits =
        at::matmul(seen, router.get("weight", {facts.moe.experts, facts.hidden}).t());
    chosen.push_back(routing(facts.moe, logits, {}) *
                     router.get("per_expert_scale", {facts.moe.experts}));
  }
  const at::Tensor routed = routed_rows(facts, mlp, norm("pre_mlp_layernorm.", residual), chosen);
  return norm("post_ffn_layernorm.",
              plus(dense, norm("mlp.post_moe_layernorm.", PerRank(dense.size(), routed))));
}

}  // namespace bv::oracle::forward::megatron

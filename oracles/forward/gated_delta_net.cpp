// The gated delta rule as the recurrence of its definition: one token after the other, one state a
// value head. Source: torch_recurrent_gated_delta_rule of transformers 5.12.1; Megatron-Core
// computes the same in chunks.
#include "oracles/forward/modules.hpp"

namespace bv::oracle::forward {

at::Tensor causal_convolution(const at::Tensor& x, const at::Tensor& taps,
                              const std::optional<at::Tensor>& bias) {
  const std::int64_t kernel = taps.size(2);
  const at::Tensor padded = at::cat({at::zeros({kernel - 1, x.size(1)}, at::kDouble), x}, 0);
  at::Tensor sum = bias ? bias->expand_as(x) : at::zeros_like(x);
  for (std::int64_t tap = 0; tap < kernel; ++tap) {
    sum = sum + padded.slice(0, tap, tap + x.size(0)) * taps.select(2, tap).squeeze(1);
  }
  return at::silu(sum);
}

namespace {

at::Tensor unit_length(const at::Tensor& x) {
  return x * at::rsqrt(x.pow(2).sum(-1, true) + 1e-6);
}

/// q, k [S, nv, dk]; v [S, nv, dv]; decay, beta [S, nv] -> [S, nv, dv]
at::Tensor delta_rule(const at::Tensor& q, const at::Tensor& k, const at::Tensor& v,
                      const at::Tensor& decay, const at::Tensor& beta) {
  at::Tensor state = at::zeros({q.size(1), q.size(2), v.size(2)}, at::kDouble);
  std::vector<at::Tensor> out;
  for (std::int64_t s = 0; s < q.size(0); ++s) {
    state = state * decay[s].exp().view({-1, 1, 1});
    const at::Tensor remembered = (state * k[s].unsqueeze(-1)).sum(-2);
    const at::Tensor change = (v[s] - remembered) * beta[s].unsqueeze(-1);
    state = state + k[s].unsqueeze(-1) * change.unsqueeze(-2);
    out.push_back((state * q[s].unsqueeze(-1)).sum(-2));
  }
  return at::stack(out, 0);
}

}  // namespace

at::Tensor delta_net(const DeltaNetFacts& facts, const DeltaHeads& heads, double eps) {
  const std::int64_t tokens = heads.z.size(0);
  const std::int64_t keys = heads.key_heads * facts.key_dim;
  const std::int64_t shared = heads.value_heads / heads.key_heads;
  const at::Tensor mixed = causal_convolution(heads.query_key_value, heads.conv);
  const auto per_head = [&](std::int64_t from, std::int64_t to, std::int64_t dim) {
    return mixed.slice(1, from, to).reshape({tokens, -1, dim});
  };
  const at::Tensor q = unit_length(per_head(0, keys, facts.key_dim)).repeat_interleave(shared, 1);
  const at::Tensor k =
      unit_length(per_head(keys, 2 * keys, facts.key_dim)).repeat_interleave(shared, 1);
  const at::Tensor v = per_head(2 * keys, mixed.size(1), facts.value_dim);
  const double scale = 1.0 / std::sqrt(static_cast<double>(facts.key_dim));
  const at::Tensor decay = -heads.a_log.exp() * at::softplus(heads.a + heads.dt_bias);
  const at::Tensor core = delta_rule(q * scale, k, v, decay, at::sigmoid(heads.b));
  const at::Tensor gate = at::silu(heads.z.reshape({tokens, -1, facts.value_dim}));
  return (rms_norm(core, heads.norm, eps, heads.norm_zero_centred) * gate).reshape({tokens, -1});
}

}  // namespace bv::oracle::forward

// The selective state space of Mamba 2 as the recurrence of its definition: one token after the
// other, one state a head. Source: torch_forward of NemotronHMamba2Mixer and FalconH1Mixer of
// transformers 5.12.1; Megatron-Core computes the same in chunks.
#include "oracles/forward/modules.hpp"

namespace bv::oracle::forward {
namespace {

/// x [S, h, p]; b, c [S, h, n]; step [S, h]; decay [h] -> [S, h, p]
at::Tensor scanned(const at::Tensor& x, const at::Tensor& b, const at::Tensor& c,
                   const at::Tensor& step, const at::Tensor& decay) {
  at::Tensor state = at::zeros({x.size(1), x.size(2), b.size(2)}, at::kDouble);
  std::vector<at::Tensor> out;
  for (std::int64_t s = 0; s < x.size(0); ++s) {
    const at::Tensor kept = (decay * step[s]).exp().view({-1, 1, 1});
    const at::Tensor given = (x[s] * step[s].unsqueeze(-1)).unsqueeze(-1) * b[s].unsqueeze(-2);
    state = state * kept + given;
    out.push_back((state * c[s].unsqueeze(-2)).sum(-1));
  }
  return at::stack(out, 0);
}

/// Each group of channels is normed by itself.
at::Tensor group_norm(const at::Tensor& x, const at::Tensor& weight, std::int64_t groups,
                      double eps) {
  const at::Tensor parts = x.reshape({x.size(0), groups, -1});
  return rms_norm(parts, weight.view({groups, -1}), eps, false).reshape_as(x);
}

}  // namespace

at::Tensor mamba(const MambaFacts& facts, const MambaHeads& heads, double eps) {
  const std::int64_t tokens = heads.projected.size(0);
  const std::int64_t inner = heads.heads * facts.head_dim;
  const std::int64_t shared = heads.groups * facts.state;
  auto parts = heads.projected.split_with_sizes({inner, inner, shared, shared, heads.heads}, 1);
  for (std::size_t i = 0; i < parts.size(); ++i) parts[i] = parts[i] * facts.part_scales[i];
  const at::Tensor mixed =
      causal_convolution(at::cat({parts[1], parts[2], parts[3]}, 1), heads.conv, heads.conv_bias);
  const at::Tensor x = mixed.slice(1, 0, inner).reshape({tokens, heads.heads, facts.head_dim});
  const auto of_heads = [&](std::int64_t from) {
    return mixed.slice(1, from, from + shared)
        .reshape({tokens, heads.groups, facts.state})
        .repeat_interleave(heads.heads / heads.groups, 1);
  };
  const at::Tensor step =
      at::softplus(parts[4] + heads.dt_bias).clamp(facts.step_least, facts.step_most);
  const at::Tensor y =
      scanned(x, of_heads(inner), of_heads(inner + shared), step, -heads.a_log.exp()) +
      x * heads.d.unsqueeze(-1);
  const at::Tensor flat = y.reshape({tokens, inner});
  const at::Tensor gate = at::silu(parts[0]);
  if (!heads.norm) return flat * gate;
  if (facts.norm_before_gate) return group_norm(flat, *heads.norm, heads.groups, eps) * gate;
  return group_norm(flat * gate, *heads.norm, heads.groups, eps);
}

}  // namespace bv::oracle::forward

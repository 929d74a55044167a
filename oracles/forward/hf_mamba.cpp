// The HF form of a Mamba 2 mixer, where its weights lie as transformers 5.12.1 says.
#include "oracles/forward/hf_layer.hpp"

namespace bv::oracle::forward::hf {

at::Tensor mamba_mixer(const Pass& pass, const Scope& scope, const at::Tensor& x) {
  const ModelFacts& facts = pass.facts;
  const MambaFacts& mamba_facts = facts.mamba;
  const std::int64_t inner = mamba_facts.inner();
  const std::int64_t channels = inner + 2 * mamba_facts.groups * mamba_facts.state;
  MambaHeads heads{mamba_facts.heads,
                   mamba_facts.groups,
                   linear(scope, "in_proj", x * mamba_facts.in_scale,
                          inner + channels + mamba_facts.heads, false),
                   scope.get("conv1d.weight", {channels, 1, mamba_facts.kernel}),
                   scope.get("conv1d.bias", {channels}),
                   scope.get("A_log", {mamba_facts.heads}),
                   scope.get("D", {mamba_facts.heads}),
                   scope.get("dt_bias", {mamba_facts.heads}),
                   {}};
  if (mamba_facts.norm) heads.norm = scope.get("norm.weight", {inner});
  const at::Tensor out = mamba(mamba_facts, heads, facts.eps);
  return linear(scope, "out_proj", out, facts.hidden, false) * mamba_facts.out_scale;
}

}  // namespace bv::oracle::forward::hf

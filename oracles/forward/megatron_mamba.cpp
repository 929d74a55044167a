// The Megatron form of a Mamba 2 mixer: every rank has whole groups with their heads. Source:
// Megatron-Core 0.19.2, ssm/mamba_mixer.py.
#include "oracles/forward/megatron_layer.hpp"

namespace bv::oracle::forward::megatron {

PerRank mamba_mixer(const Pass& pass, const Team& team, const PerRank& x) {
  const ModelFacts& facts = pass.facts;
  const MambaFacts& whole = facts.mamba;
  const auto tp_size = static_cast<std::int64_t>(team.size());
  const std::int64_t heads = cut(whole.heads, tp_size, "Mamba heads");
  const std::int64_t groups = cut(whole.groups, tp_size, "Mamba groups");
  const std::int64_t inner = heads * whole.head_dim;
  const std::int64_t channels = inner + 2 * groups * whole.state;
  const PerRank projected = column_linear(team, "in_proj", scaled(x, whole.in_scale),
                                          (inner + channels + heads) * tp_size, false);
  PerRank out;
  for (std::size_t r = 0; r < team.size(); ++r) {
    // Rows of in_proj on a rank: its z, x, B, C, then dt.
    MambaHeads own{heads,
                   groups,
                   projected[r],
                   team[r].get("conv1d_weight", {channels, 1, whole.kernel}),
                   team[r].get("conv1d_bias", {channels}),
                   team[r].get("A_log", {heads}),
                   team[r].get("D", {heads}),
                   team[r].get("dt_bias", {heads}),
                   {}};
    if (whole.norm) own.norm = team[r].get("norm.weight", {inner});
    out.push_back(mamba(whole, own, facts.eps));
  }
  return scaled(row_linear(team, "out_proj", out, facts.hidden, false), whole.out_scale);
}

}  // namespace bv::oracle::forward::megatron

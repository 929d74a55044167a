// The Megatron form of the linear layers, norms, the gated delta net.
// Source: Megatron-Core 0.19.2, tensor_parallel/layers.py, ssm/gated_delta_net.
#include "oracles/forward/megatron_layer.hpp"

#include <fmt/format.h>

namespace bv::oracle::forward::megatron {
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

PerRank scaled(const PerRank& x, double factor) {
  PerRank out;
  for (const at::Tensor& part : x) out.push_back(part * factor);
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

PerRank norms(const NormFacts& norm, const Team& team, std::string_view stem,
              std::string_view other, const PerRank& x) {
  PerRank out;
  for (std::size_t r = 0; r < team.size(); ++r) {
    const auto stored = [&](const char* what) {
      return team[r].either(std::string(stem) + what, std::string(other) + what, {x[r].size(-1)});
    };
    NormWeights weights;
    if (norm.kind != NormKind::LayerBare) weights.weight = stored("weight");
    if (norm.kind == NormKind::Layer) weights.bias = stored("bias");
    out.push_back(normed(norm.kind, x[r], weights, norm.eps, norm.zero_centred));
  }
  return out;
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

}  // namespace bv::oracle::forward::megatron

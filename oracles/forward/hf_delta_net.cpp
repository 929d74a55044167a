// The HF form of a gated delta net, where its weights lie as transformers 5.12.1 says.
#include "oracles/forward/hf_layer.hpp"

namespace bv::oracle::forward::hf {
namespace {

struct DeltaProjections {
  at::Tensor query_key_value;
  at::Tensor z;
  at::Tensor b;
  at::Tensor a;
};

/// Qwen3-Next: rows of one key head lie together: its q, k, then v and z of its value heads.
DeltaProjections grouped_projections(const DeltaNetFacts& delta, const Scope& scope,
                                     const at::Tensor& x) {
  const std::int64_t tokens = x.size(0);
  const std::int64_t shared = delta.value_heads / delta.key_heads;
  const std::int64_t values = shared * delta.value_dim;
  const std::int64_t rows =
      2 * (delta.key_heads * delta.key_dim + delta.value_heads * delta.value_dim);
  const auto qkvz = linear(scope, "in_proj_qkvz", x, rows, false)
                        .view({tokens, delta.key_heads, 2 * delta.key_dim + 2 * values})
                        .split_with_sizes({delta.key_dim, delta.key_dim, values, values}, 2);
  const auto ba = linear(scope, "in_proj_ba", x, 2 * delta.value_heads, false)
                      .view({tokens, delta.key_heads, 2 * shared})
                      .split_with_sizes({shared, shared}, 2);
  const auto flat = [&](const at::Tensor& part) { return part.reshape({tokens, -1}); };
  return {at::cat({flat(qkvz[0]), flat(qkvz[1]), flat(qkvz[2])}, 1), flat(qkvz[3]), flat(ba[0]),
          flat(ba[1])};
}

}  // namespace

at::Tensor delta_mixer(const Pass& pass, const Scope& scope, const at::Tensor& x) {
  const ModelFacts& facts = pass.facts;
  const DeltaNetFacts& delta = facts.delta;
  const std::int64_t channels =
      2 * delta.key_heads * delta.key_dim + delta.value_heads * delta.value_dim;
  const std::int64_t values = delta.value_heads * delta.value_dim;
  DeltaProjections in;
  if (delta.grouped_projection) {
    in = grouped_projections(delta, scope, x);
  } else {
    in = {linear(scope, "in_proj_qkv", x, channels, false),
          linear(scope, "in_proj_z", x, values, false),
          linear(scope, "in_proj_b", x, delta.value_heads, false),
          linear(scope, "in_proj_a", x, delta.value_heads, false)};
  }
  const DeltaHeads heads{delta.key_heads,
                         delta.value_heads,
                         in.query_key_value,
                         in.z,
                         in.b,
                         in.a,
                         scope.get("conv1d.weight", {channels, 1, delta.kernel}),
                         scope.get("A_log", {delta.value_heads}),
                         scope.get("dt_bias", {delta.value_heads}),
                         scope.get("norm.weight", {delta.value_dim}),
                         false};
  return linear(scope, "out_proj", delta_net(delta, heads, facts.eps), facts.hidden, false);
}

}  // namespace bv::oracle::forward::hf

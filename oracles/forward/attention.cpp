// Softmax attention over heads; where its weights lie is said in hf_layer.cpp and
// megatron_layer.cpp.
#include <algorithm>
#include <cmath>
#include <limits>

#include "oracles/forward/modules.hpp"

namespace bv::oracle::forward {

at::Tensor causal_mask(std::int64_t tokens, std::int64_t window) {
  const at::Tensor at_token = at::arange(tokens, at::kLong);
  const at::Tensor back = at_token.unsqueeze(1) - at_token.unsqueeze(0);
  const at::Tensor seen = back >= 0;
  return window == 0 ? seen : seen.logical_and(back < window);
}

at::Tensor chunked_mask(std::int64_t tokens, std::int64_t chunk) {
  if (chunk == 0) return causal_mask(tokens, 0);
  const at::Tensor own = at::arange(tokens, at::kLong).div(chunk, "floor");
  return causal_mask(tokens, 0).logical_and(own.unsqueeze(1) == own.unsqueeze(0));
}

at::Tensor clipped(const at::Tensor& x, double clip) {
  return clip == 0 ? x : x.clamp(-clip, clip);
}

at::Tensor capped(const at::Tensor& x, double cap) {
  return cap == 0 ? x : at::tanh(x / cap) * cap;
}

at::Tensor chosen_tokens(const LatentFacts& facts, const Indexer& indexer, const RopeTable& rope,
                         const at::Tensor& x, const at::Tensor& latent_query,
                         const at::Tensor& allowed) {
  const std::int64_t tokens = x.size(0);
  const RopeTable halves{rope.cos, rope.sin, false};
  const at::Tensor query = turned(
      at::matmul(latent_query, indexer.query.t()).view({tokens, facts.index_heads, -1}), halves);
  const at::Tensor key = turned(
      layer_norm(at::matmul(x, indexer.key.t()), indexer.norm, indexer.norm_bias).unsqueeze(1),
      halves);
  const auto root = [](std::int64_t of) { return 1.0 / std::sqrt(static_cast<double>(of)); };
  const at::Tensor near =
      at::relu(at::matmul(query, key.squeeze(1).t()) * root(facts.index_dim));  // [S, n, S]
  const at::Tensor weights = at::matmul(x, indexer.weights.t()) * root(facts.index_heads);
  const at::Tensor scores =
      at::matmul(weights.unsqueeze(1), near)
          .squeeze(1)
          .masked_fill(allowed.logical_not(), -std::numeric_limits<double>::infinity());
  const at::Tensor best = std::get<1>(scores.topk(std::min(facts.index_topk, tokens), -1));
  return at::zeros_like(allowed).scatter(1, best, 1).logical_and(allowed);
}

BlockIndexer block_indexer(const ModelFacts& facts, const Scope& scope, std::string_view stem) {
  const BlockIndexFacts& index = facts.block_index;
  const auto get = [&](const char* name, const std::vector<std::int64_t>& shape) {
    return scope.get(std::string(stem) + name + ".weight", shape);
  };
  return {get("q_proj", {index.heads * index.dim, facts.hidden}),
          get("k_proj", {index.dim, facts.hidden}), get("q_norm", {index.dim}),
          get("k_norm", {index.dim})};
}

at::Tensor chosen_blocks(const ModelFacts& facts, const BlockIndexer& indexer,
                         const RopeTable& rope, const at::Tensor& x, const at::Tensor& allowed) {
  constexpr double kClosed = -std::numeric_limits<double>::infinity();
  const BlockIndexFacts& index = facts.block_index;
  const std::int64_t tokens = x.size(0);
  const std::int64_t blocks = (tokens + index.block - 1) / index.block;
  const RopeTable table{rope.cos.slice(1, 0, index.dim), rope.sin.slice(1, 0, index.dim),
                        rope.pairs_interleaved};
  const auto placed = [&](const at::Tensor& weight, const at::Tensor& norm, std::int64_t heads) {
    const at::Tensor raw = at::matmul(x, weight.t()).view({tokens, heads, index.dim});
    return turned(rms_norm(raw, norm, facts.eps, facts.zero_centred), table);
  };
  const at::Tensor query = placed(indexer.query, indexer.query_norm, index.heads);
  const at::Tensor key = placed(indexer.key, indexer.key_norm, 1).squeeze(1);
  const at::Tensor near = std::get<0>(at::matmul(query, key.t()).max(1));  // [S, S], of all heads
  const at::Tensor open = near.masked_fill(allowed.logical_not(), kClosed);
  const at::Tensor padded = at::constant_pad_nd(open, {0, blocks * index.block - tokens}, kClosed);
  at::Tensor scores = std::get<0>(padded.view({tokens, blocks, index.block}).max(-1));
  const at::Tensor own = at::arange(tokens, at::kLong).div(index.block, "floor").unsqueeze(1);
  for (std::int64_t back = 0; back < index.nearest; ++back)
    scores = scores.scatter(1, (own - back).clamp_min(0), -kClosed);
  const at::Tensor best = std::get<1>(scores.topk(std::min(index.topk, blocks), -1));
  const at::Tensor chosen = at::zeros({tokens, blocks}, at::kLong).scatter(1, best, 1);
  return chosen.repeat_interleave(index.block, 1)
      .slice(1, 0, tokens)
      .to(at::kBool)
      .logical_and(allowed);
}

at::Tensor attend(const at::Tensor& q, const at::Tensor& k, const at::Tensor& v,
                  const at::Tensor& allowed, double scale, const std::optional<at::Tensor>& sinks,
                  double cap) {
  const std::int64_t tokens = q.size(0);
  const std::int64_t shared = q.size(1) / k.size(1);
  const at::Tensor keys = k.repeat_interleave(shared, 1).permute({1, 2, 0});        // [n, d, S]
  const at::Tensor values = v.repeat_interleave(shared, 1).permute({1, 0, 2});      // [n, S, e]
  at::Tensor scores = capped(at::matmul(q.permute({1, 0, 2}), keys) * scale, cap);  // [n, S, S]
  scores = scores.masked_fill(allowed.logical_not(), -std::numeric_limits<double>::infinity());
  if (sinks) scores = at::cat({scores, sinks->view({-1, 1, 1}).expand({-1, tokens, 1})}, -1);
  at::Tensor weights = at::softmax(scores, -1);
  if (sinks) weights = weights.slice(-1, 0, tokens);
  return at::matmul(weights, values).permute({1, 0, 2}).reshape({tokens, -1});
}

}  // namespace bv::oracle::forward

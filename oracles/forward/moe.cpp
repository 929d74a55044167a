// Which experts a token uses and with which weight, and the sum over them.
#include "oracles/forward/modules.hpp"

namespace bv::oracle::forward {
namespace {

at::Tensor spread(const at::Tensor& logits, const at::Tensor& chosen, const at::Tensor& weights) {
  return at::zeros_like(logits).scatter(1, chosen, weights);
}

constexpr double kClosed = -std::numeric_limits<double>::infinity();

/// Scores outside the best groups are closed. A group's score is the sum of its best `counted`
/// experts: two in DeepSeek-V3, one in DeepSeek-V2.
at::Tensor in_best_groups(const MoeFacts& facts, const at::Tensor& scores, std::int64_t counted) {
  const std::int64_t tokens = scores.size(0);
  const at::Tensor by_group = scores.reshape({tokens, facts.groups, -1});
  const at::Tensor group_score = std::get<0>(by_group.topk(counted, -1)).sum(-1);
  const at::Tensor groups = std::get<1>(group_score.topk(facts.topk_group, -1));
  const at::Tensor open =
      at::zeros_like(group_score).scatter(1, groups, 1.0).unsqueeze(-1).expand_as(by_group);
  return scores.masked_fill(open.reshape({tokens, -1}) == 0.0, kClosed);
}

/// Phi-3.5-MoE: the best expert, weighed among those whose logit is near its own, then the best of
/// the others, weighed among those near that.
at::Tensor sparse_mixer(const MoeFacts& facts, const at::Tensor& logits) {
  at::Tensor open = logits;
  at::Tensor out = at::zeros_like(logits);
  for (std::int64_t pick = 0; pick < facts.topk; ++pick) {
    const auto [best, chosen] = open.max(-1, true);
    const at::Tensor factor = at::maximum(logits.abs(), best);
    const at::Tensor far = (best - open) / factor > 2.0 * facts.closeness;
    const at::Tensor weights = at::softmax(open.masked_fill(far, kClosed), -1);
    out = out.scatter(1, chosen, weights.gather(1, chosen));
    open = open.scatter(1, chosen, kClosed);
  }
  return out;
}

}  // namespace

at::Tensor routing(const MoeFacts& facts, const at::Tensor& logits,
                   const std::optional<at::Tensor>& choice_bias) {
  if (facts.router == Router::SparseMixer) return sparse_mixer(facts, logits);
  if (facts.router == Router::TopKThenSoftmax || facts.router == Router::SigmoidBefore) {
    const auto [values, chosen] = logits.topk(facts.topk, -1);
    const bool sigmoids = facts.router == Router::SigmoidBefore;
    return spread(logits, chosen, sigmoids ? at::sigmoid(values) : at::softmax(values, -1));
  }
  const bool sigmoid = facts.router == Router::SigmoidGrouped;
  const at::Tensor scores = sigmoid ? at::sigmoid(logits) : at::softmax(logits, -1);
  at::Tensor preferred = choice_bias ? scores + *choice_bias : scores;
  if (facts.groups > 1) preferred = in_best_groups(facts, preferred, sigmoid ? 2 : 1);
  const at::Tensor chosen = std::get<1>(preferred.topk(facts.topk, -1));
  at::Tensor values = scores.gather(1, chosen);
  if (facts.normalise)
    values = values / (values.sum(-1, true) + facts.added_sum).clamp_min(facts.least_sum);
  return spread(logits, chosen, values * facts.scaling);
}

at::Tensor dispatched(
    const at::Tensor& x, const at::Tensor& weights, bool before,
    const std::function<at::Tensor(std::int64_t expert, const at::Tensor& rows)>& expert) {
  at::Tensor sum = at::zeros_like(x);
  for (std::int64_t e = 0; e < weights.size(1); ++e) {
    const at::Tensor rows = weights.select(1, e).nonzero().squeeze(1);
    if (rows.numel() == 0) continue;
    const at::Tensor share = weights.select(1, e).index_select(0, rows).unsqueeze(1);
    const at::Tensor seen = x.index_select(0, rows);
    sum = sum.index_add(0, rows, before ? expert(e, seen * share) : expert(e, seen) * share);
  }
  return sum;
}

}  // namespace bv::oracle::forward

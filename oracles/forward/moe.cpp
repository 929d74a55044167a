// Which experts a token uses and with which weight, and the sum over them.
#include "oracles/forward/modules.hpp"

namespace bv::oracle::forward {
namespace {

at::Tensor spread(const at::Tensor& logits, const at::Tensor& chosen, const at::Tensor& weights) {
  return at::zeros_like(logits).scatter(1, chosen, weights);
}

/// DeepSeek-V3: a group's score is the sum of its two best experts; only the best groups may be
/// chosen from.
at::Tensor grouped_choice(const MoeFacts& facts, const at::Tensor& scores) {
  const std::int64_t tokens = scores.size(0);
  const at::Tensor by_group = scores.reshape({tokens, facts.groups, -1});
  const at::Tensor group_score = std::get<0>(by_group.topk(2, -1)).sum(-1);
  const at::Tensor groups = std::get<1>(group_score.topk(facts.topk_group, -1));
  const at::Tensor open =
      at::zeros_like(group_score).scatter(1, groups, 1.0).unsqueeze(-1).expand_as(by_group);
  const at::Tensor masked = scores.masked_fill(open.reshape({tokens, -1}) == 0.0, 0.0);
  return std::get<1>(masked.topk(facts.topk, -1));
}

}  // namespace

at::Tensor routing(const MoeFacts& facts, const at::Tensor& logits,
                   const std::optional<at::Tensor>& choice_bias) {
  switch (facts.router) {
    case Router::SoftmaxThenTopK: {
      const auto [values, chosen] = at::softmax(logits, -1).topk(facts.topk, -1);
      return spread(logits, chosen, facts.normalise ? values / values.sum(-1, true) : values);
    }
    case Router::TopKThenSoftmax: {
      const auto [values, chosen] = logits.topk(facts.topk, -1);
      return spread(logits, chosen, at::softmax(values, -1));
    }
    case Router::SigmoidGrouped: {
      const at::Tensor scores = at::sigmoid(logits);
      const at::Tensor chosen = grouped_choice(facts, choice_bias ? scores + *choice_bias : scores);
      at::Tensor values = scores.gather(1, chosen);
      if (facts.normalise) values = values / (values.sum(-1, true) + 1e-20);
      return spread(logits, chosen, values * facts.scaling);
    }
  }
  return {};
}

at::Tensor dispatched(
    const at::Tensor& x, const at::Tensor& weights,
    const std::function<at::Tensor(std::int64_t expert, const at::Tensor& rows)>& expert) {
  at::Tensor sum = at::zeros_like(x);
  for (std::int64_t e = 0; e < weights.size(1); ++e) {
    const at::Tensor rows = weights.select(1, e).nonzero().squeeze(1);
    if (rows.numel() == 0) continue;
    const at::Tensor share = weights.select(1, e).index_select(0, rows).unsqueeze(1);
    sum = sum.index_add(0, rows, expert(e, x.index_select(0, rows)) * share);
  }
  return sum;
}

}  // namespace bv::oracle::forward

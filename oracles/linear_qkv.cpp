// docs/reference/semantics.md#attention.
#include <algorithm>
#include <array>

#include "oracles/model_style.hpp"
#include "oracles/modules.hpp"
#include "oracles/target_layout.hpp"

namespace bv::oracle {
namespace {

struct Heads {
  std::int64_t queries, groups;
};

Heads heads_of(const Question& question) {
  if (is_vision(question.parameter)) {
    const std::int64_t heads = number(question, "vision_num_heads");
    const auto groups = question.numbers.find("vision_num_query_groups");
    const bool grouped = groups != question.numbers.end() && groups->second > 0;
    return {heads, grouped ? groups->second : heads};
  }
  return {number(question, "num_attention_heads"), number(question, "num_query_groups")};
}

/// q [n d, ..] or, with a gate in each head, [n 2d, ..]: as [g, rows of a group, ..] with the gates
/// behind the queries.
Tensor queries_by_group(const Tensor& q, Heads heads, std::int64_t head_size) {
  const std::int64_t in_group = exact(heads.queries, heads.groups, "query heads over groups");
  if (q.size(0) == heads.queries * head_size) {
    return split_rows(q, {heads.groups, in_group * head_size});
  }
  if (q.size(0) != heads.queries * 2 * head_size) {
    throw Unanswered("q_proj has " + std::to_string(q.size(0)) + " rows, wanted " +
                     std::to_string(heads.queries * head_size) + ", or twice that with a gate");
  }
  return split_rows(q, {heads.groups, in_group, 2, head_size}).transpose(1, 2).flatten(1, 3);
}

Tensor rows_by_group(const Tensor& rows, std::int64_t groups, const std::string& what) {
  return split_rows(rows, {groups, exact(rows.size(0), groups, what + " rows over groups")});
}

Tensor fused(const Tensor& q, const Tensor& k, const Tensor& v, Heads heads) {
  const Tensor keys = rows_by_group(k, heads.groups, "k_proj");
  const Tensor values = rows_by_group(v, heads.groups, "v_proj");
  return ops::cat({queries_by_group(q, heads, keys.size(1)), keys, values}, 1).flatten(0, 1);
}

/// A layer with heads of its own number, in a module that was built with rows for them: by the size
/// of a head.
Heads heads_of_layer(const Question& question, const Tensor& q, const Tensor& k, const Tensor& v) {
  const auto size = question.numbers.find("head_dim");
  const auto gate = question.numbers.find("attn_output_gate");
  const bool gated = gate != question.numbers.end() && gate->second != 0;  // q holds gates too
  const bool own = !gated && !is_vision(question.parameter) && size != question.numbers.end() &&
                   size->second > 0 && question.built.rows > 0 &&
                   q.size(0) + k.size(0) + v.size(0) == question.built.rows &&
                   q.size(0) % size->second == 0 && k.size(0) % size->second == 0;
  return own ? Heads{q.size(0) / size->second, k.size(0) / size->second} : heads_of(question);
}

/// One gate row a head says how many heads there are.
Heads heads_of_gates(const Tensor& q, const Tensor& k, const Tensor& gate) {
  const std::int64_t size = exact(q.size(0), gate.size(0), "query rows over gate rows");
  return {gate.size(0), exact(k.size(0), size, "key rows over rows of a head")};
}

/// Step-3.5: one gate row a head; behind all groups, or d times behind the queries of its group.
Tensor fused_with_gate_rows(const Question& question) {
  const Tensor q = part(question, "q_proj");
  const Tensor k = part(question, "k_proj");
  const Tensor v = part(question, "v_proj");
  const Tensor gate = part(question, "g_proj");
  const Heads heads = heads_of_gates(q, k, gate);
  const auto flag = question.numbers.find("attn_output_gate");
  const std::int64_t plain = q.size(0) + k.size(0) + v.size(0);
  const bool behind = question.built.rows == plain + gate.size(0);
  const bool inside = question.built.rows == plain + q.size(0);
  if (!behind && !inside && flag == question.numbers.end()) {
    throw Unanswered("the geometry has no attn_output_gate, which says where g_proj goes");
  }
  if (behind || (!inside && flag->second == 0)) {
    return ops::cat({fused(q, k, v, heads), gate}, 0);
  }
  const Tensor keys = rows_by_group(k, heads.groups, "k_proj");
  const Tensor gates =
      rows_by_group(gate.repeat_interleave(keys.size(1), 0), heads.groups, "g_proj");
  return ops::cat({queries_by_group(q, heads, keys.size(1)), gates, keys,
                   rows_by_group(v, heads.groups, "v_proj")},
                  1)
      .flatten(0, 1);
}

/// Gemma 4: a layer without values reads its keys as both.
Tensor with_keys_as_values(const Question& question) {
  const Tensor keys = part(question, "k_proj");
  return fused(part(question, "q_proj"), keys, keys, heads_of(question));
}

/// Gemma 4: a layer that takes keys and values of another one has rows for them that nobody reads.
Tensor with_queries_alone(const Question& question) {
  const Heads heads = heads_of(question);
  const Tensor q = only_source(question);
  const std::int64_t size = exact(q.size(0), heads.queries, "query rows over heads");
  std::vector<std::int64_t> shape(q.sizes().begin(), q.sizes().end());
  shape.front() = heads.groups * size;
  const Tensor none = ops::full_like(q, shape, -1);
  return fused(q, none, none, heads);
}

}  // namespace

Tensor linear_qkv(const Question& question) {
  const ModelStyle* style = style_of(question.model_type, question.stated.like);
  if (question.hf.size() == 1 && style != nullptr && style->heads_together) {
    return block(only_source(question), 0, question);
  }
  if (question.hf.size() == 1 && has_part(question, "q_proj")) {
    return block(with_queries_alone(question), 0, question);
  }
  if (question.hf.size() == 2) {
    return block(with_keys_as_values(question), 0, question);
  }
  if (question.hf.size() == 1) {
    if (style == nullptr && !question.model_type.empty() && has_part(question, "query_key_value") &&
        !is_vision(question.parameter)) {
      throw Unanswered("whether query, key and value of a head of " + question.model_type +
                       " stand together is not known");
    }
    const Heads heads = heads_of(question);
    constexpr std::array<std::string_view, 3> kFused = {"qkv", "query_key_value", "qkv_proj"};
    if (std::ranges::none_of(kFused,
                             [&](std::string_view one) { return has_part(question, one); })) {
      throw Unanswered("it is not known whether " + question.hf_names.front() +
                       " holds queries, keys and values");
    }
    const Tensor whole = only_source(question);
    const std::int64_t head_size =
        exact(whole.size(0), heads.queries + 2 * heads.groups, "qkv rows over heads");
    const auto parts = whole.split_with_sizes(
        {heads.queries * head_size, heads.groups * head_size, heads.groups * head_size}, 0);
    return block(fused(parts[0], parts[1], parts[2], heads), 0, question);
  }
  if (question.hf.size() == 4) {
    return block(fused_with_gate_rows(question), 0, question);
  }
  const Tensor q = part(question, "q_proj");
  const Tensor k = part(question, "k_proj");
  const Tensor v = part(question, "v_proj");
  return block(fused(q, k, v, heads_of_layer(question, q, k, v)), 0, question);
}

Tensor linear_kv(const Question& question) {
  const Heads heads = heads_of(question);
  const Tensor keys = rows_by_group(part(question, "k_proj"), heads.groups, "k_proj");
  const Tensor values = rows_by_group(part(question, "v_proj"), heads.groups, "v_proj");
  return block(ops::cat({keys, values}, 1).flatten(0, 1), 0, question);
}

}  // namespace bv::oracle

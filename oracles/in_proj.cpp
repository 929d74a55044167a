// docs/reference/semantics.md#gated-delta-net-and-mamba.
#include "oracles/modules.hpp"

namespace bv::oracle {
namespace {

Tensor by_role(const Question& question) {
  const Tensor qkv = part(question, "in_proj_qkv");
  const Tensor z = part(question, "in_proj_z");
  const std::int64_t value_rows = z.size(0);
  const std::int64_t key_rows =
      exact(qkv.size(0) - value_rows, 2, "query and key rows of in_proj_qkv");
  if (key_rows < 1) {
    throw Unanswered("in_proj_qkv has " + std::to_string(qkv.size(0)) +
                     " rows, wanted more than the " + std::to_string(value_rows) + " of in_proj_z");
  }
  std::vector<Tensor> parts = qkv.split_with_sizes({key_rows, key_rows, value_rows}, 0);
  parts.push_back(z);
  parts.push_back(part(question, "in_proj_b"));
  parts.push_back(part(question, "in_proj_a"));
  return sections(parts, question);
}

/// Both tensors hold, key head by key head, the rows of that head and of its value heads.
Tensor by_key_head(const Question& question) {
  const std::int64_t key_heads = number(question, "linear_num_key_heads");
  const std::int64_t key_size = number(question, "linear_key_head_dim");
  const std::int64_t value_size = number(question, "linear_value_head_dim");
  const std::int64_t ratio =
      exact(number(question, "linear_num_value_heads"), key_heads, "value heads over key heads");
  const Tensor qkvz = split_rows(part(question, "in_proj_qkvz"), {key_heads, -1});
  const Tensor ba = split_rows(part(question, "in_proj_ba"), {key_heads, -1});
  std::vector<Tensor> parts;
  for (const Tensor& rows :
       qkvz.split_with_sizes({key_size, key_size, ratio * value_size, ratio * value_size}, 1)) {
    parts.push_back(rows.flatten(0, 1));
  }
  for (const Tensor& rows : ba.split_with_sizes({ratio, ratio}, 1)) {
    parts.push_back(rows.flatten(0, 1));
  }
  return sections(parts, question);
}

struct Mamba {
  std::int64_t inner, groups_state, heads;
};

Mamba mamba_of(const Question& question) {
  const std::int64_t heads = number(question, "mamba_num_heads");
  return {heads * number(question, "mamba_head_dim"),
          number(question, "mamba_num_groups") * number(question, "mamba_state_dim"), heads};
}

}  // namespace

Tensor gdn_in_proj(const Question& question) {
  return has_part(question, "in_proj_qkvz") ? by_key_head(question) : by_role(question);
}

Tensor gdn_conv1d(const Question& question) {
  const std::int64_t keys =
      number(question, "linear_num_key_heads") * number(question, "linear_key_head_dim");
  const std::int64_t values =
      number(question, "linear_num_value_heads") * number(question, "linear_value_head_dim");
  return sections(only_source(question).split_with_sizes({keys, keys, values}, 0), question);
}

Tensor mamba_in_proj(const Question& question) {
  const Mamba sizes = mamba_of(question);
  return sections(
      only_source(question).split_with_sizes(
          {sizes.inner, sizes.inner, sizes.groups_state, sizes.groups_state, sizes.heads}, 0),
      question);
}

Tensor mamba_conv1d(const Question& question) {
  const Mamba sizes = mamba_of(question);
  return sections(only_source(question).split_with_sizes(
                      {sizes.inner, sizes.groups_state, sizes.groups_state}, 0),
                  question);
}

}  // namespace bv::oracle

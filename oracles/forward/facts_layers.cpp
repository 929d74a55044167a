// Layers that differ in size, and what Gemma 4 puts into each of them. Source:
// configuration_gemma4.py and modeling_gemma4.py of transformers 5.12.1.
#include <fmt/format.h>

#include "oracles/forward/config_fields.hpp"

namespace bv::oracle::forward {
namespace {

void read_experts_beside(Fields& fields, ModelFacts& facts) {
  facts.experts_beside = fields.flag("enable_moe_block", false);
  if (!facts.experts_beside) return;
  MoeFacts& moe = facts.moe;
  moe.experts = fields.size("num_experts");
  moe.topk_field = "top_k_experts";
  moe.topk = fields.size("top_k_experts");
  moe.expert_ffn = fields.size("moe_intermediate_size");
  if (moe.topk > moe.experts)
    fields.refuse("top_k_experts", fmt::format("at most {}", moe.experts));
  // Megatron-Bridge has one form or the other.
  facts.norms_beside_blocks = false;
  if (fields.integer("hidden_size_per_layer_input", 256) > 0)
    fields.lack("hidden_size_per_layer_input", "0 beside experts");
}

}  // namespace

void read_layer_sizes(Fields& fields, ModelFacts& facts) {
  const auto count = static_cast<std::size_t>(facts.layers);
  read_experts_beside(fields, facts);
  if (const Json* ways = fields.find("use_bidirectional_attention");
      ways != nullptr && *ways != "vision") {
    fields.lack("use_bidirectional_attention", "null, or vision for an input of words");
  }
  const std::int64_t wide = fields.integer("global_head_dim", 512);
  const bool same = fields.flag("attention_k_eq_v", false);
  const std::int64_t groups = same ? fields.size("num_global_key_value_heads", facts.kv_heads) : 0;
  const std::int64_t shared = fields.integer("num_kv_shared_layers", 0);
  const bool doubled = fields.flag("use_double_wide_mlp", false);
  const std::int64_t first = facts.layers - shared;
  if (first < 0)
    return fields.refuse("num_kv_shared_layers", fmt::format("at most {}", facts.layers));
  if (same && facts.heads % groups != 0)
    fields.refuse("num_global_key_value_heads", fmt::format("a divisor of {} heads", facts.heads));
  if (!facts.mixers.empty()) facts.mixers.back() = Mixer::FullAttention;  // whatever the list says
  facts.sizes.assign(count, {facts.head_dim, facts.kv_heads, facts.ffn});
  for (std::size_t i = 0; i < count; ++i) {
    LayerSizes& own = facts.sizes[i];
    const bool full = facts.mixers[i] == Mixer::FullAttention;
    own.shares = static_cast<std::int64_t>(i) >= first;
    if (full && wide > 0) own.head_dim = wide;
    if (full && same) own.kv_heads = groups;
    own.keys_are_values = full && same;
    if (own.shares && doubled && first > 0) own.ffn = 2 * facts.ffn;
    bool source = !own.shares;
    for (std::size_t j = 0; own.shares && j < static_cast<std::size_t>(first); ++j)
      source = source || facts.mixers[j] == facts.mixers[i];
    if (!source)
      fields.refuse("num_kv_shared_layers", "a layer of each kind before the shared ones");
  }
  facts.attention_scale = 1.0;
  facts.unit_values = true;
  facts.layer_scalar = true;
  facts.layer_input = fields.integer("hidden_size_per_layer_input", 256);
  if (facts.layer_input > 0)
    facts.layer_input_vocab = fields.size("vocab_size_per_layer_input", 262144);
}

}  // namespace bv::oracle::forward

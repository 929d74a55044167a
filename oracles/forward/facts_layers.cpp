// Layers that differ in size, and what Gemma 4 puts into each of them. Source:
// configuration_gemma4.py and modeling_gemma4.py of transformers 5.12.1.
#include <fmt/format.h>

#include <algorithm>

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

namespace {

/// Rows of an MLP are a multiple of this, upwards.
constexpr std::int64_t kRows = 256;

/// One half of a block: whether it is there. A matrix in its place has no form.
bool half_is_there(Fields& half) {
  if (half.flag("replace_with_linear", false)) half.lack("replace_with_linear", "false");
  return !half.flag("no_op", false);
}

void read_block_config(const Json& block, const std::string& path, std::size_t i, Fields& fields,
                       ModelFacts& facts) {
  const auto half = [&](const char* key) {
    const Json* at = block.is_object() && block.contains(key) ? &block[key] : nullptr;
    if (at == nullptr || !at->is_object()) fields.refuse("block_configs", "objects of two halves");
    static const Json kNone = Json::object();
    return Fields(at != nullptr && at->is_object() ? *at : kNone, path + key + ".");
  };
  Fields attention = half("attention");
  Fields mlp = half("ffn");
  const bool attends = half_is_there(attention);
  const bool feeds = half_is_there(mlp);
  LayerSizes& own = facts.sizes[i];
  if (attends) {
    const std::int64_t together = attention.size("n_heads_in_group");
    if (facts.heads % together != 0)
      attention.refuse("n_heads_in_group", fmt::format("a divisor of {} heads", facts.heads));
    own.kv_heads = std::max<std::int64_t>(facts.heads / together, 1);
  }
  if (feeds) {
    const double rows =
        2.0 * mlp.positive("ffn_mult", 1.0) * static_cast<double>(facts.hidden) / 3.0;
    own.ffn = (static_cast<std::int64_t>(rows) + kRows - 1) / kRows * kRows;
  }
  facts.blocks[i] = attends && feeds ? Block::Both
                    : attends        ? Block::MixerAlone
                    : feeds          ? Block::MlpAlone
                                     : Block::Nothing;
  fields.adopt(attention);
  fields.adopt(mlp);
}

}  // namespace

void read_block_configs(Fields& fields, ModelFacts& facts) {
  const Json* list = fields.find("block_configs");
  const auto count = static_cast<std::size_t>(facts.layers);
  if (list == nullptr || !list->is_array() || list->size() != count)
    return fields.refuse("block_configs", fmt::format("{} entries", count));
  facts.sizes.assign(count, {facts.head_dim, facts.kv_heads, facts.ffn});
  for (std::size_t i = 0; i < count; ++i)
    read_block_config((*list)[i], fmt::format("block_configs[{}].", i), i, fields, facts);
}

void read_layer_pattern(Fields& fields, ModelFacts& facts) {
  const auto count = static_cast<std::size_t>(facts.layers);
  const auto pattern = fields.integers("hybrid_layer_pattern");
  if (pattern.size() != count)
    return fields.refuse("hybrid_layer_pattern", fmt::format("{} entries", count));
  facts.value_dim = fields.size("v_head_dim", facts.head_dim, kHeadDimMax);
  facts.value_scale = fields.real("attention_value_scale", 1.0);
  const auto alike = [&](const char* key, std::int64_t size) {
    if (fields.size(key, size) != size)
      fields.lack(key, fmt::format("{}, as in other layers", size));
  };
  alike("swa_num_attention_heads", facts.heads);
  alike("swa_head_dim", facts.head_dim);
  alike("swa_v_head_dim", facts.value_dim);
  const std::int64_t groups = fields.size("swa_num_key_value_heads", 8);
  if (facts.heads % groups != 0)
    fields.refuse("swa_num_key_value_heads", fmt::format("a divisor of {} heads", facts.heads));
  facts.window = fields.size(
      fields.find("sliding_window") != nullptr ? "sliding_window" : "sliding_window_size", 128);
  facts.sizes.assign(count, {facts.head_dim, facts.kv_heads, facts.ffn});
  for (std::size_t i = 0; i < count; ++i) {
    if (pattern[i] == 0) continue;
    facts.mixers[i] = Mixer::SlidingAttention;
    facts.sizes[i].kv_heads = groups;
    facts.sizes[i].sinks = true;
  }
}

}  // namespace bv::oracle::forward

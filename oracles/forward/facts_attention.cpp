// What mixes the tokens of each layer, read from a config.
#include <fmt/format.h>

#include <algorithm>
#include <cmath>

#include "core/base/text.hpp"
#include "oracles/forward/config_fields.hpp"

namespace bv::oracle::forward {
namespace {

void read_latent(Fields& fields, ModelFacts& facts) {
  LatentFacts& latent = facts.latent;
  latent.q_lora = fields.integer("q_lora_rank", 0);
  latent.kv_lora = fields.size("kv_lora_rank");
  latent.nope = fields.size("qk_nope_head_dim");
  latent.rope = fields.size("qk_rope_head_dim", {}, kHeadDimMax);
  latent.value = fields.size("v_head_dim");
  facts.attention_scale = 1.0 / std::sqrt(static_cast<double>(latent.nope + latent.rope));
  if (fields.flag("attention_bias", false)) fields.lack("attention_bias", "false");
}

/// GLM-5: some layers take the choice of the last one that has an indexer.
void read_indexers(Fields& fields, ModelFacts& facts) {
  LatentFacts& latent = facts.latent;
  latent.index_heads = fields.size("index_n_heads", 64);
  latent.index_dim = fields.size("index_head_dim", 128);
  latent.index_topk = fields.size("index_topk", 2048);
  if (latent.q_lora == 0) fields.lack("q_lora_rank", "a size, which the indexer reads");
  if (latent.index_dim < latent.rope)
    fields.refuse("index_head_dim", fmt::format("at least {}", latent.rope));
  const Json* types = fields.find("indexer_types");
  if (types == nullptr) types = fields.find("index_topk_pattern");
  const std::int64_t every = std::max<std::int64_t>(fields.integer("index_topk_freq", 1), 1);
  const std::int64_t offset = fields.integer("index_skip_topk_offset", 2);
  const auto count = static_cast<std::size_t>(facts.layers);
  if (types != nullptr && types->is_string()) {
    const auto letters = types->get<std::string>();
    if (letters.size() != count)
      return fields.refuse("index_topk_pattern", counted(count, "letter"));
    for (std::size_t i = 0; i < count; ++i) facts.indexes[i] = letters[i] == 'F';
  } else if (types != nullptr) {
    if (!types->is_array() || types->size() != count)
      return fields.refuse("indexer_types", counted(count, "entry"));
    for (std::size_t i = 0; i < count; ++i) facts.indexes[i] = (*types)[i] == "full";
  } else {
    for (std::int64_t i = 0; i < facts.layers; ++i) {
      facts.indexes[static_cast<std::size_t>(i)] =
          std::max<std::int64_t>(i - offset + 1, 0) % every == 0;
    }
  }
  if (count > 0 && !facts.indexes[0])
    fields.refuse("indexer_types", "an indexer in the first layer");
}

/// MiniMax-M3: newer configs have fields of their own and kinds of layers, older ones an object.
void read_block_indexers(Fields& fields, ModelFacts& facts) {
  const Json none = Json::object();
  const Json* object = fields.find("sparse_attention_config");
  Fields older(object != nullptr && object->is_object() ? *object : none,
               "sparse_attention_config.");
  const auto size = [&](const char* name, const char* old, std::int64_t otherwise) {
    return older.find(old) != nullptr ? older.size(old) : fields.size(name, otherwise);
  };
  BlockIndexFacts& index = facts.block_index;
  index.heads = size("index_n_heads", "sparse_num_index_heads", 4);
  index.dim = size("index_head_dim", "sparse_index_dim", 128);
  index.block = size("index_block_size", "sparse_block_size", 128);
  index.topk = size("index_topk_blocks", "sparse_topk_blocks", 16);
  index.nearest = older.find("sparse_local_block") != nullptr
                      ? older.integer("sparse_local_block")
                      : fields.integer("index_local_blocks", 1);
  if (index.dim % 2 != 0) fields.lack("index_head_dim", "an even size");
  const auto each = older.integers("sparse_attention_freq");
  if (fields.find("layer_types") == nullptr && !each.empty()) {
    if (each.size() != facts.indexes.size())
      older.refuse("sparse_attention_freq", counted(facts.indexes.size(), "entry"));
    for (std::size_t i = 0; i < each.size() && i < facts.indexes.size(); ++i)
      facts.indexes[i] = each[i] != 0;
  }
  fields.adopt(older);
}

void read_qk_norm(Fields& fields, const ModelStyle& style, ModelFacts& facts) {
  const Form& form = style.computes;
  facts.qk_norm_behind_turn = form.qk_norm_behind_turn;
  if (!form.qk_norm.empty() && !fields.flag(form.qk_norm, false)) return;
  if (style.qk_norm || (!form.qk_norm.empty() && !style.cut_qk_norm)) facts.qk_norm = QkNorm::Head;
  facts.qk_norm_bias = facts.qk_norm == QkNorm::Head && form.norm == NormKind::Layer;  // Phi
  if (form.unit_heads && fields.flag("use_qk_norm", true)) facts.qk_norm = QkNorm::Unit;
  if (style.full_qk_norm) facts.qk_norm = QkNorm::Whole;
  if (style.cut_qk_norm)
    facts.qk_norm = form.qk_norm_per_head ? QkNorm::EachHead : QkNorm::WholeCut;
}

void read_biases(Fields& fields, const ModelStyle& style, ModelFacts& facts) {
  const Form& form = style.computes;
  const bool named = fields.flag(form.bias, form.bias_otherwise);
  const bool always = style.bias == Bias::Always;
  facts.qkv_bias = always || style.bias == Bias::QkvAlways || (style.bias != Bias::None && named);
  facts.output_bias = always || (style.bias == Bias::Field && named);
  if (!form.output_bias.empty()) facts.output_bias = fields.flag(form.output_bias, false);
}

/// "sliding_attention", "full_attention" or "linear_attention" for each layer.
void read_layer_types(Fields& fields, const Json& types, const ModelStyle& style,
                      ModelFacts& facts) {
  const std::size_t count = facts.mixers.size();
  if (!types.is_array() || types.size() != count) {
    return fields.refuse("layer_types", counted(count, "entry"));
  }
  for (std::size_t i = 0; i < count; ++i) {
    const Json& type = types[i];
    if (type == "full_attention") continue;
    if (type == "minimax_m3_sparse" && style.computes.block_indexed) {
      facts.indexes[i] = true;
      continue;
    }
    if (type == "linear_attention" && style.delta)
      facts.mixers[i] = Mixer::GatedDeltaNet;
    else if (type == "chunked_attention" && style.computes.chunks)
      facts.mixers[i] = Mixer::ChunkedAttention;
    else if (type == "sliding_attention")
      facts.mixers[i] = Mixer::SlidingAttention;
    else
      return fields.lack("layer_types", "full_attention, sliding_attention or linear_attention");
  }
}

/// Which layers slide once the config says that the window is used, and lists no kinds.
void use_window(Fields& fields, const Form& form, ModelFacts& facts) {
  const std::int64_t most = fields.integer("max_window_layers", form.window_layers);
  for (std::int64_t i = 0; i < facts.layers; ++i) {
    const bool slides = form.use_window == UseWindow::Everywhere ||
                        (form.use_window == UseWindow::FromLayer && i >= most) ||
                        (form.use_window == UseWindow::EveryOther && i % 2 == 0 && i < most);
    if (slides) facts.mixers[static_cast<std::size_t>(i)] = Mixer::SlidingAttention;
  }
}

void read_mixers(Fields& fields, const ModelStyle& style, ModelFacts& facts) {
  const auto count = static_cast<std::size_t>(facts.layers);
  const Form& form = style.computes;
  facts.mixers.assign(count, form.latent ? Mixer::LatentAttention : Mixer::FullAttention);
  if (form.latent) return;
  // Some classes take the window away again unless a flag says that it is used.
  const bool flagged = form.use_window != UseWindow::Never;
  const bool used = !flagged || fields.flag("use_sliding_window", false);
  const bool windowed = form.layers_differ;  // 512 where the config has none
  const bool window = windowed || flagged ? used && !fields.is_null("sliding_window")
                                          : fields.find("sliding_window") != nullptr;
  const auto every_so_manieth = [&](std::int64_t step, Mixer mixer) {
    for (std::size_t i = 0; i < count; ++i) {
      const auto number = static_cast<std::int64_t>(i);
      const bool other = step > 0 ? (number + 1) % step == 0 : number % -step == 0;
      if (!other) facts.mixers[i] = mixer;
    }
  };
  if (const Json* types = fields.find("layer_types")) {
    read_layer_types(fields, *types, style, facts);
  } else if (style.delta) {
    every_so_manieth(fields.size("full_attention_interval", 4), Mixer::GatedDeltaNet);
  } else if (form.sliding_pattern != 0 && window) {
    const bool named = fields.find("sliding_window_pattern") != nullptr;
    every_so_manieth(named ? fields.size("sliding_window_pattern") : form.sliding_pattern,
                     Mixer::SlidingAttention);
  }
  if (flagged && window && fields.find("layer_types") == nullptr) use_window(fields, form, facts);
  if (style.slides && window) std::ranges::fill(facts.mixers, Mixer::SlidingAttention);
  const bool slides = std::ranges::count(facts.mixers, Mixer::SlidingAttention) > 0;
  if (slides && flagged && !window)
    return fields.refuse("layer_types", "full_attention alone, or use_sliding_window");
  if (slides)
    facts.window = fields.size("sliding_window", flagged    ? std::optional(4096)
                                                 : windowed ? std::optional(512)
                                                            : std::nullopt);
}

void read_turns(Fields& fields, const Form& form, ModelFacts& facts) {
  const auto count = static_cast<std::size_t>(facts.layers);
  facts.turns.assign(count, form.turns != Turns::None);
  const bool window = fields.find("sliding_window") != nullptr;
  if (form.turns == Turns::Sliding || (form.turns == Turns::SlidingIfAny && window)) {
    for (std::size_t i = 0; i < count; ++i)
      facts.turns[i] = facts.mixers[i] == Mixer::SlidingAttention;
  }
  if (form.turns != Turns::Listed) return;
  const auto listed = fields.integers("no_rope_layers");
  const std::int64_t interval = fields.size("no_rope_layer_interval", 4);
  if (!listed.empty() && listed.size() != count)
    return fields.refuse("no_rope_layers", counted(count, "entry"));
  for (std::size_t i = 0; i < count; ++i) {
    const bool counted_out = (static_cast<std::int64_t>(i) + 1) % interval == 0;
    facts.turns[i] = listed.empty() ? !counted_out : listed[i] != 0;
  }
  if (form.use_window != UseWindow::Unturned || !fields.flag("use_sliding_window", false)) return;
  if (fields.find("layer_types") != nullptr || fields.find("sliding_window") == nullptr) return;
  facts.window = fields.size("sliding_window");
  for (std::size_t i = 0; i < count; ++i) {
    if (!facts.turns[i]) facts.mixers[i] = Mixer::SlidingAttention;
  }
}

}  // namespace

void read_attention(Fields& fields, const ModelStyle& style, ModelFacts& facts) {
  const Form& form = style.computes;
  facts.heads = fields.size("num_attention_heads");
  // A matrix that holds query, key and value of every head has as many of each.
  facts.kv_heads =
      style.heads_together ? facts.heads : fields.size("num_key_value_heads", facts.heads);
  if (facts.heads % facts.kv_heads != 0) {
    fields.refuse("num_key_value_heads", fmt::format("a divisor of {} heads", facts.heads));
  }
  const std::int64_t even = facts.hidden / facts.heads;  // rounded down, as the classes do
  // Latent attention has sizes of its own.
  facts.head_dim = form.latent ? fields.size("qk_rope_head_dim", {}, kHeadDimMax)
                               : fields.size("head_dim", even, kHeadDimMax);
  facts.attention_scale = 1.0 / std::sqrt(static_cast<double>(facts.head_dim));
  if (form.query_scalar)
    facts.attention_scale = 1.0 / std::sqrt(fields.positive("query_pre_attn_scalar", 256.0));
  if (form.multipliers)
    facts.attention_scale =
        fields.real("attention_multiplier", form.root_multiplier ? facts.attention_scale : 1.0);
  facts.indexes.assign(static_cast<std::size_t>(facts.layers), false);
  if (form.latent) read_latent(fields, facts);
  if (form.indexed) read_indexers(fields, facts);
  if (form.block_indexed) read_block_indexers(fields, facts);
  read_biases(fields, style, facts);
  read_qk_norm(fields, style, facts);
  facts.output_gate = style.output_gate;
  facts.heads_together = style.heads_together;
  if (style.output_gate && !fields.flag("attn_output_gate", true))
    fields.lack("attn_output_gate", "true");
  facts.sinks = form.sinks;
  if (form.clips_qkv && fields.find("clip_qkv") != nullptr)
    facts.qkv_clip = fields.positive("clip_qkv", 1.0);
  for (const Must& one : form.must) {
    if (!one.field.empty() && fields.flag(one.field, one.value) != one.value)
      fields.lack(one.field, one.value ? "true" : "false");
  }
  if (form.use_window == UseWindow::Never && fields.flag("use_sliding_window", false))
    fields.lack("use_sliding_window", "false");
}

/// Llama 4: what turns sees its chunk alone; what does not, grows.
static void read_chunks(Fields& fields, const Form& form, ModelFacts& facts) {
  if (form.chunks) facts.chunk = fields.size("attention_chunk_size", 8192);
  for (std::size_t i = 0; form.chunks && i < facts.mixers.size(); ++i) {
    if (facts.turns[i] && fields.find("layer_types") == nullptr)
      facts.mixers[i] = Mixer::ChunkedAttention;
  }
  const Json* tuning = fields.find("attn_temperature_tuning");
  const bool tuned = tuning == nullptr || (*tuning != false && *tuning != 0);
  if (!form.tempered || !tuned) return;
  facts.unturned_grow = true;
  facts.query_growth = fields.real("attn_scale", 0.1);
  facts.query_reach = fields.positive("floor_scale", 8192.0);
  facts.query_offset = 1;
}

void read_layers(Fields& fields, const ModelStyle& style, ModelFacts& facts) {
  read_mixers(fields, style, facts);
  read_turns(fields, style.computes, facts);
  read_chunks(fields, style.computes, facts);
}

void read_delta(Fields& fields, const ModelStyle& style, ModelFacts& facts) {
  if (!style.delta) return;
  DeltaNetFacts& delta = facts.delta;
  delta.key_heads = fields.size("linear_num_key_heads", 16);
  delta.value_heads = fields.size("linear_num_value_heads", 32);
  delta.key_dim = fields.size("linear_key_head_dim", 128);
  delta.value_dim = fields.size("linear_value_head_dim", 128);
  delta.kernel = fields.size("linear_conv_kernel_dim", 4);
  delta.grouped_projection = style.model_type == "qwen3_next";
  if (delta.value_heads % delta.key_heads != 0) {
    fields.refuse("linear_num_value_heads",
                  fmt::format("a multiple of {} key heads", delta.key_heads));
  }
}

}  // namespace bv::oracle::forward

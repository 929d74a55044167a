#include "oracles/forward/facts.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <nlohmann/json.hpp>

#include "core/base/text.hpp"
#include "oracles/forward/config_fields.hpp"
#include "oracles/model_style.hpp"

namespace bv::oracle::forward {
namespace {

using Style = ModelStyle;

void read_mixers(Fields& fields, const Style& style, ModelFacts& facts) {
  const auto count = static_cast<std::size_t>(facts.layers);
  const Mixer plain =
      style.model_type == "deepseek_v3" ? Mixer::LatentAttention : Mixer::FullAttention;
  facts.mixers.assign(count, plain);
  if (const Json* types = fields.find("layer_types");
      types != nullptr && plain == Mixer::FullAttention) {
    if (!types->is_array() || types->size() != count) {
      return fields.refuse("layer_types", counted(count, "entry"));
    }
    for (std::size_t i = 0; i < count; ++i) {
      const Json& type = (*types)[i];
      if (type == "full_attention") continue;
      if (type == "linear_attention" && style.delta)
        facts.mixers[i] = Mixer::GatedDeltaNet;
      else if (type == "sliding_attention")
        facts.mixers[i] = Mixer::SlidingAttention;
      else
        return fields.refuse("layer_types",
                             "full_attention, sliding_attention or linear_attention");
    }
  } else if (style.delta) {
    const std::int64_t interval = fields.size("full_attention_interval", 4);
    for (std::size_t i = 0; i < count; ++i) {
      if ((static_cast<std::int64_t>(i) + 1) % interval != 0)
        facts.mixers[i] = Mixer::GatedDeltaNet;
    }
  }
  const bool slides = std::ranges::count(facts.mixers, Mixer::SlidingAttention) > 0;
  if (slides) facts.window = fields.size("sliding_window");
  if (style.slides && fields.find("sliding_window") != nullptr) {
    std::ranges::fill(facts.mixers, Mixer::SlidingAttention);
    facts.window = fields.size("sliding_window");
  }
}

/// "dense" or "sparse" for each layer, as the newer classes write it.
void read_mlp_types(Fields& fields, const Json& types, ModelFacts& facts) {
  if (!types.is_array() || types.size() != facts.is_moe.size())
    return fields.refuse("mlp_layer_types", fmt::format("{} entries", facts.is_moe.size()));
  for (std::size_t i = 0; i < facts.is_moe.size(); ++i) {
    if (types[i] != "dense" && types[i] != "sparse")
      return fields.refuse("mlp_layer_types", "dense or sparse");
    facts.is_moe[i] = types[i] == "sparse";
  }
}

void read_moe_layers(Fields& fields, ModelFacts& facts) {
  if (const Json* types = fields.find("mlp_layer_types")) {
    return read_mlp_types(fields, *types, facts);
  }
  const std::int64_t first = fields.integer("first_k_dense_replace", 0);
  const std::int64_t step = fields.size("decoder_sparse_step", 1);
  const auto dense = fields.integers("mlp_only_layers");
  for (std::int64_t i = 0; i < facts.layers; ++i) {
    const bool listed = std::ranges::count(dense, i) > 0;
    facts.is_moe[static_cast<std::size_t>(i)] = i >= first && !listed && (i + 1) % step == 0;
  }
}

void read_moe(Fields& fields, const Style& style, ModelFacts& facts) {
  facts.is_moe.assign(static_cast<std::size_t>(facts.layers), false);
  if (style.experts == Experts::None) return;
  MoeFacts& moe = facts.moe;
  for (const char* key : {"num_experts", "num_local_experts", "n_routed_experts"}) {
    if (moe.experts == 0 && fields.find(key) != nullptr) moe.experts = fields.size(key);
  }
  if (moe.experts == 0) fields.refuse("num_experts", "the number of experts");
  moe.topk = fields.size("num_experts_per_tok");
  if (moe.topk > moe.experts)
    fields.refuse("num_experts_per_tok", fmt::format("at most {}", moe.experts));
  const bool own_ffn = style.experts != Experts::Mixtral && style.experts != Experts::GptOss;
  moe.expert_ffn = fields.size(own_ffn ? "moe_intermediate_size" : "intermediate_size");
  if (style.experts == Experts::QwenShared) {
    moe.shared_ffn = fields.size("shared_expert_intermediate_size");
    moe.shared_gate = true;
  }
  if (facts.model_type == "qwen3_moe" || facts.model_type == "qwen2_moe")
    moe.normalise = fields.flag("norm_topk_prob", false);
  if (facts.model_type == "qwen3_next") moe.normalise = fields.flag("norm_topk_prob", true);
  if (style.experts == Experts::DeepSeek) {
    moe.router = Router::SigmoidGrouped;
    moe.normalise = fields.flag("norm_topk_prob", true);
    moe.groups = fields.size("n_group", 1);
    moe.topk_group = fields.size("topk_group", 1);
    moe.scaling = fields.real("routed_scaling_factor", 1.0);
    moe.shared_ffn = moe.expert_ffn * fields.integer("n_shared_experts", 0);
    if (moe.experts % moe.groups != 0 || moe.experts / moe.groups < 2) {
      fields.refuse("n_group", "a divisor of the experts that leaves two or more a group");
    }
    if (moe.topk_group > moe.groups)
      fields.refuse("topk_group", fmt::format("at most {}", moe.groups));
    if (moe.topk > moe.topk_group * (moe.experts / moe.groups)) {
      fields.refuse("num_experts_per_tok", "at most the experts of the chosen groups");
    }
  }
  if (style.experts == Experts::GptOss) {
    moe.router = Router::TopKThenSoftmax;
    moe.biases = true;
  }
  read_moe_layers(fields, facts);
}

void read_attention(Fields& fields, const Style& style, ModelFacts& facts) {
  facts.heads = fields.size("num_attention_heads");
  facts.kv_heads = fields.size("num_key_value_heads", facts.heads);
  if (facts.heads % facts.kv_heads != 0) {
    fields.refuse("num_key_value_heads", fmt::format("a divisor of {} heads", facts.heads));
  }
  const bool whole = facts.hidden % facts.heads == 0;
  const auto even = whole ? std::optional(facts.hidden / facts.heads) : std::nullopt;
  facts.head_dim = fields.size("head_dim", even, kHeadDimMax);
  facts.attention_scale = 1.0 / std::sqrt(static_cast<double>(facts.head_dim));
  if (style.model_type == "deepseek_v3") {
    facts.latent.q_lora = fields.integer("q_lora_rank", 0);
    facts.latent.kv_lora = fields.size("kv_lora_rank");
    facts.latent.nope = fields.size("qk_nope_head_dim");
    facts.latent.rope = fields.size("qk_rope_head_dim", {}, kHeadDimMax);
    facts.latent.value = fields.size("v_head_dim");
    facts.attention_scale =
        1.0 / std::sqrt(static_cast<double>(facts.latent.nope + facts.latent.rope));
    if (fields.flag("attention_bias", false)) fields.refuse("attention_bias", "false");
  }
  const bool named = fields.flag("attention_bias", style.model_type == "gpt_oss");
  facts.qkv_bias = style.bias == Bias::QkvAlways || (style.bias != Bias::None && named);
  facts.output_bias = style.bias == Bias::Field && named;
  facts.qk_norm =
      style.qk_norm || (style.model_type == "glm4_moe" && fields.flag("use_qk_norm", false));
  facts.output_gate = style.output_gate;
  if (style.output_gate && !fields.flag("attn_output_gate", true))
    fields.refuse("attn_output_gate", "true");
  facts.sinks = style.model_type == "gpt_oss";
  if (fields.flag("use_sliding_window", false)) fields.refuse("use_sliding_window", "false");
}

void read_delta(Fields& fields, const Style& style, ModelFacts& facts) {
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

void read_gemma(Fields& fields, ModelFacts& facts) {
  facts.embedding_scale = std::sqrt(static_cast<double>(facts.hidden));
  if (facts.model_type != "gemma") {
    facts.sandwich_norms = true;
    facts.attention_scale = 1.0 / std::sqrt(fields.positive("query_pre_attn_scalar", 256.0));
  }
  if (facts.model_type == "gemma2") {
    facts.attention_cap = fields.positive("attn_logit_softcapping", 50.0);
    facts.logit_cap = fields.positive("final_logit_softcapping", 30.0);
  }
  for (const char* key : {"attn_logit_softcapping", "final_logit_softcapping"}) {
    if (facts.model_type == "gemma3_text" && fields.find(key) != nullptr)
      fields.refuse(key, "null");
  }
  if (fields.flag("use_bidirectional_attention", false))
    fields.refuse("use_bidirectional_attention", "false");
}

void read_text(Fields& fields, const Style& style, ModelFacts& facts) {
  facts.hidden = fields.size("hidden_size");
  facts.vocab = fields.size("vocab_size");
  facts.layers = fields.size("num_hidden_layers", {}, kLayersMax);
  facts.eps = fields.positive("rms_norm_eps", 1e-6);
  facts.zero_centred = style.norms == Norms::Offsets;
  facts.megatron_zero_centred = facts.zero_centred;
  read_attention(fields, style, facts);
  read_delta(fields, style, facts);
  if (facts.model_type.starts_with("gemma")) read_gemma(fields, facts);
  facts.sandwich_norms = facts.sandwich_norms || facts.model_type == "glm4";
  facts.own_norm_names = facts.model_type == "glm4";
  read_ropes(fields, facts);
  read_mixers(fields, style, facts);
  read_moe(fields, style, facts);
  const bool all_moe = std::ranges::count(facts.is_moe, false) == 0;
  facts.ffn = all_moe ? fields.integer("intermediate_size", 0) : fields.size("intermediate_size");
  const std::string activation =
      fields.text("hidden_act", fields.text("hidden_activation", "silu"));
  if (activation != "silu" && activation != "gelu_pytorch_tanh") {
    fields.refuse("hidden_act", "silu or gelu_pytorch_tanh");
  }
  facts.activation = activation == "silu" ? Activation::Silu : Activation::GeluTanh;
  if (facts.model_type == "gpt_oss") facts.activation = Activation::ClampedSwiglu;
  facts.mlp_bias = fields.flag("mlp_bias", false);
  if (facts.mlp_bias && facts.model_type != "llama") fields.refuse("mlp_bias", "false");
  facts.mtp_behind_layers = style.experts == Experts::DeepSeek;
  const std::string_view depths =
      facts.mtp_behind_layers ? "num_nextn_predict_layers" : "mtp_num_hidden_layers";
  facts.mtp_layers = fields.integer(depths, 0);
  const std::int64_t depths_max = facts.mtp_behind_layers ? kMtpDepthsMax : 1;
  if (facts.mtp_layers > depths_max) fields.refuse(depths, fmt::format("0 to {}", depths_max));
}

void read_vision(Fields& fields, ModelFacts& facts) {
  VisionFacts& vision = facts.vision;
  vision.depth = fields.size("depth", {}, kLayersMax);
  vision.hidden = fields.size("hidden_size", {}, kHeadDimMax);
  vision.heads = fields.size("num_heads");
  vision.ffn = fields.size("intermediate_size");
  vision.channels = fields.size("in_channels", 3, kPatchSizeMax);
  vision.patch = fields.size("patch_size", 16, kPatchSizeMax);
  vision.temporal_patch = fields.size("temporal_patch_size", 2, kPatchSizeMax);
  vision.merge = fields.size("spatial_merge_size", 2, kMergeMax);
  vision.positions = fields.size("num_position_embeddings");
  vision.out = fields.size("out_hidden_size");
  vision.deepstack = fields.integers("deepstack_visual_indexes");
  if (vision.hidden % vision.heads != 0 || (vision.hidden / vision.heads) % 4 != 0) {
    fields.refuse("num_heads", fmt::format("heads of a size divisible by 4 in {}", vision.hidden));
  }
  const auto side =
      static_cast<std::int64_t>(std::llround(std::sqrt(static_cast<double>(vision.positions))));
  if (side * side != vision.positions) fields.refuse("num_position_embeddings", "a square number");
  if (vision.out != facts.hidden)
    fields.refuse("out_hidden_size", fmt::format("{}, the text's", facts.hidden));
  for (const std::int64_t block : vision.deepstack) {
    if (block >= vision.depth)
      fields.refuse("deepstack_visual_indexes", fmt::format("below {}", vision.depth));
  }
  if (const std::string act = fields.text("hidden_act", "gelu_pytorch_tanh");
      act != "gelu_pytorch_tanh") {
    fields.refuse("hidden_act", "gelu_pytorch_tanh");
  }
}

std::int64_t read_labels(Fields& top) {
  const Json* names = top.find("architectures");
  if (names == nullptr || !names->is_array() || names->empty() || !names->front().is_string())
    return 0;
  if (!names->front().get<std::string>().ends_with("ForTokenClassification")) return 0;
  if (top.find("num_labels") != nullptr) return top.size("num_labels");
  const Json* labels = top.find("id2label");
  if (labels == nullptr) return 2;
  if (!labels->is_object() || labels->empty())
    return top.refuse("id2label", "an object of labels"), 0;
  return static_cast<std::int64_t>(labels->size());
}

Result<const Style*> choose_style(const Json& config, const Json& text, std::string_view like,
                                  std::string& model_type) {
  const auto named = [](const Json& object) {
    const auto at = object.find("model_type");
    return at != object.end() && at->is_string() ? at->get<std::string>() : std::string();
  };
  // A wrapper without a form has none, whatever text model is in it: names and inputs are its own.
  const Style* whole = style_of(named(config));
  const bool wrapped = whole != nullptr && !whole->form;
  const std::string own = named(text).empty() || wrapped ? named(config) : named(text);
  if (const Style* style = style_of(own, like); style != nullptr && style->form) {
    model_type = style->model_type;
    return style;
  }
  const std::string name = like.empty() || style_of(own) != nullptr ? own : std::string(like);
  return fail(Code::ArchitectureUnknown,
              fmt::format("no forward form for model_type {}", escaped(name)))
      .pair(name.empty() ? "no model_type" : escaped(name), join(known_model_types(), ", "))
      .advise(
          "leave the forward claim out for this model, or state facts.computes_like in its family "
          "file");
}

}  // namespace

Result<ModelFacts> read_facts(std::string_view config_json, std::string_view like) {
  const Json config = Json::parse(config_json, nullptr, false);
  if (config.is_discarded() || !config.is_object()) {
    return fail(Code::NoConfig, "config.json is not a JSON object")
        .pair(counted(config_json.size(), "byte"), "a JSON object")
        .advise("take config.json from the model's repository again");
  }
  const auto inner = config.find("text_config");
  const bool has_text = inner != config.end() && inner->is_object();
  const Json& text = has_text ? *inner : config;
  ModelFacts facts;
  BV_TRY(style, choose_style(config, text, like, facts.model_type));
  Fields top(config, "");
  Fields fields(text, has_text ? "text_config." : "");
  read_text(fields, *style, facts);
  if (fields.error()) return *fields.error();
  facts.tied = top.flag("tie_word_embeddings", facts.model_type.starts_with("gemma"));
  facts.labels = read_labels(top);
  if (const Json* object = top.find("vision_config"); object != nullptr && has_text) {
    if (!object->is_object()) top.refuse("vision_config", "an object");
    if (top.error()) return *top.error();
    Fields vision(*object, "vision_config.");
    read_vision(vision, facts);
    if (facts.vision.deepstack.size() > facts.mixers.size()) {
      vision.refuse("deepstack_visual_indexes", fmt::format("at most {} entries", facts.layers));
    }
    facts.vision.image_token = top.integer("image_token_id");
    top.adopt(vision);
  }
  if (top.error()) return *top.error();
  return facts;
}

}  // namespace bv::oracle::forward

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

/// What one thing multiplies another by; Granite's four, Command R's one.
void read_scales(Fields& fields, const Form& form, ModelFacts& facts) {
  if (form.width_scales_embedding)
    facts.embedding_scale = std::sqrt(static_cast<double>(facts.hidden));
  if (form.multipliers) {
    facts.embedding_scale = fields.real("embedding_multiplier", 1.0);
    facts.residual_scale = fields.real("residual_multiplier", 1.0);
  }
  switch (form.logit_scale) {
    case LogitScale::None:
      break;
    case LogitScale::LogitScale:
      facts.logit_scale = fields.real("logit_scale", 0.0625);
      break;
    case LogitScale::OverLogitsScaling:
      facts.logit_scale = 1.0 / fields.positive("logits_scaling", 1.0);
      break;
    case LogitScale::TimesLogitsScaling:
      facts.logit_scale = fields.real("logits_scaling", 1.0);
      break;
  }
}

/// A cap that the class does not know is refused; null takes away one that it has.
void read_caps(Fields& fields, const Form& form, ModelFacts& facts) {
  const auto cap = [&](const char* key, double otherwise) {
    if (!form.caps && fields.find(key) != nullptr) fields.lack(key, "null");
    return form.caps && !fields.is_null(key) ? fields.positive(key, otherwise) : 0.0;
  };
  if (form.layers_differ) {  // no cap where the config has none
    if (fields.find("final_logit_softcapping") != nullptr)
      facts.logit_cap = fields.positive("final_logit_softcapping", 30.0);
    return;
  }
  facts.attention_cap = cap("attn_logit_softcapping", 50.0);
  facts.logit_cap = cap("final_logit_softcapping", 30.0);
}

void read_activation(Fields& fields, const ModelStyle& style, ModelFacts& facts) {
  const Form& form = style.computes;
  if (form.clamped_swiglu) {
    facts.activation = Activation::ClampedSwiglu;
    if (fields.real("swiglu_alpha", 1.702) != 1.702) fields.lack("swiglu_alpha", "1.702");
    if (fields.real("swiglu_limit", 7.0) != 7.0) fields.lack("swiglu_limit", "7");
    return;
  }
  constexpr std::pair<std::string_view, Activation> kKnown[] = {
      {"silu", Activation::Silu},         {"swish", Activation::Silu},
      {"gelu", Activation::Gelu},         {"gelu_pytorch_tanh", Activation::GeluTanh},
      {"gelu_new", Activation::GeluTanh}, {"relu2", Activation::Relu2},
  };
  const std::string named = fields.text(
      form.activation_field, fields.text("hidden_activation", std::string(form.activation)));
  const auto* known =
      std::ranges::find_if(kKnown, [&](const auto& one) { return one.first == named; });
  if (known == std::end(kKnown)) {
    return fields.lack(
        fields.find(form.activation_field) != nullptr ? form.activation_field : "hidden_activation",
        "silu, gelu, gelu_pytorch_tanh, gelu_new or relu2");
  }
  facts.activation = style.experts == Experts::GptOss ? Activation::ClampedSwiglu : known->second;
}

void read_mlp(Fields& fields, const ModelStyle& style, ModelFacts& facts) {
  const Form& form = style.computes;
  const bool all_moe = std::ranges::count(facts.is_moe, false) == 0;
  facts.ffn = all_moe || form.by_blocks ? fields.integer(form.ffn, 0) : fields.size(form.ffn);
  facts.gated = form.gated;
  read_activation(fields, style, facts);
  if (form.mlp_bias.empty() && fields.flag("mlp_bias", false)) fields.lack("mlp_bias", "false");
  facts.mlp_bias = form.mlp_bias_always ||
                   (!form.mlp_bias.empty() && fields.flag(form.mlp_bias, form.bias_otherwise));
}

void read_norms(Fields& fields, const ModelStyle& style, ModelFacts& facts) {
  const Form& form = style.computes;
  facts.norm = form.norm;
  facts.eps = form.eps.empty() ? form.eps_otherwise : fields.positive(form.eps, form.eps_otherwise);
  facts.zero_centred = style.norms == Norms::Offsets;
  facts.megatron_zero_centred = facts.zero_centred;
  facts.placement = form.placement;
  facts.norms_beside_blocks = form.norms_beside_blocks;
  if (!form.placed_by.empty() && !fields.flag(form.placed_by, form.placed_by_otherwise))
    facts.placement = form.placed_otherwise;
}

void read_text(Fields& fields, const Style& style, ModelFacts& facts) {
  const Form& form = style.computes;
  facts.hidden = fields.size("hidden_size");
  facts.vocab = fields.size("vocab_size");
  const Json kinds = form.mamba == MambaKind::LayerByLayer ? hybrid_kinds(fields) : Json::array();
  const auto listed = static_cast<std::int64_t>(kinds.size());
  facts.layers = listed > 0 ? listed : fields.size("num_hidden_layers", {}, kLayersMax);
  facts.names = form.names;
  facts.head_bias = form.head_bias && fields.flag("lm_head_bias", form.head_bias_otherwise);
  read_norms(fields, style, facts);
  read_attention(fields, style, facts);
  read_delta(fields, style, facts);
  read_scales(fields, form, facts);
  read_caps(fields, form, facts);
  read_ropes(fields, form, facts);
  read_layers(fields, style, facts);
  read_mamba(fields, style, facts);
  read_moe(fields, style, facts);
  read_mlp(fields, style, facts);
  if (form.layers_differ) read_layer_sizes(fields, facts);
  if (form.by_blocks) read_block_configs(fields, facts);
  if (form.by_pattern) read_layer_pattern(fields, facts);
  facts.mtp_behind_layers = form.mtp_behind;
  facts.mtp_layers = form.mtp.empty() ? 0 : fields.integer(form.mtp, 0);
  const bool several = facts.mtp_behind_layers || !facts.names.mtp_list.empty();
  const std::int64_t depths_max = several ? kMtpDepthsMax : 1;
  if (facts.mtp_layers > depths_max) fields.lack(form.mtp, fmt::format("0 to {}", depths_max));
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
    fields.lack("hidden_act", "gelu_pytorch_tanh");
  }
}

/// Classifiers of tokens have a bias, those of whole sequences none (transformers 5).
std::int64_t read_labels(Fields& top, ModelFacts& facts) {
  const Json* names = top.find("architectures");
  if (names == nullptr || !names->is_array() || names->empty() || !names->front().is_string())
    return 0;
  const auto name = names->front().get<std::string>();
  facts.label_bias = name.ends_with("ForTokenClassification");
  if (!facts.label_bias && !name.ends_with("ForSequenceClassification")) return 0;
  if (top.find("num_labels") != nullptr) return top.size("num_labels");
  const Json* labels = top.find("id2label");
  if (labels == nullptr) return 2;
  if (!labels->is_object() || labels->empty())
    return top.refuse("id2label", "an object of labels"), 0;
  return static_cast<std::int64_t>(labels->size());
}

std::string type_named(const Json& object) {
  const auto at = object.find("model_type");
  return at != object.end() && at->is_string() ? at->get<std::string>() : std::string();
}

/// The row of a wrapper whose text part alone has a form; nullptr for another model.
const Style* wrapper_of(const Json& config) {
  const Style* whole = style_of(type_named(config));
  return whole != nullptr && whole->form && !whole->computes.wraps.empty() ? whole : nullptr;
}

Result<const Style*> choose_style(const Json& config, const Json& text, std::string_view like,
                                  std::string& model_type) {
  // A wrapper without a form has none, whatever text model is in it: names and inputs are its own.
  const Style* whole = style_of(type_named(config));
  const Style* wrapper = wrapper_of(config);
  const bool lacking = whole != nullptr && !whole->form;
  std::string own = type_named(text).empty() || lacking ? type_named(config) : type_named(text);
  if (wrapper != nullptr) {
    const Style* inner = style_of(type_named(text));
    if (inner == nullptr || inner == wrapper) own = wrapper->computes.wraps;
  }
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

/// The object with the sizes of the text model and its path, "" for the whole.
std::pair<const Json*, std::string> text_part(const Json& config) {
  const Json* at = &config;
  std::string path;
  for (const char* key : {"thinker_config", "llm_config", "text_config"}) {
    const auto inner = at->find(key);
    if (inner == at->end() || !inner->is_object()) continue;
    at = &*inner;
    path += std::string(key) + ".";
  }
  return {at, path};
}

}  // namespace

Result<ModelFacts> read_facts(std::string_view config_json, std::string_view like) {
  const Json config = Json::parse(config_json, nullptr, false);
  if (config.is_discarded() || !config.is_object()) {
    return fail(Code::NoConfig, "config.json is not a JSON object")
        .pair(counted(config_json.size(), "byte"), "a JSON object")
        .advise("take config.json from the model's repository again");
  }
  const auto [part, path] = text_part(config);
  const bool has_text = !path.empty();
  ModelFacts facts;
  BV_TRY(style, choose_style(config, *part, like, facts.model_type));
  Fields top(config, "");
  Fields fields(*part, path);
  read_text(fields, *style, facts);
  if (fields.error()) return *fields.error();
  facts.tied = top.flag("tie_word_embeddings", style->computes.tied_otherwise);
  if (const Style* wrapper = wrapper_of(config)) {
    facts.names.body = wrapper->computes.names.body;
    facts.names.head = wrapper->computes.names.head;
    const Form& form = wrapper->computes;
    const bool inner = form.text_ties && fields.flag("tie_word_embeddings", false);
    if (const Json* thinker = top.find("thinker_config");
        thinker != nullptr && thinker->is_object() && !form.text_alone_ties) {
      Fields own(*thinker, "thinker_config.");  // the class of the thinker has the head
      facts.tied = own.flag("tie_word_embeddings", false);
      top.adopt(own);
    } else {
      facts.tied = form.text_alone_ties
                       ? inner
                       : top.flag("tie_word_embeddings", form.tied_otherwise || inner);
    }
    facts.mtp_layers = 0;
    if (fields.error()) return *fields.error();
    if (top.error()) return *top.error();
    return facts;
  }
  facts.labels = read_labels(top, facts);
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

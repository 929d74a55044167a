// The Mamba 2 mixers that a config asks for, and which layers have them.
#include <algorithm>

#include "core/base/text.hpp"
#include "oracles/forward/config_fields.hpp"

namespace bv::oracle::forward {
namespace {

/// Falcon-H1: a mixer beside attention in every layer, and numbers that multiply.
void read_falcon(Fields& fields, ModelFacts& facts) {
  MambaFacts& mamba = facts.mamba;
  mamba.heads = fields.size("mamba_n_heads", 128);
  mamba.groups = fields.size("mamba_n_groups", 1);
  mamba.state = fields.size("mamba_d_state", 256);
  mamba.kernel = fields.size("mamba_d_conv", 4);
  const std::int64_t inner = fields.find("mamba_d_ssm") != nullptr
                                 ? fields.size("mamba_d_ssm")
                                 : fields.size("mamba_expand", 2) * facts.hidden;
  mamba.head_dim = inner / mamba.heads;
  mamba.norm = fields.flag("mamba_rms_norm", false);
  mamba.norm_before_gate = fields.flag("mamba_norm_before_gate", true);
  if (inner % mamba.heads != 0) fields.refuse("mamba_d_ssm", "a multiple of mamba_n_heads");
  mamba.in_scale = fields.real("ssm_in_multiplier", 1.0);
  mamba.out_scale = fields.real("ssm_out_multiplier", 1.0);
  facts.attention_in_scale = fields.real("attention_in_multiplier", 1.0);
  facts.attention_out_scale = fields.real("attention_out_multiplier", 1.0);
  facts.key_scale = fields.real("key_multiplier", 1.0);
  facts.embedding_scale = fields.real("embedding_multiplier", 1.0);
  facts.logit_scale = fields.real("lm_head_multiplier", 1.0);
  const auto parts = fields.reals("ssm_multipliers", mamba.part_scales.size(), 1.0);
  std::copy(parts.begin(), parts.end(), mamba.part_scales.begin());
  const auto mlp = fields.reals("mlp_multipliers", 2, 1.0);
  facts.gate_scale = mlp[0];
  facts.down_scale = mlp[1];
  std::ranges::fill(facts.mixers, Mixer::MambaAndAttention);
}

/// The kind of layer `i` as a word of layers_block_type or a letter of the pattern.
void read_block(Fields& fields, const Json& kind, std::size_t i, ModelFacts& facts) {
  const auto is = [&](const char* word, const char* letter) {
    return kind == word || kind == letter;
  };
  const bool mixer = is("mamba", "M") || is("attention", "*");
  facts.blocks[i] = mixer ? Block::MixerAlone : Block::MlpAlone;
  if (is("mamba", "M")) facts.mixers[i] = Mixer::Mamba;
  if (!mixer && !is("moe", "E") && !is("mlp", "-"))
    fields.refuse("layers_block_type", "mamba, attention, mlp or moe for each layer");
}

void read_nemotron(Fields& fields, ModelFacts& facts) {
  MambaFacts& mamba = facts.mamba;
  mamba.heads = fields.size("mamba_num_heads", 128);
  mamba.head_dim = fields.size("mamba_head_dim", 64, kHeadDimMax);
  mamba.groups = fields.size("n_groups", 8);
  mamba.state = fields.size("ssm_state_size", 128);
  mamba.kernel = fields.size("conv_kernel", 4);
  facts.moe.latent = fields.integer("moe_latent_size", 0);
  const Json kinds = hybrid_kinds(fields);
  if (kinds.size() != facts.mixers.size() || kinds.size() > kLayersMax)
    return fields.refuse("layers_block_type", counted(facts.mixers.size(), "entry"));
  if (fields.text("mamba_hidden_act", "silu") != "silu") fields.lack("mamba_hidden_act", "silu");
  for (std::size_t i = 0; i < facts.mixers.size(); ++i) read_block(fields, kinds[i], i, facts);
}

}  // namespace

Json hybrid_kinds(Fields& fields) {
  if (const Json* words = fields.find("layers_block_type"); words != nullptr && words->is_array())
    return *words;
  if (fields.find("layers_block_type") == nullptr &&
      fields.find("hybrid_override_pattern") == nullptr)
    return Json::array({"mamba", "moe", "attention", "mlp"});  // the class's own
  Json letters = Json::array();
  for (const char letter : fields.text("hybrid_override_pattern", ""))
    letters.push_back(std::string(1, letter));
  return letters;
}

void read_mamba(Fields& fields, const ModelStyle& style, ModelFacts& facts) {
  facts.blocks.assign(static_cast<std::size_t>(facts.layers), Block::Both);
  if (style.computes.mamba == MambaKind::None) return;
  if (style.computes.mamba == MambaKind::BesideAttention) read_falcon(fields, facts);
  if (style.computes.mamba == MambaKind::LayerByLayer) read_nemotron(fields, facts);
  if (facts.mamba.groups == 0 || facts.mamba.heads % facts.mamba.groups != 0)
    fields.refuse("mamba_n_groups", "a divisor of the Mamba heads");
}

}  // namespace bv::oracle::forward

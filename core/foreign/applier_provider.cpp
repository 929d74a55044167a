// The provider of the bridge builds a model of its own sizes: rules that are right for the
// checkpoint are wrong for another model, of which the shapes may be the same.

#include <fmt/format.h>

#include <algorithm>

#include "core/base/text.hpp"
#include "core/family/symbols.hpp"
#include "core/foreign/applier.hpp"
#include "core/foreign/parameter.hpp"
#include "core/foreign/pattern.hpp"
#include "core/foreign/shown.hpp"

namespace bv::foreign {
namespace {

constexpr const char* kCorrect = "correct provider_bridge of the bridge class";

/// The first rule that makes a text parameter of this end.
const ForeignRule* rule_for_end(const ForeignRules& rules, std::string_view end) {
  const auto found =
      std::find_if(rules.rules.begin(), rules.rules.end(), [end](const ForeignRule& rule) {
        return rule.megatron.ends_with(end) || has_double_star(rule.megatron);
      });
  return found == rules.rules.end() ? nullptr : &*found;
}

}  // namespace

bool is_of_text(const ForeignRules& rules) {
  return std::any_of(rules.rules.begin(), rules.rules.end(),
                     [](const ForeignRule& rule) { return rule.megatron.ends_with(kEmbedding); });
}

/// 8 heads of 10 in 4 groups and 4 heads of 20 in 2 have tensors of the same shapes, in another
/// order.
void Applier::report_provider_sizes() {
  if (!is_of_text(rules_)) {
    return;
  }
  struct Pair {
    const char* fact;
    std::string_view symbol;
    bool latent;  // MLA has it too
  };
  const Pair pairs[] = {{"num_attention_heads", "num_attention_heads", true},
                        {"num_query_groups", "num_query_groups", false},
                        {"kv_channels", "head_dim", false},
                        {"hidden_size", "hidden_size", true},
                        {"num_layers", family::symbols::kLayers, true},
                        {"num_moe_experts", family::symbols::kExperts, true},
                        {"vocab_size", "vocab_size", true}};
  for (const Pair& pair : pairs) {
    const auto built = rules_.provider.sizes.find(pair.fact);
    const auto stored = out_.model.geometry.get(pair.symbol);
    if (built == rules_.provider.sizes.end() || !stored || *stored <= 0 ||
        (rules_.row_facts.latent_attention && !pair.latent)) {
      continue;
    }
    const auto origin = out_.model.geometry.origin.find(pair.symbol);
    if (origin != out_.model.geometry.origin.end() &&
        origin->second == "the names of the checkpoint") {
      continue;  // counted over whatever has numbers
    }
    const bool padded = std::string_view(pair.fact) == "vocab_size" && built->second > *stored;
    if (built->second == *stored || padded) {
      continue;
    }
    out_.model.faults.push_back(
        {Code::ShapeMismatch, fmt::format("facts.{}", pair.fact),
         fmt::format("the provider builds a model whose {} is {}, and the checkpoint has {}",
                     pair.fact, built->second, *stored),
         fmt::format("facts.{} is {}", pair.fact, built->second),
         fmt::format(
             "{}, by {}", *stored,
             origin == out_.model.geometry.origin.end() ? "the config" : shown(origin->second)),
         kCorrect});
  }
}

/// An MTP layer that is built and not stored would keep random values.
void Applier::report_provider_mtp() {
  const auto built = rules_.provider.sizes.find("mtp_num_layers");
  const std::int64_t stored = out_.model.mtp_layers;
  if (built == rules_.provider.sizes.end() || built->second <= stored) {
    return;
  }
  out_.model.faults.push_back({Code::MegatronParamUnfilled, "facts.mtp_num_layers",
                               fmt::format("the provider builds {}, and the checkpoint has {}",
                                           counted(built->second, "MTP layer"), stored),
                               fmt::format("facts.mtp_num_layers is {}", built->second),
                               fmt::format("at most {}", stored), kCorrect});
}

/// Parameters that the provider asks for, and no rule fills.
void Applier::report_provider_flags() {
  if (!is_of_text(rules_)) {
    return;
  }
  const auto flag = [this](const char* name, bool value) {
    const auto found = rules_.provider.flags.find(name);
    return found != rules_.provider.flags.end() && found->second == value;
  };
  const bool latent = rules_.row_facts.latent_attention;
  struct Asked {
    const char* fact;
    const char* parameter;
  };
  for (const Asked& asked : {Asked{"add_qkv_bias", "self_attention.linear_qkv.bias"},
                             Asked{"add_bias_linear", "self_attention.linear_proj.bias"},
                             Asked{"qk_layernorm", "self_attention.q_layernorm.weight"}}) {
    if (!latent && flag(asked.fact, true) && has_attention() &&
        rule_for_end(rules_, asked.parameter) == nullptr) {
      out_.model.faults.push_back(
          {Code::MegatronParamWithoutRule, shown(asked.parameter),
           fmt::format("the provider builds {} in every layer, and no rule makes it",
                       asked.parameter),
           fmt::format("facts.{} is true", asked.fact), "a rule for it, or false", kCorrect});
    }
  }
  const ForeignRule* const head = rule_for_end(rules_, kOutput);
  const bool has_head = head != nullptr && head->hf.size() == 1 &&
                        !has_double_star(head->megatron) &&
                        headers_.contains(head->hf.front().second);
  if (flag("share_embeddings_and_output_weights", true) && has_head && !out_.model.tied) {
    out_.model.faults.push_back(
        {Code::TiedEmbeddings, shown(head->hf.front().second),
         "the provider ties the embeddings, and the checkpoint has an output layer of its own",
         "facts.share_embeddings_and_output_weights is true", "false", kCorrect});
  }
  if (flag("share_embeddings_and_output_weights", false) && out_.model.tied && !has_head) {
    out_.model.faults.push_back(
        {Code::TiedEmbeddings, std::string(kOutput),
         "the provider builds an output layer of its own, and the checkpoint, whose embeddings are "
         "tied, has no tensor for it",
         "facts.share_embeddings_and_output_weights is false", "true", kCorrect});
  }
  const ForeignRule* const fc1 = rule_for_end(rules_, "mlp.linear_fc1.weight");
  const bool gated =
      fc1 != nullptr && std::any_of(fc1->hf.begin(), fc1->hf.end(),
                                    [](const auto& one) { return one.first == "gate"; });
  if (flag("gated_linear_unit", false) && gated && takes_[fc1->position]) {
    out_.model.faults.push_back({Code::ShapeMismatch, shown(fc1->megatron),
                                 "the provider builds an MLP without a gate, and a rule brings one",
                                 "facts.gated_linear_unit is false",
                                 "true, or a rule without a gate", kCorrect});
  }
}

bool Applier::has_attention() const {
  for (const ForeignRule& rule : rules_.rules) {
    if (takes_[rule.position] &&
        rule.megatron.find("decoder.layers.*.self_attention.linear_qkv.weight") !=
            std::string::npos) {
      return true;
    }
  }
  return false;
}

}  // namespace bv::foreign

// What the provider builds, held against the tensors that the rules read, where no list of the
// built parameters says it: sizes of MLPs, experts and latent attention, gates, norms and their
// biases, and the rows of a head that turn.

#include <fmt/format.h>

#include <algorithm>
#include <array>

#include "core/base/text.hpp"
#include "core/foreign/applier.hpp"
#include "core/foreign/parameter.hpp"
#include "core/foreign/pattern.hpp"
#include "core/foreign/shown.hpp"

namespace bv::foreign {
namespace {

constexpr const char* kBridge = "correct provider_bridge of the bridge class";
constexpr std::string_view kStandardSpec = "megatron.bridge.models.gpt_provider.";

/// Elements that a packed or quantised tensor keeps several of in one number are not its shape.
bool counts_elements(const TensorSpec& tensor) {
  return is_float(tensor.dtype);
}

const std::string* source_of(const ForeignRule& rule, std::string_view role) {
  const auto found = std::find_if(rule.hf.begin(), rule.hf.end(),
                                  [role](const auto& one) { return one.first == role; });
  return found == rule.hf.end() ? nullptr : &found->second;
}

/// A rule of the decoder's layers, of a text model inside another too.
bool is_of_layer(const ForeignRule& rule, std::string_view end) {
  const std::size_t at = rule.megatron.find("decoder.layers.");
  const bool tower = rule.megatron.find("vision") != std::string::npos ||
                     rule.megatron.find("audio") != std::string::npos;
  return at != std::string::npos && !tower && rule.megatron.ends_with(end);
}

}  // namespace

std::optional<std::int64_t> Applier::built(std::string_view fact) const {
  const auto found = rules_.provider.sizes.find(fact);
  return found == rules_.provider.sizes.end() ? std::nullopt : std::optional(found->second);
}

bool Applier::is_built(std::string_view fact, bool value) const {
  const auto found = rules_.provider.flags.find(fact);
  return found != rules_.provider.flags.end() && found->second == value;
}

/// The first tensor that a rule reads as `role`.
const TensorSpec* Applier::read_as(const ForeignRule& rule, std::string_view role) const {
  const std::string* const pattern = source_of(rule, role);
  if (pattern == nullptr || !takes_[rule.position] || faulty_[rule.position]) {
    return nullptr;
  }
  const auto found = names_.readable_by(*pattern);
  return found.empty() ? nullptr : &found.front().entry->second;
}

void Applier::contradicts(const std::string& fact, const ForeignRule& rule,
                          const TensorSpec& tensor, std::int64_t wanted, std::int64_t stored) {
  const std::string& spec = rules_.provider.layer_spec;
  told_of(rule, spec.starts_with(kStandardSpec),
          {Code::ShapeMismatch, "facts." + fact,
           fmt::format("the provider builds {} of another size than {} reads", shown(rule.megatron),
                       named(rule)),
           fmt::format("{} by facts.{}", wanted, fact),
           fmt::format("{}, by {} of {}", stored, shown(tensor.name), shape_text(tensor.shape)),
           kBridge});
}

/// A layer specification of the bridge's own may build what the settings do not say.
void Applier::told_of(const ForeignRule& rule, bool standard, model::NameFault fault) {
  if (standard) {
    out_.model.faults.push_back(std::move(fault));
    return;
  }
  OpenQuestion question;
  question.code = Code::ParametersUnknown;
  question.subject = fault.subject;
  question.message = fault.message + "; layers of the bridge's own may build it otherwise";
  question.found = fault.found;
  question.wanted = "model.parameters, or " + fault.wanted;
  question.help = "export the rules again with --mode model";
  question.answer = OpenQuestion::Answer::Undecided;
  question.rule = shown(rule.id);
  question.source = rule.source;
  out_.open.push_back(std::move(question));
}

/// The width of an MLP is the dimension of its way down that is not the hidden size.
void Applier::report_provider_widths() {
  struct Width {
    const char* fact;
    std::string_view end;
  };
  const auto hidden = built("hidden_size");
  for (const Width& width :
       {Width{"ffn_hidden_size", "mlp.linear_fc2.weight"},
        Width{"moe_ffn_hidden_size", "mlp.experts.linear_fc2.weight*"},
        Width{"moe_ffn_hidden_size", "mlp.experts.local_experts.*.linear_fc2.weight"},
        Width{"moe_shared_expert_intermediate_size", "mlp.shared_experts.linear_fc2.weight"}}) {
    const auto wanted = built(width.fact);
    for (const ForeignRule& rule : rules_.rules) {
      const TensorSpec* const tensor = is_of_layer(rule, width.end) ? read_as(rule, "") : nullptr;
      if (!wanted || !hidden || tensor == nullptr || !counts_elements(*tensor) ||
          tensor->shape.size() < 2 || tensor->shape.size() > 3) {
        continue;
      }
      const std::int64_t last = tensor->shape.back();
      const std::int64_t first = tensor->shape[tensor->shape.size() - 2];
      const bool fits =
          (first == *hidden && last == *wanted) || (last == *hidden && first == *wanted);
      if (!fits && (first == *hidden || last == *hidden)) {
        contradicts(width.fact, rule, *tensor, *wanted, first == *hidden ? last : first);
        break;
      }
    }
  }
}

/// Rows of the projections of attention.
void Applier::report_provider_attention() {
  struct Rows {
    std::string_view end;
    const char* each;  // "" for one
    std::array<const char*, 2> sum;
  };
  for (const Rows& rows :
       {Rows{"self_attention.linear_q_down_proj.weight", "", {"q_lora_rank", ""}},
        Rows{"self_attention.linear_kv_down_proj.weight",
             "",
             {"kv_lora_rank", "qk_pos_emb_head_dim"}},
        Rows{"self_attention.linear_q_up_proj.weight",
             "num_attention_heads",
             {"qk_head_dim", "qk_pos_emb_head_dim"}},
        Rows{"self_attention.linear_kv_up_proj.weight",
             "num_attention_heads",
             {"qk_head_dim", "v_head_dim"}}}) {
    const auto first = built(rows.sum[0]);
    const auto second = *rows.sum[1] == '\0' ? std::optional<std::int64_t>(0) : built(rows.sum[1]);
    const auto each = *rows.each == '\0' ? std::optional<std::int64_t>(1) : built(rows.each);
    for (const ForeignRule& rule : rules_.rules) {
      const TensorSpec* const tensor = is_of_layer(rule, rows.end) ? read_as(rule, "") : nullptr;
      if (!rules_.row_facts.latent_attention || !first || !second || !each || tensor == nullptr ||
          !counts_elements(*tensor) || tensor->shape.size() != 2) {
        continue;
      }
      const std::int64_t wanted = *each * (*first + *second);
      if (tensor->shape.front() != wanted) {
        contradicts(rows.sum[0], rule, *tensor, wanted, tensor->shape.front());
        break;
      }
    }
  }
  const auto heads = built("num_attention_heads");
  const auto head = built("kv_channels");
  for (const ForeignRule& rule : rules_.rules) {
    const TensorSpec* const q =
        is_of_layer(rule, "self_attention.linear_qkv.weight") && source_of(rule, "gate") == nullptr
            ? read_as(rule, "q")
            : nullptr;
    if (!heads || !head || q == nullptr || !counts_elements(*q) || q->shape.size() != 2) {
      continue;
    }
    const std::int64_t rows = *heads * *head;
    if ((is_built("attention_output_gate", true) && q->shape.front() == rows) ||
        (is_built("attention_output_gate", false) && q->shape.front() == 2 * rows)) {
      const bool gated = is_built("attention_output_gate", true);
      contradicts("attention_output_gate", rule, *q, gated ? 2 * rows : rows, q->shape.front());
      break;
    }
  }
}

/// Parameters of which the provider builds none, and a rule brings some; or the other way round.
void Applier::report_provider_parts() {
  const auto fires = [this](std::string_view end) -> const ForeignRule* {
    for (const ForeignRule& rule : rules_.rules) {
      if (is_of_layer(rule, end) && takes_[rule.position] && !faulty_[rule.position] &&
          std::any_of(rule.hf.begin(), rule.hf.end(), [this](const auto& one) {
            return !names_.readable_by(one.second).empty();
          })) {
        return &rule;
      }
    }
    return nullptr;
  };
  const ForeignRule* const norm = fires("self_attention.q_layernorm.weight");
  if (norm != nullptr && is_built("qk_layernorm", false) && !rules_.row_facts.latent_attention) {
    told_of(*norm, rules_.provider.layer_spec.starts_with(kStandardSpec),
            {Code::ShapeMismatch, shown(norm->megatron),
             fmt::format("the provider builds no {}, and {} brings it", shown(norm->megatron),
                         named(*norm)),
             "facts.qk_layernorm is false", "true, or no rule for norms of q and k", kBridge});
  }
  const auto has_rule = [this](std::string_view part) {
    return std::any_of(rules_.rules.begin(), rules_.rules.end(), [part](const ForeignRule& rule) {
      return rule.megatron.find(part) != std::string::npos || has_double_star(rule.megatron);
    });
  };
  const auto unfilled = [this](std::string_view parameter, std::string found) {
    out_.model.faults.push_back(
        {Code::MegatronParamWithoutRule, std::string(parameter),
         fmt::format("the provider builds {}, and no rule makes it", parameter), std::move(found),
         "a rule for it, or a provider without it", kBridge});
  };
  if (rules_.provider.normalization == "LayerNorm" && has_attention() &&
      !has_rule("layer_norm_bias") && !has_rule("layernorm.bias")) {
    unfilled("self_attention.linear_qkv.layer_norm_bias", "facts.normalization is LayerNorm");
  }
  const auto latent = built("moe_latent_size");
  if (latent && *latent > 0 && has_rule("mlp.experts.") && !has_rule("latent_proj")) {
    unfilled("mlp.fc1_latent_proj.weight", fmt::format("facts.moe_latent_size is {}", *latent));
  }
  const auto shared = built("moe_shared_expert_intermediate_size");
  if (shared && *shared > 0 && has_rule("mlp.experts.") && !has_rule("shared_expert")) {
    unfilled("mlp.shared_experts.linear_fc2.weight",
             fmt::format("facts.moe_shared_expert_intermediate_size is {}", *shared));
  }
  if (is_built("moe_router_enable_expert_bias", true) && has_rule("mlp.experts.") &&
      !has_rule("router.expert_bias")) {
    unfilled("mlp.router.expert_bias", "facts.moe_router_enable_expert_bias is true");
  }
  if (rules_.provider.positions == "learned_absolute" && !has_rule("position_embeddings")) {
    unfilled("embedding.position_embeddings.weight",
             "facts.position_embedding_type is learned_absolute");
  }
}

/// Layers that the provider builds with experts are those of which a rule brings a router.
void Applier::report_provider_layers() {
  const std::vector<std::int64_t>& built_with = rules_.provider.expert_layers;
  for (const ForeignRule& rule : rules_.rules) {
    const std::string* const pattern = source_of(rule, "");
    if (built_with.empty() || pattern == nullptr || !is_of_layer(rule, "mlp.router.weight") ||
        wildcards(*pattern) != 1 || !takes_[rule.position] || faulty_[rule.position]) {
      continue;
    }
    std::set<std::string> stored;
    for (const NameIndex::Taken& taken : names_.taken_by(*pattern)) {
      stored.insert(taken.captures.front());
    }
    for (std::size_t layer = 0; layer < built_with.size() && !stored.empty(); ++layer) {
      const bool wanted = built_with[layer] != 0;
      if (wanted != stored.contains(std::to_string(layer))) {
        out_.model.faults.push_back(
            {Code::ShapeMismatch, "facts.moe_layer_freq",
             fmt::format("the provider builds layer {} {} experts, and the checkpoint has it {}",
                         layer, wanted ? "with" : "without", wanted ? "without" : "with"),
             fmt::format("facts.moe_layer_freq is {} at {}", built_with[layer], layer),
             fmt::format("{}, by {}", wanted ? 0 : 1, shown(*pattern)), kBridge});
        return;
      }
    }
  }
}

void Applier::report_provider_built() {
  if (!is_of_text(rules_)) {
    return;
  }
  report_provider_widths();
  report_provider_attention();
  report_provider_parts();
  report_provider_layers();
}

/// Rows of a head that turn on one side alone are another model, wherever they lie.
void Applier::report_turning_rows() {
  const RowFacts& facts = rules_.row_facts;
  if (!facts.megatron_rows || facts.latent_attention || facts.hf_rows == facts.megatron_rows) {
    return;
  }
  const std::string found =
      fmt::format("Megatron rotates {} rows of a head, by facts.rotary_rows", *facts.megatron_rows);
  if (facts.hf_rows) {
    out_.model.faults.push_back({Code::WrongPlacement, "facts.rotary_percent",
                                 "the provider rotates another part of a head than HF's class",
                                 found, fmt::format("HF's class rotates {}", *facts.hf_rows),
                                 kBridge});
    return;
  }
  OpenQuestion question;
  question.code = Code::NoTargetLayout;
  question.subject = "facts.rotary_percent";
  question.message =
      "the provider rotates a part of each head, and what HF's class rotates is not known";
  question.found = found;
  question.wanted = "facts.rotary_rows of both sides";
  question.help =
      "correct the provider, or compute both models on the real weights: no claim here judges it";
  question.answer = OpenQuestion::Answer::Undecided;
  out_.open.push_back(std::move(question));
}

}  // namespace bv::foreign

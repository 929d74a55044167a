#pragma once
// Checkpoints of architectures that no family knows, with rules for them, built part by part.

#include <fmt/format.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <nlohmann/json.hpp>

#include "core/foreign/rules_apply.hpp"
#include "core/foreign/usual.hpp"

namespace bv::foreign::test {

using nlohmann::json;

inline const ForeignKinds& all_kinds() {
  static const ForeignKinds kinds = foreign_kinds().value();
  return kinds;
}

class NewModel {
 public:
  json config = {{"architectures", {"NewForCausalLM"}}, {"model_type", "new"}};
  Headers headers;
  json rules = json::array();
  json extra = json::object();  // further keys of the rules file
  model::ResolveOptions options;
  std::string m = "decoder.layers.*.";  // before the parameters of a layer
  std::string h = "model.layers.*.";

  NewModel& tensor(const std::string& name, Shape shape) {
    headers[name] = {name, DType::BF16, std::move(shape)};
    return *this;
  }
  /// `name` below model.layers.{i}. for every layer.
  NewModel& per_layer(const std::string& name, const Shape& shape) {
    return per_layer(name, shape, 0, layers);
  }
  NewModel& per_layer(const std::string& name, const Shape& shape, int from, int to) {
    for (int i = from; i < to; ++i) {
      std::string full = h + name;
      full.replace(full.find('*'), 1, std::to_string(i));
      tensor(full, shape);
    }
    return *this;
  }
  NewModel& rule(const std::string& kind, const std::string& megatron, const json& hf,
                 const json& parameters = {}) {
    rules.push_back({{"id", fmt::format("r{}", rules.size())},
                     {"kind", kind},
                     {"megatron", megatron},
                     {"hf", hf}});
    if (!parameters.is_null()) {
      rules.back()["parameters"] = parameters;
    }
    return *this;
  }
  NewModel& layer_rule(const std::string& kind, const std::string& megatron, const json& hf,
                       const json& parameters = {}) {
    json full = hf;
    if (hf.is_string()) {
      full = h + hf.get<std::string>();
    } else {
      for (auto& [role, name] : full.items()) {
        name = h + name.get<std::string>();
      }
    }
    return rule(kind, m + megatron, full, parameters);
  }

  NewModel& sizes() {
    config.update({{"hidden_size", 24},
                   {"num_hidden_layers", layers},
                   {"num_attention_heads", 8},
                   {"num_key_value_heads", 4},
                   {"head_dim", 4},
                   {"intermediate_size", 40},
                   {"vocab_size", 92},
                   {"tie_word_embeddings", false}});
    return *this;
  }
  NewModel& ends() {
    tensor("model.embed_tokens.weight", {92, 24});
    tensor("model.norm.weight", {24});
    tensor("lm_head.weight", {92, 24});
    rule("auto", "embedding.word_embeddings.weight", "model.embed_tokens.weight");
    rule("auto", "decoder.final_layernorm.weight", "model.norm.weight");
    return rule("auto", "output_layer.weight", "lm_head.weight");
  }
  NewModel& attention() {
    per_layer("self_attn.q_proj.weight", {32, 24});
    per_layer("self_attn.k_proj.weight", {16, 24});
    per_layer("self_attn.v_proj.weight", {16, 24});
    per_layer("self_attn.o_proj.weight", {24, 32});
    layer_rule("qkv", "self_attention.linear_qkv.weight",
               {{"q", "self_attn.q_proj.weight"},
                {"k", "self_attn.k_proj.weight"},
                {"v", "self_attn.v_proj.weight"}});
    return layer_rule("auto", "self_attention.linear_proj.weight", "self_attn.o_proj.weight");
  }
  NewModel& mlp() {
    per_layer("mlp.gate_proj.weight", {40, 24});
    per_layer("mlp.up_proj.weight", {40, 24});
    per_layer("mlp.down_proj.weight", {24, 40});
    layer_rule("gated_mlp", "mlp.linear_fc1.weight",
               {{"gate", "mlp.gate_proj.weight"}, {"up", "mlp.up_proj.weight"}});
    return layer_rule("auto", "mlp.linear_fc2.weight", "mlp.down_proj.weight");
  }
  NewModel& norms() {
    per_layer("input_layernorm.weight", {24});
    per_layer("post_attention_layernorm.weight", {24});
    layer_rule("auto", "self_attention.linear_qkv.layer_norm_weight", "input_layernorm.weight");
    return layer_rule("auto", "mlp.linear_fc1.layer_norm_weight",
                      "post_attention_layernorm.weight");
  }
  /// Llama under another name.
  static NewModel plain() {
    NewModel out;
    out.sizes().ends().attention().mlp().norms();
    return out;
  }

  NewModel& forget(const std::string& end) {
    for (std::size_t i = rules.size(); i-- > 0;) {
      if (rules[i]["megatron"].get<std::string>().ends_with(end)) {
        rules.erase(i);
      }
    }
    return *this;
  }
  json& rule_for(const std::string& end) {
    for (json& row : rules) {
      if (row["megatron"].get<std::string>().ends_with(end)) {
        return row;
      }
    }
    ADD_FAILURE() << end;
    return rules.front();
  }

  [[nodiscard]] std::string rules_text() const {
    json file = extra;
    file["schema"] = "bridge-rules/1";
    file["rules"] = rules;
    return file.dump(1);
  }
  [[nodiscard]] AppliedRules applied() const {
    auto parsed = parse_rules_file(rules_text(), "new.rules.json");
    EXPECT_TRUE(parsed.has_value()) << parsed.error().message;
    const auto usual =
        model::resolve(usual_family().value(), flat_config(config), headers, options);
    EXPECT_TRUE(usual.has_value()) << usual.error().message;
    auto out = apply_rules_alone(*usual, config, *parsed, all_kinds(), headers, options);
    EXPECT_TRUE(out.has_value()) << out.error().message;
    return std::move(out).value();
  }

  int layers = 3;
};

/// "BV1003 decoder.layers.0.x" for each fault, then "undecided BV1019 the list of parameters", ...
inline std::vector<std::string> told(const AppliedRules& applied) {
  std::vector<std::string> out;
  for (const model::NameFault& fault : applied.model.faults) {
    out.push_back(fmt::format("fault {} {}", label(fault.code), fault.subject));
  }
  for (const OpenQuestion& question : applied.open) {
    const char* answer = question.answer == OpenQuestion::Answer::Undecided     ? "undecided"
                         : question.answer == OpenQuestion::Answer::Unsupported ? "unsupported"
                                                                                : "refuted";
    out.push_back(fmt::format("{} {} {}", answer, label(question.code), question.subject));
  }
  std::sort(out.begin(), out.end());
  return out;
}

/// What nobody can say without a list of parameters.
inline const std::string kOpenList = "undecided BV1019 the list of parameters";

inline bool makes(const AppliedRules& applied, const std::string& name) {
  return std::any_of(applied.model.mappings.begin(), applied.model.mappings.end(),
                     [&](const model::Mapping& mapping) {
                       return applied.model.megatron_name(mapping, 0) == name;
                     });
}

/// Every HF tensor is moved, left out for a reason, or told of.
inline std::vector<std::string> unaccounted(const NewModel& model, const AppliedRules& applied) {
  std::set<std::string> known(applied.model.ignored.begin(), applied.model.ignored.end());
  known.insert(applied.model.dropped.begin(), applied.model.dropped.end());
  std::size_t told = known.size();
  for (const model::Mapping& mapping : applied.model.mappings) {
    known.insert(mapping.hf.begin(), mapping.hf.end());
    told += mapping.hf.size();
  }
  for (const OpenQuestion& question : applied.open) {
    known.insert(question.hf.begin(), question.hf.end());
    told += question.hf.size();
  }
  EXPECT_EQ(told, known.size()) << "a tensor is accounted for twice";
  std::vector<std::string> out;
  for (const auto& [name, spec] : model.headers) {
    if (!known.contains(name)) {
      out.push_back(name);
    }
  }
  return out;
}

}  // namespace bv::foreign::test

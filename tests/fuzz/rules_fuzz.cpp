// libFuzzer entry for foreign rule sets (tests/fuzz/run.sh). Properties: every text is answered;
// what is accepted can be linted, alone and against names, and applied to a model; what was applied
// without a fault makes every parameter from tensors that are there.
#include <cstddef>
#include <cstdint>
#include <nlohmann/json.hpp>
#include <string_view>

#include "core/base/assert.hpp"
#include "core/foreign/lint.hpp"
#include "core/foreign/pattern.hpp"
#include "core/foreign/rules_apply.hpp"

namespace {

constexpr std::string_view kConfig = R"({"architectures": ["Qwen3ForCausalLM"],
  "model_type": "qwen3", "hidden_size": 8, "intermediate_size": 12, "num_attention_heads": 4,
  "num_hidden_layers": 2, "num_key_value_heads": 2, "head_dim": 4, "vocab_size": 16,
  "tie_word_embeddings": false, "attention_bias": false})";

bv::model::Model small_model() {
  const auto config = nlohmann::json::parse(kConfig);
  const auto families = bv::family::builtin_families().value();
  bv::model::ResolveOptions options;
  options.config_only = true;
  return bv::model::resolve(bv::model::choose_family(config, families).value(), config, {}, options)
      .value();
}

bv::Headers headers_of(const bv::model::Model& model) {
  bv::Headers out;
  for (const bv::model::Mapping& mapping : model.mappings) {
    for (const std::string& name : mapping.hf) {
      out[name] = {name, bv::DType::BF16, {8, 8}};
    }
  }
  return out;
}

void check_applied(const bv::foreign::ForeignRules& rules, const bv::foreign::ForeignKinds& kinds,
                   const bv::model::Model& model, const bv::Headers& headers) {
  const auto applied = bv::foreign::apply_rules(model, rules, kinds, headers);
  BV_ASSERT(applied.has_value());  // its only errors are faults of our tables
  for (const bv::model::NameFault& fault : applied->model.faults) {
    BV_ASSERT(!fault.message.empty() && !fault.help.empty());
  }
  for (const bv::foreign::OpenQuestion& question : applied->open) {
    BV_ASSERT(!question.message.empty() && !question.help.empty());
  }
  if (applied->model.faults.empty()) {
    for (const bv::model::Mapping& mapping : applied->model.mappings) {
      BV_ASSERT(mapping.rule != nullptr && mapping.hf.size() == mapping.rule->hf.size());
      for (const std::string& name : mapping.hf) {
        BV_ASSERT(headers.contains(name));
      }
    }
  }
}

/// A name that a pattern makes is one that it takes.
void check_pattern(std::string_view pattern) {
  std::vector<std::string> captures;
  for (std::size_t i = 0; i < bv::foreign::wildcards(pattern); ++i) {
    captures.push_back(std::to_string(i));
  }
  const std::string name = bv::foreign::fill_pattern(pattern, captures);
  BV_ASSERT(bv::foreign::match_pattern(pattern, name).has_value());
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  static const auto kinds = bv::foreign::foreign_kinds().value();
  static const auto model = small_model();
  static const auto headers = headers_of(model);
  const auto rules =
      bv::foreign::parse_rules_file({reinterpret_cast<const char*>(data), size}, "fuzz");
  if (!rules) {
    BV_ASSERT(!rules.error().message.empty() && !rules.error().help.empty());
    return 0;
  }
  for (const bv::foreign::LintFinding& finding : bv::foreign::lint_rules(*rules, kinds)) {
    BV_ASSERT(!finding.message.empty());
  }
  for (const bv::foreign::LintFinding& finding : bv::foreign::idle_rules(*rules, headers)) {
    BV_ASSERT(!finding.message.empty());
  }
  for (const bv::foreign::ForeignRule& rule : rules->rules) {
    check_pattern(rule.megatron);
    for (const auto& [role, pattern] : rule.hf) {
      check_pattern(pattern);
    }
  }
  check_applied(*rules, kinds, model, headers);
  return 0;
}

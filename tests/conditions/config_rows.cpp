#include "tests/conditions/condition.hpp"

namespace bv::conditions {

std::vector<Row> config_rows() {
  const auto set = [](const std::string& golden, const Words& settings) {
    Words words = {"check", "--only", "names"};
    for (const std::string& one : settings) {
      words.insert(words.end(), {"--set", one});
    }
    return command(golden, words);
  };
  const Edit null_width = [](EditedCheckpoint& model) {
    model.config["intermediate_size"] = nullptr;
  };
  return {
      {"E001",
       "BV7010",
       {"no rules for architecture FooForCausalLM (model_type foo)", "--rules FILE"},
       set("llama", {R"(architectures=["FooForCausalLM"])", "model_type=foo"}),
       command("llama", {"check", "--only", "names", "--set", R"(architectures=["FooForCausalLM"])",
                         "--set", "model_type=foo", "--family", "llama"})},
      {"E002",
       "BV7014",
       {"config.json intermediate_size is null, wanted a whole number"},
       edited("llama", null_width, {"check", "--only", "names"}),
       edited("llama", null_width, {"check", "--only", "names", "--set", "intermediate_size=36"})},
      {"E002",
       "BV7014",
       {R"(config.json num_attention_heads is "8")", "a whole number"},
       set("llama", {R"(num_attention_heads="8")"}),
       set("llama", {"num_attention_heads=8"})},
      {"E003",
       "BV7014",
       {"layer_types has 3 entries for 4 layers", "4 entries"},
       set("qwen3_5_dense",
           {R"(layer_types=["linear_attention","linear_attention","linear_attention"])"}),
       set("qwen3_5_dense", {"layer_types=["
                             R"("linear_attention","linear_attention","linear_attention",)"
                             R"("full_attention"])"})},
      {"E003",
       "BV7014",
       {"config.json attn_output_gate is false, wanted true"},
       set("qwen3_5_dense", {"attn_output_gate=false"}),
       set("qwen3_5_dense", {"attn_output_gate=true"})},
      {"E003",
       "BV7014",
       {"mtp_num_layers=2", "at most 1"},
       set("qwen3_5_dense_mtp", {"mtp_num_hidden_layers=2"}),
       set("qwen3_5_dense_mtp", {"mtp_num_hidden_layers=1"})},
      {"E003",
       "BV7014",
       {"vision_out_hidden_size=20", "hidden_size=24", "must be equal"},
       set("qwen3_vl", {"vision_config.out_hidden_size=20"}),
       set("qwen3_vl", {"vision_config.out_hidden_size=24"})},
  };
}

}  // namespace bv::conditions

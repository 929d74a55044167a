// Published geometries: counts of tensors, parameters and elements
// (docs/reference/semantics.md#counts).

#include <gtest/gtest.h>

#include <numeric>

#include "tests/core/model/extents.hpp"
#include "tests/core/model/sample.hpp"

namespace bv::model::test {
namespace {

struct Published {
  std::string name;
  json config;
  std::size_t tensors;
  std::size_t parameters;
  std::int64_t elements;
};

std::int64_t elements_of(const Model& model) {
  std::map<const family::Rule*, std::int64_t> each;  // one rule has the same extents everywhere
  std::int64_t total = 0;
  for (const Mapping& mapping : model.mappings) {
    const auto [entry, fresh] = each.try_emplace(mapping.rule, 0);
    if (fresh) {
      for (const auto& [source, shape] : extents_of(*mapping.rule, model).sources) {
        entry->second +=
            std::accumulate(shape.begin(), shape.end(), std::int64_t{1}, std::multiplies<>());
      }
    }
    total += entry->second;
  }
  return total;
}

json hybrid(std::int64_t layers, std::int64_t hidden, std::int64_t heads, std::int64_t groups,
            std::int64_t value_heads) {
  return {{"vocab_size", 248320},          {"num_hidden_layers", layers},
          {"hidden_size", hidden},         {"num_attention_heads", heads},
          {"num_key_value_heads", groups}, {"head_dim", 256},
          {"linear_num_key_heads", 16},    {"linear_num_value_heads", value_heads},
          {"linear_key_head_dim", 128},    {"linear_value_head_dim", 128},
          {"linear_conv_kernel_dim", 4},   {"full_attention_interval", 4},
          {"mtp_num_hidden_layers", 1}};
}

json vision(std::int64_t depth, std::int64_t hidden, std::int64_t ffn, std::int64_t heads,
            std::int64_t out) {
  return {{"depth", depth},           {"hidden_size", hidden},   {"intermediate_size", ffn},
          {"num_heads", heads},       {"out_hidden_size", out},  {"patch_size", 16},
          {"temporal_patch_size", 2}, {"spatial_merge_size", 2}, {"num_position_embeddings", 2304},
          {"in_channels", 3}};
}

json dense(json text, std::int64_t ffn, bool tied, json tower) {
  text["intermediate_size"] = ffn;
  return {{"architectures", {"Qwen3_5ForConditionalGeneration"}},
          {"tie_word_embeddings", tied},
          {"text_config", std::move(text)},
          {"vision_config", std::move(tower)}};
}

json experts(json text, std::int64_t count, std::int64_t width, json tower) {
  text["num_experts"] = count;
  text["moe_intermediate_size"] = width;
  text["shared_expert_intermediate_size"] = width;
  return {{"architectures", {"Qwen3_5MoeForConditionalGeneration"}},
          {"text_config", std::move(text)},
          {"vision_config", std::move(tower)}};
}

json plain(const char* architecture, std::int64_t layers, std::int64_t hidden, std::int64_t ffn,
           std::int64_t heads, std::int64_t groups, std::int64_t head_dim, std::int64_t vocabulary,
           bool tied, std::int64_t expert_count = 0) {
  return {{"architectures", {architecture}},
          {"num_hidden_layers", layers},
          {"hidden_size", hidden},
          {"intermediate_size", ffn},
          {"moe_intermediate_size", ffn},
          {"num_attention_heads", heads},
          {"num_key_value_heads", groups},
          {"head_dim", head_dim},
          {"vocab_size", vocabulary},
          {"tie_word_embeddings", tied},
          {"num_local_experts", expert_count}};
}

std::vector<Published> published() {
  const json big = vision(27, 1152, 4304, 16, 0);
  const auto tower = [&big](std::int64_t out) {
    json copy = big;
    copy["out_hidden_size"] = out;
    return copy;
  };
  json next = hybrid(48, 2048, 16, 2, 32);
  next.update(json{{"architectures", {"Qwen3NextForCausalLM"}},
                   {"vocab_size", 151936},
                   {"num_experts", 512},
                   {"moe_intermediate_size", 512},
                   {"shared_expert_intermediate_size", 512}});
  return {
      {"Qwen35At08B",
       dense(hybrid(24, 1024, 8, 2, 16), 3584, true, vision(12, 768, 3072, 12, 1024)), 488, 395,
       873438784},
      {"Qwen35At2B",
       dense(hybrid(24, 2048, 8, 2, 16), 6144, true, vision(24, 1024, 4096, 16, 2048)), 632, 539,
       2274069824},
      {"Qwen35At4B",
       dense(hybrid(32, 2560, 16, 4, 32), 9216, true, vision(24, 1024, 4096, 16, 2560)), 738, 615,
       4659865088},
      {"Qwen35At9B", dense(hybrid(32, 4096, 16, 4, 32), 12288, false, tower(4096)), 775, 652,
       9653104368},
      {"Qwen35At27B", dense(hybrid(64, 5120, 24, 4, 48), 17408, false, tower(5120)), 1199, 956,
       27781427952},
      {"Qwen35At35B", experts(hybrid(40, 2048, 16, 2, 32), 256, 512, tower(2048)), 1811, 21802,
       35951822704},
      {"Qwen35At122B", experts(hybrid(48, 3072, 32, 2, 64), 256, 1024, tower(3072)), 1949, 25990,
       125086497008},
      {"Qwen35At397B", experts(hybrid(60, 4096, 32, 2, 64), 512, 1024, tower(4096)), 2924, 63504,
       403397928944},
      {"Qwen3NextAt80B", next, 75944, 50745, 81324862720},
      {"Llama3At8B", plain("LlamaForCausalLM", 32, 4096, 14336, 32, 8, 128, 128256, false), 291,
       195, 8030261248},
      {"Llama3At70B", plain("LlamaForCausalLM", 80, 8192, 28672, 64, 8, 128, 128256, false), 723,
       483, 70553706496},
      {"Qwen25At7B", plain("Qwen2ForCausalLM", 28, 3584, 18944, 28, 4, 128, 152064, false), 339,
       199, 7615616512},
      {"Qwen3At06B", plain("Qwen3ForCausalLM", 28, 1024, 3072, 16, 8, 128, 151936, true), 310, 226,
       596049920},
      {"Qwen3At8B", plain("Qwen3ForCausalLM", 36, 4096, 12288, 32, 8, 128, 151936, false), 399, 291,
       8190735360},
      {"Qwen3At30B", plain("Qwen3MoeForCausalLM", 48, 2048, 768, 32, 4, 128, 151936, false, 128),
       18867, 12627, 30532122624},
      {"Qwen3At235B", plain("Qwen3MoeForCausalLM", 94, 4096, 1536, 64, 4, 128, 151936, false, 128),
       36945, 24725, 235093634560},
      {"Mixtral8x7B", plain("MixtralForCausalLM", 32, 4096, 14336, 32, 8, 128, 32000, false, 8),
       995, 675, 46702792704},
  };
}

class Identity : public ::testing::TestWithParam<Published> {};

TEST_P(Identity, TensorsParametersAndElementsAreThePublishedOnes) {
  const Model model = from_config(GetParam().config);
  EXPECT_EQ(used_names(model).size(), GetParam().tensors);
  EXPECT_EQ(megatron_names(model).size(), GetParam().parameters);
  EXPECT_EQ(elements_of(model), GetParam().elements);
}

TEST_P(Identity, HeadersWithExactlyThoseNamesHaveNoFaults) {
  const Headers headers = wanted_headers(from_config(GetParam().config));
  const auto model = resolve_with(GetParam().config, headers);
  ASSERT_TRUE(model) << model.error().message;
  EXPECT_TRUE(model->faults.empty()) << all_faults(*model);
  EXPECT_EQ(used_names(*model).size(), GetParam().tensors);
}

INSTANTIATE_TEST_SUITE_P(Models, Identity, ::testing::ValuesIn(published()),
                         [](const auto& each) { return each.param.name; });

TEST(Published, Qwen36PacksItsMtpExperts) {
  const json config =
      experts(hybrid(40, 2048, 16, 2, 32), 256, 512, vision(27, 1152, 4304, 16, 2048));
  Headers headers;
  for (const auto& [name, spec] : wanted_headers(from_config(config))) {
    if (!name.starts_with("mtp.layers.0.mlp.experts.")) {
      headers[name] = spec;
    }
  }
  for (const char* name :
       {"mtp.layers.0.mlp.experts.gate_up_proj", "mtp.layers.0.mlp.experts.down_proj"}) {
    headers[name] = {name, DType::BF16, {1}};
  }
  EXPECT_EQ(headers.size(), 1045U);
  const auto model = resolve_with(config, headers);
  EXPECT_TRUE(model->faults.empty()) << all_faults(*model);
  EXPECT_EQ(megatron_names(*model).size(), 21802U);
  EXPECT_EQ(elements_of(*model), 35951822704);
}

}  // namespace
}  // namespace bv::model::test

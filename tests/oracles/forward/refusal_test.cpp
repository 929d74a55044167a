// Inputs that cannot be used: every one is named, none crashes.
#include <fmt/format.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <limits>

#include "tests/oracles/forward/golden.hpp"
#include "tests/oracles/forward/reshard.hpp"

namespace bv::oracle::forward {
namespace {

using Ranks = std::vector<RankTensors>;

/// A Llama of one layer, 2 heads of 4, hidden 3, vocabulary 5.
constexpr const char* kTinyConfig =
    R"({"model_type": "llama", "architectures": ["LlamaForCausalLM"],
  "hidden_size": 3, "vocab_size": 5, "num_hidden_layers": 1, "num_attention_heads": 2, "num_key_value_heads": 1,
  "head_dim": 4, "intermediate_size": 6})";

std::string with(std::string text, const std::string& from, const std::string& to) {
  const auto at = text.find(from);
  if (at == std::string::npos) return "not found: " + from;
  return text.replace(at, from.size(), to);
}

ModelFacts tiny_facts() {
  auto facts = read_facts(kTinyConfig);
  EXPECT_TRUE(facts);
  return std::move(facts).value();
}

Tensor ramp(std::vector<std::int64_t> shape) {
  Tensor tensor{std::move(shape), {}};
  std::int64_t count = 1;
  for (const std::int64_t extent : tensor.shape) count *= extent;
  for (std::int64_t i = 0; i < count; ++i)
    tensor.values.push_back(0.01 * static_cast<double>(i % 7 + 1));
  return tensor;
}

NamedTensors tiny_hf() {
  return {{"model.embed_tokens.weight", ramp({5, 3})},
          {"model.layers.0.input_layernorm.weight", ramp({3})},
          {"model.layers.0.self_attn.q_proj.weight", ramp({8, 3})},
          {"model.layers.0.self_attn.k_proj.weight", ramp({4, 3})},
          {"model.layers.0.self_attn.v_proj.weight", ramp({4, 3})},
          {"model.layers.0.self_attn.o_proj.weight", ramp({3, 8})},
          {"model.layers.0.post_attention_layernorm.weight", ramp({3})},
          {"model.layers.0.mlp.gate_proj.weight", ramp({6, 3})},
          {"model.layers.0.mlp.up_proj.weight", ramp({6, 3})},
          {"model.layers.0.mlp.down_proj.weight", ramp({3, 6})},
          {"model.norm.weight", ramp({3})},
          {"lm_head.weight", ramp({5, 3})}};
}

/// One rank; shapes for `tp` ranks.
RankTensors tiny_rank(std::int64_t tp, std::int64_t rank) {
  return {0,
          rank,
          0,
          0,
          0,
          {{"embedding.word_embeddings.weight", ramp({6 / tp, 3})},
           {"decoder.layers.0.self_attention.linear_qkv.layer_norm_weight", ramp({3})},
           {"decoder.layers.0.self_attention.linear_qkv.weight", ramp({16 / tp, 3})},
           {"decoder.layers.0.self_attention.linear_proj.weight", ramp({3, 8 / tp})},
           {"decoder.layers.0.mlp.linear_fc1.layer_norm_weight", ramp({3})},
           {"decoder.layers.0.mlp.linear_fc1.weight", ramp({12 / tp, 3})},
           {"decoder.layers.0.mlp.linear_fc2.weight", ramp({3, 6 / tp})},
           {"decoder.final_layernorm.weight", ramp({3})},
           {"output_layer.weight", ramp({6 / tp, 3})}}};
}

Inputs tokens(std::vector<std::int64_t> ids) {
  return {std::move(ids), {}};
}

void expect_refused(const Result<Outputs>& result, Code code, std::string_view named) {
  ASSERT_FALSE(result);
  const Error& error = result.error();
  EXPECT_EQ(error.code, code) << error.message;
  EXPECT_NE(error.message.find(named), std::string::npos) << error.message;
  EXPECT_FALSE(error.found.empty());
  EXPECT_FALSE(error.wanted.empty());
  EXPECT_FALSE(error.help.empty());
}

TEST(HfForward, RunsTheTinyModel) {
  const auto outputs = hf_forward(tiny_facts(), tiny_hf(), tokens({0, 4, 2}));
  ASSERT_TRUE(outputs) << outputs.error().message;
  EXPECT_EQ(outputs->logits.shape, (std::vector<std::int64_t>{3, 5}));
  EXPECT_TRUE(outputs->mtp_logits.empty());
  EXPECT_FALSE(outputs->vision_output);
}

TEST(HfForward, NamesEveryMissingTensor) {
  for (const auto& entry : tiny_hf()) {
    NamedTensors hf = tiny_hf();
    hf.erase(entry.first);
    expect_refused(hf_forward(tiny_facts(), hf, tokens({1})), Code::HfTensorMissing, entry.first);
  }
}

TEST(HfForward, NamesEveryTensorOfAnotherShape) {
  for (const auto& entry : tiny_hf()) {
    NamedTensors hf = tiny_hf();
    hf[entry.first].shape.push_back(1);
    expect_refused(hf_forward(tiny_facts(), hf, tokens({1})), Code::ShapeMismatch, entry.first);
  }
}

TEST(HfForward, RefusesATensorWithTooFewValues) {
  NamedTensors hf = tiny_hf();
  hf["lm_head.weight"].values.pop_back();
  expect_refused(hf_forward(tiny_facts(), hf, tokens({1})), Code::ShapeMismatch, "lm_head.weight");
}

TEST(HfForward, RefusesTokensThatDoNotFit) {
  expect_refused(hf_forward(tiny_facts(), tiny_hf(), tokens({})), Code::BadValue,
                 "number of tokens");
  expect_refused(hf_forward(tiny_facts(), tiny_hf(), tokens({5})), Code::BadValue, "token id");
  expect_refused(hf_forward(tiny_facts(), tiny_hf(), tokens({-1})), Code::BadValue, "token id");
  const std::vector<std::int64_t> many(static_cast<std::size_t>(kTokensMax) + 1, 0);
  expect_refused(hf_forward(tiny_facts(), tiny_hf(), tokens(many)), Code::BadValue,
                 "number of tokens");
}

TEST(HfForward, RefusesAnImageWithoutVision) {
  Inputs inputs = tokens({1});
  inputs.images = Images{ramp({4, 3}), {{1, 2, 2}}};
  expect_refused(hf_forward(tiny_facts(), tiny_hf(), inputs), Code::BadValue, "without vision");
}

TEST(HfForward, RefusesImagesThatDoNotFit) {
  const std::string name = "qwen3_vl";
  const ModelFacts facts = golden::facts_of(name);
  const NamedTensors hf = golden::read_checkpoint(name);
  const Inputs right = golden::image_inputs(golden::vectors_of(name));
  constexpr std::int64_t kLargest = std::numeric_limits<std::int64_t>::max();
  for (const std::array<std::int64_t, 3> grid : {std::array<std::int64_t, 3>{1, 3, 8},
                                                 {0, 4, 6},
                                                 {-1, 4, 6},
                                                 {kLargest, 2, 2},
                                                 {1, kLargest - 1, 2},
                                                 {2, 4, 6},
                                                 {1, 2, 6}}) {
    Inputs inputs = right;
    inputs.images.grid_thw = {grid};
    const auto result = hf_forward(facts, hf, inputs);
    ASSERT_FALSE(result) << grid[0] << " " << grid[1] << " " << grid[2];
    EXPECT_EQ(result.error().code, Code::BadValue);
  }
  Inputs unpaired = right;
  unpaired.input_ids.push_back(facts.vision.image_token);
  expect_refused(hf_forward(facts, hf, unpaired), Code::BadValue, "do not pair up");
  Inputs textual = right;
  for (std::int64_t& id : textual.input_ids) id = 1;
  expect_refused(hf_forward(facts, hf, textual), Code::BadValue, "has no image tokens");
}

TEST(MegatronForward, RunsTheTinyModelOnOneAndTwoRanks) {
  EXPECT_TRUE(megatron_forward(tiny_facts(), {tiny_rank(1, 0)}, tokens({0, 4})));
  EXPECT_TRUE(megatron_forward(tiny_facts(), {tiny_rank(2, 0), tiny_rank(2, 1)}, tokens({0, 4})));
}

TEST(MegatronForward, NamesEveryMissingParameter) {
  for (const auto& entry : tiny_rank(2, 1).tensors) {
    Ranks ranks{tiny_rank(2, 0), tiny_rank(2, 1)};
    ranks[1].tensors.erase(entry.first);
    const auto result = megatron_forward(tiny_facts(), ranks, tokens({1}));
    expect_refused(result, Code::MegatronParamUnfilled, entry.first);
    EXPECT_NE(result.error().message.find("tp1"), std::string::npos) << result.error().message;
  }
}

TEST(MegatronForward, NamesEveryParameterOfAnotherShape) {
  for (const auto& entry : tiny_rank(2, 1).tensors) {
    Ranks ranks{tiny_rank(2, 0), tiny_rank(2, 1)};
    ranks[1].tensors[entry.first].shape.push_back(1);
    expect_refused(megatron_forward(tiny_facts(), ranks, tokens({1})), Code::ShapeMismatch,
                   entry.first);
  }
}

TEST(MegatronForward, RefusesParallelSizesThatDoNotDivide) {
  const Ranks ranks{tiny_rank(1, 0), tiny_rank(1, 1), tiny_rank(1, 2)};
  expect_refused(megatron_forward(tiny_facts(), ranks, tokens({1})), Code::IndivisibleDim,
                 "linear_qkv");
}

TEST(MegatronForward, RefusesAGridWithAHole) {
  Ranks ranks{tiny_rank(2, 0), tiny_rank(2, 0)};
  ranks[1].pp = 1;
  ranks[1].tp = 1;
  expect_refused(megatron_forward(tiny_facts(), ranks, tokens({1})), Code::BadValue, "no shard");
  ranks[1].tp = 1000000;
  expect_refused(megatron_forward(tiny_facts(), ranks, tokens({1})), Code::BadValue, "coordinates");
  ranks[1].tp = -1;
  expect_refused(megatron_forward(tiny_facts(), ranks, tokens({1})), Code::BadValue, "coordinates");
  expect_refused(megatron_forward(tiny_facts(), {}, tokens({1})), Code::BadValue, "no shards");
}

TEST(MegatronForward, RefusesStagesThatMissALayer) {
  RankTensors rank = tiny_rank(1, 0);
  auto facts = tiny_facts();
  facts.layers = 2;
  facts.mixers.push_back(Mixer::FullAttention);
  facts.is_moe.push_back(false);
  facts.turns.push_back(true);
  facts.blocks.push_back(Block::Both);
  facts.indexes.push_back(false);
  expect_refused(megatron_forward(facts, {rank}, tokens({1})), Code::LayerOnNoStage, "layers");
  rank.tensors["decoder.layers.7.mlp.linear_fc2.weight"] = ramp({3, 6});
  expect_refused(megatron_forward(facts, {rank}, tokens({1})), Code::LayerOnNoStage, "gap");
}

TEST(MegatronForward, ComparesDataParallelCopies) {
  Ranks ranks{tiny_rank(1, 0), tiny_rank(1, 0)};
  EXPECT_TRUE(megatron_forward(tiny_facts(), ranks, tokens({1})));
  ranks[1].tensors["decoder.final_layernorm.weight"].values[2] += 1e-12;
  expect_refused(megatron_forward(tiny_facts(), ranks, tokens({1})), Code::ReplicasDiffer,
                 "decoder.final_layernorm.weight");
}

TEST(MegatronForward, RefusesAVocabularyThatIsTooShort) {
  RankTensors rank = tiny_rank(1, 0);
  rank.tensors["embedding.word_embeddings.weight"] = ramp({4, 3});
  expect_refused(megatron_forward(tiny_facts(), {rank}, tokens({1})), Code::ShapeMismatch,
                 "embedding");
  rank = tiny_rank(1, 0);
  rank.tensors["output_layer.weight"] = ramp({4, 3});
  expect_refused(megatron_forward(tiny_facts(), {rank}, tokens({1})), Code::ShapeMismatch,
                 "output");
}

TEST(Facts, NameTheFieldThatCannotBeUsed) {
  const std::pair<const char*, const char*> faults[] = {
      {R"("hidden_size": 3)", R"("hidden_size": 0)"},
      {R"("hidden_size": 3)", R"("hidden_size": -3)"},
      {R"("hidden_size": 3)", R"("hidden_size": "3")"},
      {R"("hidden_size": 3)", R"("hidden_size": 99999999999999)"},
      {R"("hidden_size": 3)", R"("hidden_size": 18446744073709551615)"},
      {R"("num_hidden_layers": 1)", R"("num_hidden_layers": 16000000)"},
      {R"("num_key_value_heads": 1)", R"("num_key_value_heads": 3)"},
      {R"("head_dim": 4)", R"("head_dim": 5)"},
      {R"("head_dim": 4)", R"("head_dim": 4, "rope_parameters": 7)"},
      {R"("head_dim": 4)", R"("head_dim": 4, "mlp_bias": 1)"},
      {R"("head_dim": 4)", R"("head_dim": 4, "tie_word_embeddings": 1)"},
      {R"("head_dim": 4)", R"("head_dim": 4, "layer_types": ["full_attention", "full_attention"])"},
  };
  for (const auto& [from, to] : faults) {
    const auto facts = read_facts(with(kTinyConfig, from, to));
    ASSERT_FALSE(facts) << to;
    EXPECT_EQ(facts.error().code, Code::ConfigField) << to;
    EXPECT_NE(facts.error().message.find("config field"), std::string::npos);
    EXPECT_FALSE(facts.error().wanted.empty());
    EXPECT_NE(facts.error().help.find("correct the field"), std::string::npos);
  }
}

/// A config that its class takes is right, whatever no form here computes.
TEST(Facts, SayOfARightFieldThatItHasNoForm) {
  const std::pair<const char*, const char*> without_form[] = {
      {"rope_type", R"("head_dim": 4, "rope_parameters": {"rope_type": "dynamic"})"},
      {"hidden_act", R"("head_dim": 4, "hidden_act": "relu")"},
      {"layer_types", R"("head_dim": 4, "layer_types": ["linear_attention"])"},
      {"use_sliding_window", R"("head_dim": 4, "use_sliding_window": true)"},
      {"attn_logit_softcapping", R"("head_dim": 4, "attn_logit_softcapping": 30.0)"},
  };
  for (const auto& [field, to] : without_form) {
    const auto facts = read_facts(with(kTinyConfig, R"("head_dim": 4)", to));
    ASSERT_FALSE(facts) << to;
    EXPECT_EQ(facts.error().code, Code::ArchitectureUnknown) << to;
    EXPECT_NE(facts.error().message.find(field), std::string::npos) << facts.error().message;
    EXPECT_EQ(facts.error().help.find("correct"), std::string::npos) << facts.error().help;
  }
}

/// max_window_layers, every other layer, all layers, or those that do not turn.
TEST(Facts, TakeTheWindowOnlyWhereTheConfigUsesIt) {
  const auto sliding = [](const std::string& type, const std::string& more) {
    const std::string fields =
        R"("num_hidden_layers": 4, "max_window_layers": 2, "sliding_window": 3, "num_experts": 4, )"
        R"("num_experts_per_tok": 2, "moe_intermediate_size": 2, "shared_expert_intermediate_size": 2)";
    std::string text = with(kTinyConfig, R"("num_hidden_layers": 1)", fields + more);
    text = with(text, R"("model_type": "llama")", R"("model_type": ")" + type + "\"");
    const auto facts = read_facts(text);
    EXPECT_TRUE(facts) << type << more << (facts ? "" : facts.error().message);
    std::string out;
    for (std::size_t i = 0; facts && i < facts->mixers.size(); ++i)
      out += facts->mixers[i] == Mixer::SlidingAttention ? 's' : 'f';
    return out;
  };
  const std::string used = R"(, "use_sliding_window": true)";
  EXPECT_EQ(sliding("qwen2", ""), "ffff");
  EXPECT_EQ(sliding("qwen2", used), "ffss");
  EXPECT_EQ(sliding("qwen3", used), "ffss");
  EXPECT_EQ(sliding("qwen2_moe", used), "sfff");
  EXPECT_EQ(sliding("qwen3_moe", ""), "ffff");
  EXPECT_EQ(sliding("qwen3_moe", used), "ssss");
  EXPECT_EQ(sliding("smollm3", used), "fffs");
}

TEST(Facts, KnowAnMlpBiasOfLlamaAlone) {
  const std::string text =
      with(kTinyConfig, R"("head_dim": 4)", R"("head_dim": 4, "mlp_bias": true)");
  const auto llama = read_facts(text);
  ASSERT_TRUE(llama) << llama.error().message;
  EXPECT_TRUE(llama->mlp_bias);
  const auto qwen2 = read_facts(with(text, R"("model_type": "llama")", R"("model_type": "qwen2")"));
  ASSERT_FALSE(qwen2);
  EXPECT_EQ(qwen2.error().code, Code::ArchitectureUnknown);
}

TEST(Facts, RefuseWhatIsNoConfigOrNoKnownModel) {
  for (const char* text : {"", "[]", "{", "7", "\xff\xfe"}) {
    const auto facts = read_facts(text);
    ASSERT_FALSE(facts) << text;
    EXPECT_EQ(facts.error().code, Code::NoConfig);
  }
  for (const char* text : {"{}", R"({"model_type": "mamba"})", R"({"model_type": 3})"}) {
    const auto facts = read_facts(text);
    ASSERT_FALSE(facts) << text;
    EXPECT_EQ(facts.error().code, Code::ArchitectureUnknown);
  }
}

TEST(Facts, TakeTheIntervalWhereLayerTypesAreMissing) {
  const std::string text = golden::read_text(golden::root() + "hf/qwen3_5_dense/config.json");
  const auto listed = read_facts(text);
  const auto counted = read_facts(with(text, "\"layer_types\"", "\"other_types\""));
  ASSERT_TRUE(listed && counted);
  EXPECT_EQ(listed->mixers, counted->mixers);
  EXPECT_EQ(counted->mixers.back(), Mixer::FullAttention);
}

TEST(ProbeInputs, ReachBothEndsOfTheVocabularyAndRun) {
  const Inputs inputs = probe_inputs(tiny_facts(), 4, 1);
  EXPECT_EQ(inputs.input_ids.size(), 4U);
  EXPECT_EQ(std::ranges::count(inputs.input_ids, 0), 1);
  EXPECT_EQ(std::ranges::count(inputs.input_ids, 4), 1);
  EXPECT_EQ(inputs.input_ids, probe_inputs(tiny_facts(), 4, 1).input_ids);
  EXPECT_TRUE(hf_forward(tiny_facts(), tiny_hf(), inputs));
}

TEST(ProbeInputs, CarryAnImageWhereTheModelSees) {
  const ModelFacts facts = golden::facts_of("qwen3_5_vl_dense");
  const Inputs inputs = probe_inputs(facts, 8, 7);
  ASSERT_FALSE(inputs.images.grid_thw.empty());
  const auto outputs = hf_forward(facts, golden::read_checkpoint("qwen3_5_vl_dense"), inputs);
  ASSERT_TRUE(outputs) << outputs.error().message << outputs.error().found;
  EXPECT_EQ(outputs->vision_output->shape, (std::vector<std::int64_t>{6, 24}));
}

TEST(Differences, AreInfiniteWhereOutputsCannotBeCompared) {
  const double unbounded = std::numeric_limits<double>::infinity();
  EXPECT_EQ(largest_difference({{2}, {1.0, 2.0}}, {{2}, {1.0, 2.5}}), 0.5);
  EXPECT_EQ(largest_difference({{2}, {1.0, 2.0}}, {{1}, {1.0}}), unbounded);
  EXPECT_EQ(largest_difference({{1}, {std::nan("")}}, {{1}, {std::nan("")}}), unbounded);
  Outputs one;
  Outputs other;
  one.mtp_logits = {Tensor{{1}, {0.0}}};
  one.vision_output = Tensor{{1}, {0.0}};
  EXPECT_EQ(differences(one, other).at("mtp_logits.0"), unbounded);
  EXPECT_EQ(differences(one, other).at("vision_output"), unbounded);
  EXPECT_EQ(differences(one, one).at("mtp_logits.0"), 0.0);
  EXPECT_EQ(differences(one, one).at("vision_output"), 0.0);
}

}  // namespace
}  // namespace bv::oracle::forward

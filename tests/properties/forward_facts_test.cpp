// A Megatron form that computes with another fact than the HF form gives other numbers: neither
// side passes over a multiplier, a share of a head that turns, a norm or a choice of experts.

#include <gtest/gtest.h>

#include <functional>

#include "properties/attacks/mutants/sample.hpp"
#include "properties/claims/forward_compare.hpp"
#include "properties/claims/small_model.hpp"

namespace bv::mutants {
namespace {

using oracle::forward::Activation;
using oracle::forward::Block;
using oracle::forward::Mixer;
using oracle::forward::ModelFacts;
using oracle::forward::QkNorm;

struct WrongFact {
  const char* sample;
  const char* name;
  std::function<void(ModelFacts&)> change;
};

const std::vector<WrongFact>& wrong_facts() {
  static const std::vector<WrongFact> all = {
      {"gpt_neox", "rotary share", [](ModelFacts& facts) { facts.rope.rotary_dim = 2; }},
      {"gpt_neox", "theta", [](ModelFacts& facts) { facts.rope.theta *= 10; }},
      {"gpt_neox", "eps", [](ModelFacts& facts) { facts.eps *= 1e5; }},
      {"gpt_neox", "placement",
       [](ModelFacts& facts) { facts.placement = oracle::Placement::Before; }},
      {"gpt_neox", "gelu", [](ModelFacts& facts) { facts.activation = Activation::GeluTanh; }},
      {"falcon_h1", "attention in", [](ModelFacts& facts) { facts.attention_in_scale *= 1.1; }},
      {"falcon_h1", "attention out", [](ModelFacts& facts) { facts.attention_out_scale *= 1.1; }},
      {"falcon_h1", "keys", [](ModelFacts& facts) { facts.key_scale *= 1.1; }},
      {"falcon_h1", "embedding", [](ModelFacts& facts) { facts.embedding_scale *= 1.1; }},
      {"falcon_h1", "logits", [](ModelFacts& facts) { facts.logit_scale *= 1.1; }},
      {"falcon_h1", "gate", [](ModelFacts& facts) { facts.gate_scale *= 1.1; }},
      {"falcon_h1", "down", [](ModelFacts& facts) { facts.down_scale *= 1.1; }},
      {"falcon_h1", "mixer in", [](ModelFacts& facts) { facts.mamba.in_scale *= 1.1; }},
      {"falcon_h1", "mixer out", [](ModelFacts& facts) { facts.mamba.out_scale *= 1.1; }},
      {"falcon_h1", "z", [](ModelFacts& facts) { facts.mamba.part_scales[0] *= 1.1; }},
      {"falcon_h1", "x", [](ModelFacts& facts) { facts.mamba.part_scales[1] *= 1.1; }},
      {"falcon_h1", "B", [](ModelFacts& facts) { facts.mamba.part_scales[2] *= 1.1; }},
      {"falcon_h1", "C", [](ModelFacts& facts) { facts.mamba.part_scales[3] *= 1.1; }},
      {"falcon_h1", "dt", [](ModelFacts& facts) { facts.mamba.part_scales[4] *= 1.1; }},
      {"falcon_h1", "mixers",
       [](ModelFacts& facts) { facts.mixers.front() = Mixer::FullAttention; }},
      {"nemotron_h", "activation", [](ModelFacts& facts) { facts.activation = Activation::Silu; }},
      {"nemotron_h", "eps", [](ModelFacts& facts) { facts.eps *= 1e5; }},
      {"nemotron_h", "scaling", [](ModelFacts& facts) { facts.moe.scaling *= 1.1; }},
      {"nemotron_h", "normalise",
       [](ModelFacts& facts) { facts.moe.normalise = !facts.moe.normalise; }},
      {"nemotron_h", "topk", [](ModelFacts& facts) { facts.moe.topk += 1; }},
      {"nemotron_h", "step", [](ModelFacts& facts) { facts.mamba.step_least = 2.0; }},
      {"nemotron_h", "gate behind norm",
       [](ModelFacts& facts) { facts.mamba.norm_before_gate = true; }},
      {"llama4_text", "theta", [](ModelFacts& facts) { facts.rope.theta *= 10; }},
      {"llama4_text", "pairs", [](ModelFacts& facts) { facts.rope.pairs_interleaved = false; }},
      {"llama4_text", "turns", [](ModelFacts& facts) { facts.turns[0] = !facts.turns[0]; }},
      {"llama4_text", "chunk", [](ModelFacts& facts) { facts.chunk = 2; }},
      {"llama4_text", "norm of heads", [](ModelFacts& facts) { facts.qk_norm = QkNorm::None; }},
      {"llama4_text", "router",
       [](ModelFacts& facts) { facts.moe.router = oracle::Router::TopKThenSoftmax; }},
      {"llama4_text", "shared expert", [](ModelFacts& facts) { facts.moe.shared_ffn = 0; }},
      {"deepseek_v32", "chosen tokens", [](ModelFacts& facts) { facts.latent.index_topk = 7; }},
      {"glm_moe_dsa", "chosen tokens", [](ModelFacts& facts) { facts.latent.index_topk = 7; }},
      {"gemma4_text", "scale", [](ModelFacts& facts) { facts.attention_scale *= 1.1; }},
      {"gemma4_text", "turning pairs", [](ModelFacts& facts) { facts.rope.turning_pairs += 1; }},
      {"gemma4_text", "norm of values", [](ModelFacts& facts) { facts.unit_values = false; }},
      {"gemma4_text", "layer scalar", [](ModelFacts& facts) { facts.layer_scalar = false; }},
      {"gemma4_text", "embedding", [](ModelFacts& facts) { facts.embedding_scale *= 1.1; }},
  };
  return all;
}

TEST(ForwardFacts, AWrongOneOnTheMegatronSideIsSeen) {
  const Library library = load_library().value();
  const auto samples = builtin_samples().value();
  for (const WrongFact& wrong : wrong_facts()) {
    const std::string label = std::string(wrong.sample) + " " + wrong.name;
    const auto one = make_case(library, find_sample(samples, wrong.sample).value()).value();
    const ModelFacts right = oracle::forward::read_facts(one->sample.config, "").value();
    ModelFacts other = right;
    wrong.change(other);
    const auto weights = claims::random_weights(one->headers, 3);
    const auto inputs = oracle::forward::probe_inputs(right, 7, 3);
    const auto layout = padded_layout("tp2").value();
    const auto plan = plan::Plan::make(one->model, library.kinds, layout).value();
    const auto ranks = claims::moved(plan, weights);
    const auto wanted = oracle::forward::hf_forward(right, weights, inputs).value();
    const auto same = oracle::forward::megatron_forward(right, ranks, inputs);
    ASSERT_TRUE(same) << label << ": " << same.error().message;
    EXPECT_FALSE(claims::compared(wanted, *same).first) << label;
    const auto found = oracle::forward::megatron_forward(other, ranks, inputs);
    EXPECT_TRUE(!found || claims::compared(wanted, *found).first) << label;
  }
}

}  // namespace
}  // namespace bv::mutants

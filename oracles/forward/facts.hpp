#pragma once
// What a forward pass must know beside the weights, read from config.json alone.
// No LibTorch here; shared by the HF form and the Megatron form of every model.

#include <array>
#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "core/base/result.hpp"

namespace bv::oracle::forward {

/// What mixes the tokens of a layer.
enum class Mixer { FullAttention, SlidingAttention, LatentAttention, GatedDeltaNet };

/// How a token chooses its experts.
enum class Router {
  SoftmaxThenTopK,  // Qwen, Mixtral: softmax over all experts, the largest, divided by their sum
  SigmoidGrouped,   // DeepSeek-V3, GLM-4: sigmoid, a bias that only chooses, groups, scaled sum
  TopKThenSoftmax,  // gpt-oss: the largest logits, softmax over those
};

enum class Activation { Silu, GeluTanh, ClampedSwiglu };

struct RopeFacts {
  std::string type = "default";  // default, linear, llama3, yarn
  double theta = 10000.0;
  std::int64_t rotary_dim = 0;  // leading elements of a head that turn
  bool pairs_interleaved =
      false;  // DeepSeek: elements 2j and 2j+1 form a pair, not j and j + dim/2
  double factor = 1.0;
  double low_freq_factor = 1.0;
  double high_freq_factor = 4.0;
  double original_positions = 0.0;
  double beta_fast = 32.0;
  double beta_slow = 1.0;
  bool truncate = true;
  double table_scale = 1.0;                            // yarn multiplies cos and sin
  std::array<std::int64_t, 3> mrope_section{0, 0, 0};  // all 0: one position a token
};

struct MoeFacts {
  std::int64_t experts = 0;
  std::int64_t topk = 0;
  std::int64_t expert_ffn = 0;
  std::int64_t shared_ffn = 0;  // 0 without a shared expert
  bool shared_gate = false;
  Router router = Router::SoftmaxThenTopK;
  bool normalise = true;
  std::int64_t groups = 1;
  std::int64_t topk_group = 1;
  double scaling = 1.0;
  bool biases = false;  // gpt-oss: router and experts have biases
  /// Declared by the caller, never read from config.json: square stacks are [E, in, out].
  bool square_stacks_in_out = false;
};

struct DeltaNetFacts {
  std::int64_t key_heads = 0;
  std::int64_t value_heads = 0;
  std::int64_t key_dim = 0;
  std::int64_t value_dim = 0;
  std::int64_t kernel = 0;
  bool grouped_projection = false;  // Qwen3-Next: in_proj_qkvz and in_proj_ba, grouped by key head
};

struct LatentFacts {
  std::int64_t q_lora = 0;  // 0: one full q projection
  std::int64_t kv_lora = 0;
  std::int64_t nope = 0;
  std::int64_t rope = 0;
  std::int64_t value = 0;
};

struct VisionFacts {
  std::int64_t depth = 0;  // 0: no vision tower
  std::int64_t hidden = 0;
  std::int64_t heads = 0;
  std::int64_t ffn = 0;
  std::int64_t channels = 3;
  std::int64_t patch = 0;
  std::int64_t temporal_patch = 0;
  std::int64_t merge = 0;
  std::int64_t positions = 0;  // a square number: the learned grid
  std::int64_t out = 0;
  std::int64_t image_token = -1;
  std::vector<std::int64_t> deepstack;  // blocks whose output also enters the decoder
};

struct ModelFacts {
  std::string model_type;  // of the text part
  std::int64_t hidden = 0;
  std::int64_t vocab = 0;
  std::int64_t layers = 0;
  std::int64_t heads = 0;
  std::int64_t kv_heads = 0;
  std::int64_t head_dim = 0;
  std::int64_t ffn = 0;
  double eps = 1e-6;
  double attention_scale = 1.0;
  double embedding_scale = 1.0;
  double attention_cap = 0;  // Gemma 2: scores and logits pass through cap * tanh(x / cap)
  double logit_cap = 0;
  std::int64_t window = 0;  // reach of SlidingAttention
  Activation activation = Activation::Silu;
  bool zero_centred = false;           // HF norms multiply by 1 + weight
  bool megatron_zero_centred = false;  // Megatron's do: layernorm_zero_centered_gamma
  bool qk_norm = false;
  bool output_gate = false;
  bool qkv_bias = false;
  bool output_bias = false;
  bool mlp_bias = false;
  bool sinks = false;
  bool sandwich_norms = false;  // Gemma 2 and 3: a norm behind each block too
  bool own_norm_names = false;  // GLM-4: those norms stand beside the block, not in it
  bool tied = false;
  std::int64_t mtp_layers = 0;
  bool mtp_behind_layers = false;  // HF names model.layers.{L + k} (DeepSeek, GLM), not mtp. (Qwen)
  std::int64_t labels = 0;         // token classification; 0: a language model
  std::vector<Mixer> mixers;       // one a layer
  std::vector<bool> is_moe;        // one a layer
  RopeFacts rope;                  // of full and latent attention
  RopeFacts sliding_rope;
  MoeFacts moe;
  DeltaNetFacts delta;
  LatentFacts latent;
  VisionFacts vision;
};

/// Reads the facts of one model. `like`: the model_type whose modules an unknown one computes with.
/// Errors: NoConfig (not JSON), ArchitectureUnknown (no forward form), ConfigField naming the
/// field, what it holds and what is wanted; a setting that would change the computation and has no
/// form here is an error too. Source: configuration classes of transformers 5.12.1.
[[nodiscard]] Result<ModelFacts> read_facts(std::string_view config_json,
                                            std::string_view like = "");

}  // namespace bv::oracle::forward

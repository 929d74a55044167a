#pragma once
// What a forward pass must know beside the weights, read from config.json alone.
// No LibTorch here; shared by the HF form and the Megatron form of every model.

#include <array>
#include <cstdint>
#include <limits>
#include <string>
#include <string_view>
#include <vector>

#include "core/base/result.hpp"
#include "oracles/model_form.hpp"

namespace bv::oracle::forward {

/// What mixes the tokens of a layer.
enum class Mixer {
  FullAttention,
  SlidingAttention,
  ChunkedAttention,  // as far back as the chunk begins (Llama 4)
  LatentAttention,
  GatedDeltaNet,
  Mamba,
  MambaAndAttention,  // both on the same input, their outputs summed (Falcon-H1)
};

/// What a layer holds: Nemotron-H has a mixer or an MLP in a layer, each with one norm.
enum class Block { Both, MixerAlone, MlpAlone, Nothing };

enum class Activation { Silu, GeluTanh, Gelu, Relu2, ClampedSwiglu };

/// Over what queries and keys are normed.
enum class QkNorm {
  None,
  Head,      // each head, all with one weight
  EachHead,  // each head with a weight of its own; a rank holds those of its heads
  Whole,     // all heads together; every rank holds the weight whole
  Unit,      // each head that turns, without a weight (Llama 4)
  WholeCut,  // all heads together; a rank holds the part of its heads
};

/// What a layer has of its own (Gemma 4, DeciLM).
struct LayerSizes {
  std::int64_t head_dim = 0;
  std::int64_t kv_heads = 0;
  std::int64_t ffn = 0;
  bool sinks = false;            // whatever the others have
  bool keys_are_values = false;  // values are the keys before they are normed
  bool shares = false;  // keys and values are those of the last layer of its kind that has some
};

struct RopeFacts {
  std::string type = "default";  // default, linear, llama3, yarn, proportional
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
  std::int64_t turning_pairs = -1;  // proportional: so many pairs turn, the others stand; -1: all
};

struct MoeFacts {
  std::int64_t experts = 0;
  std::int64_t topk = 0;
  std::string topk_field;  // of the config
  std::int64_t expert_ffn = 0;
  std::int64_t latent = 0;      // experts work on a projection of this size; 0: on the hidden state
  std::int64_t shared_ffn = 0;  // 0 without a shared expert
  bool shared_gate = false;
  Router router = Router::SoftmaxThenTopK;
  bool normalise = true;
  std::int64_t groups = 1;
  std::int64_t topk_group = 1;
  double scaling = 1.0;
  bool biases = false;   // gpt-oss: router and experts have biases
  double least_sum = 0;  // the sum that weights are divided by is at least this
  double added_sum = 0;  // or this is added to it
  double closeness = 0;  // SparseMixer: how near to the best
  bool pools = false;    // experts of words and of pictures; words take no part of the second
  HfExpertNames names;
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

struct MambaFacts {
  std::int64_t heads = 0;
  std::int64_t head_dim = 0;
  std::int64_t groups = 0;
  std::int64_t state = 0;
  std::int64_t kernel = 0;
  bool norm = true;  // a norm of each group, beside the gate
  bool norm_before_gate = false;
  double step_least = 0.0;  // bounds of the time step
  double step_most = std::numeric_limits<double>::infinity();
  // Falcon-H1 multiplies its input, the parts of its projection (z, x, B, C, dt) and its output.
  double in_scale = 1.0;
  std::array<double, 5> part_scales{1.0, 1.0, 1.0, 1.0, 1.0};
  double out_scale = 1.0;

  [[nodiscard]] std::int64_t inner() const { return heads * head_dim; }
};

struct LatentFacts {
  std::int64_t q_lora = 0;  // 0: one full q projection
  std::int64_t kv_lora = 0;
  std::int64_t nope = 0;
  std::int64_t rope = 0;
  std::int64_t value = 0;
  double eps = 1e-6;  // of its norms, whatever rms_norm_eps says
  // An indexer chooses the tokens that a query sees, so many of them.
  std::int64_t index_heads = 0;
  std::int64_t index_dim = 0;
  std::int64_t index_topk = 0;  // 0: every token before it
};

/// MiniMax-M3: an indexer scores tokens; the best blocks of them are seen whole.
struct BlockIndexFacts {
  std::int64_t heads = 0;  // 0: no such indexers
  std::int64_t dim = 0;
  std::int64_t block = 1;    // tokens
  std::int64_t topk = 1;     // blocks
  std::int64_t nearest = 0;  // blocks up to the query's own that are always among them
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
  std::int64_t value_dim = 0;  // of a value head; 0: as its key
  std::int64_t ffn = 0;
  double eps = 1e-6;
  NormKind norm = NormKind::Rms;
  Placement placement = Placement::Before;
  double attention_scale = 1.0;
  double embedding_scale = 1.0;
  double residual_scale = 1.0;  // of what attention and MLP add
  double logit_scale = 1.0;
  double qkv_clip = 0;       // OLMo: queries, keys and values stay within it; 0: none
  double attention_cap = 0;  // Gemma 2: scores and logits pass through cap * tanh(x / cap)
  double logit_cap = 0;
  std::int64_t chunk = 0;      // of ChunkedAttention
  bool unturned_grow = false;  // only queries that do not turn grow (Llama 4)
  double query_offset = 0;
  double query_growth = 0;  // Ministral 3: queries beyond query_reach tokens grow
  double query_reach = 1;
  std::int64_t window = 0;  // reach of SlidingAttention
  Activation activation = Activation::Silu;
  bool zero_centred = false;           // HF norms multiply by 1 + weight
  bool megatron_zero_centred = false;  // Megatron's do: layernorm_zero_centered_gamma
  QkNorm qk_norm = QkNorm::None;
  bool qk_norm_bias = false;  // norms of single heads are LayerNorms
  bool qk_norm_behind_turn = false;
  bool heads_together = false;  // HF: query, key and value of one head, then of the next
  bool output_gate = false;
  bool qkv_bias = false;
  bool output_bias = false;
  bool mlp_bias = false;
  bool head_bias = false;
  bool gated = true;  // the MLP has a gate
  bool sinks = false;
  bool norms_beside_blocks = false;  // GLM-4 in Megatron: the norms behind stand beside the blocks
  bool tied = false;
  std::int64_t mtp_layers = 0;
  bool mtp_behind_layers = false;  // HF names model.layers.{L + k} (DeepSeek, GLM), not mtp. (Qwen)
  std::int64_t labels = 0;         // of a classifier; 0: a language model
  bool label_bias = false;
  std::vector<Mixer> mixers;  // one a layer
  std::vector<bool> is_moe;   // one a layer
  std::vector<bool> turns;    // one a layer: queries and keys turn by position
  HfNames names;
  RopeFacts rope;  // of full and latent attention
  RopeFacts sliding_rope;
  std::vector<Block> blocks;      // one a layer
  std::vector<LayerSizes> sizes;  // one a layer, or none where all layers are alike
  bool unit_values = false;       // values of each head are normed without a weight
  double value_scale = 1.0;       // values are multiplied
  bool layer_scalar = false;      // a number stored in each layer multiplies what leaves it
  std::int64_t layer_input = 0;   // each layer sees so many numbers of each token once more
  std::int64_t layer_input_vocab = 0;
  bool experts_beside = false;  // of every MLP, each behind norms of its own
  std::vector<bool> indexes;    // one a layer: its own indexer, not the choice of the layer before
  // Falcon-H1: of what attention sees, gives and compares, of the gate and of what the MLP gives.
  double attention_in_scale = 1.0;
  double attention_out_scale = 1.0;
  double key_scale = 1.0;
  double gate_scale = 1.0;
  double down_scale = 1.0;
  MoeFacts moe;
  DeltaNetFacts delta;
  MambaFacts mamba;
  LatentFacts latent;
  BlockIndexFacts block_index;
  VisionFacts vision;
};

/// Size of a value head.
[[nodiscard]] inline std::int64_t value_dim_of(const ModelFacts& facts) {
  return facts.value_dim > 0 ? facts.value_dim : facts.head_dim;
}

/// Reads the facts of one model. `like`: the model_type whose modules an unknown one computes with.
/// Errors: NoConfig (not JSON), ArchitectureUnknown (no forward form), ConfigField naming the
/// field, what it holds and what is wanted; a setting that would change the computation and has no
/// form here is an error too. Source: configuration classes of transformers 5.12.1.
[[nodiscard]] Result<ModelFacts> read_facts(std::string_view config_json,
                                            std::string_view like = "");

}  // namespace bv::oracle::forward

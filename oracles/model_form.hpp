#pragma once
// How a model computes, by the kinds of its layers: what differs from Llama, the default. Values
// alone; oracles/forward computes with them on both sides.
// Source: modeling_<model_type>.py and configuration_<model_type>.py of transformers 5.12.1.

#include <array>
#include <cstdint>
#include <string_view>

namespace bv::oracle {

enum class NormKind {
  Rms,
  Layer,        // mean and deviation, weight and bias
  LayerNoBias,  // weight alone (Command R)
  LayerBare,    // nothing stored (OLMo)
};

/// Where the norms of a layer stand, seen from its attention and its MLP.
enum class Placement {
  Before,
  Behind,      // OLMo 2, EXAONE 4
  Both,        // Gemma 2, GLM-4
  Beside,      // attention and MLP side by side behind one norm
  BesideEach,  // side by side, each behind a norm of its own
};

/// Which layers turn queries and keys by position.
enum class Turns {
  All,
  Sliding,       // those that slide
  SlidingIfAny,  // those that slide, or all where the model has no window
  None,
  Listed,  // no_rope_layers: 1 turns
};

/// Which layers slide where use_sliding_window says so and layer_types says nothing.
enum class UseWindow {
  Never,       // there is no such flag
  FromLayer,   // those from max_window_layers on
  EveryOther,  // the first, the third, ... of those before it
  Everywhere,
  Unturned,  // those that do not turn (SmolLM3)
};

/// Where Mamba 2 mixers stand.
enum class MambaKind {
  None,
  BesideAttention,  // Falcon-H1
  LayerByLayer,     // Nemotron-H: each layer is a mixer, attention, an MLP or experts
};

/// What multiplies the logits.
enum class LogitScale { None, LogitScale, OverLogitsScaling, TimesLogitsScaling };

/// How a token chooses its experts.
enum class Router {
  SoftmaxThenTopK,  // softmax over all experts, the largest
  SigmoidGrouped,   // sigmoid, a bias that only chooses, groups by their best two
  TopKThenSoftmax,  // the largest logits, softmax over those
  SoftmaxGrouped,   // DeepSeek-V2: softmax, groups by their best
  SoftmaxBiased,    // ERNIE 4.5: softmax, a bias that only chooses
  SigmoidBefore,    // Llama 4: the largest logits, their sigmoid multiplies what an expert sees
  SparseMixer,      // Phi-3.5-MoE: the best, then the best of the others, each among those near it
};

/// Whether the weights of the chosen experts are divided by their sum.
enum class Normalise { Field, Always, Never, AboveOne };  // AboveOne: where there are several

/// Names of HF tensors below their layer or the model; "" where there is none.
struct HfNames {
  std::string_view body = "model.";
  std::string_view embedding = "embed_tokens";
  std::string_view final_norm = "norm";
  std::string_view head = "lm_head";
  std::string_view attention = "self_attn.";
  std::string_view together = "qkv_proj";  // read where it exists
  std::string_view output = "o_proj";
  std::string_view sinks = "sinks";
  std::string_view q_norm = "q_norm";
  std::string_view k_norm = "k_norm";
  std::string_view before_attention = "input_layernorm";
  std::string_view behind_attention = "post_attention_layernorm";
  std::string_view before_mlp = "post_attention_layernorm";
  std::string_view behind_mlp = "post_feedforward_layernorm";
  std::string_view mlp = "mlp.";
  std::string_view up = "up_proj";
  std::string_view down = "down_proj";
  std::string_view mtp_norm = "shared_head.norm";
  std::string_view mtp_list = {};  // MTP layers in a list of their own (MiMo)
};

/// Names below a layer with experts.
struct HfExpertNames {
  std::string_view moe = "mlp.";  // block_sparse_moe. where a layer has that
  std::string_view router = "gate";
  std::string_view choice_bias = "gate.e_score_correction_bias";
  std::string_view packed_up = "gate_up_proj";  // below experts.
  std::string_view packed_down = "down_proj";
  std::string_view shared = "mlp.shared_experts.";
};

struct MoeForm {
  Router router = Router::SoftmaxThenTopK;
  Normalise normalise = Normalise::Always;
  bool normalise_otherwise = true;
  bool listed = false;  // moe_layers, else every interleave_moe_layer_step-th
  std::string_view topk = "num_experts_per_tok";
  std::string_view ffn = {};      // "": no experts
  std::string_view experts = {};  // the field that counts them; "": the first of the usual ones
  std::int64_t first_dense = 0;   // first_k_dense_replace where the config has none
  bool may_lack = false;          // a config without that field has none either
  std::string_view scaling = {};  // "": none
  double scaling_otherwise = 1.0;
  bool groups = false;                 // n_group and topk_group
  double added_sum = 1e-20;            // of sigmoid weights, before they are divided by it
  bool stretch = false;                // moe_layer_start_index, _end_index, _interval
  std::string_view shared_ffn = {};    // a size, or
  std::string_view shared_count = {};  // a number of experts' sizes
  bool shared_gate = false;
  bool pools = false;  // ERNIE 4.5 VL: sizes are lists, the first for words; HF routers are [H, E]
  bool one_shared = false;  // always one, as large as an expert
  HfExpertNames names = {};
};

/// A flag of the config that has no form with another value.
struct Must {
  std::string_view field = {};
  bool value = false;
};

struct Form {
  /// The wrapper computes as this model does where its text config names none; what sees and hears
  /// in it has no form, so that its inputs are words alone.
  std::string_view wraps = {};
  NormKind norm = NormKind::Rms;
  std::string_view eps = "rms_norm_eps";
  double eps_otherwise = 1e-6;
  Placement placement = Placement::Before;
  std::string_view placed_by = {};  // the flag that says so; without it:
  Placement placed_otherwise = Placement::Before;
  bool placed_by_otherwise = true;
  bool gated = true;
  std::string_view activation_field = "hidden_act";
  std::string_view activation = "silu";
  bool tied_otherwise = false;
  bool text_ties = true;         // of a wrapper: its text config decides where its own says nothing
  bool text_alone_ties = false;  // whatever its own says
  std::string_view bias = "attention_bias";
  bool bias_otherwise = false;
  std::string_view output_bias = {};           // where it has a field of its own
  std::string_view ffn = "intermediate_size";  // of an MLP without experts
  std::string_view mlp_bias = {};              // "": none
  bool mlp_bias_always = false;
  bool head_bias = false;  // lm_head_bias
  bool head_bias_otherwise = true;
  std::string_view qk_norm = {};  // the flag that says whether there are such norms
  bool qk_norm_per_head = false;  // a weight of its own for every head (Command R)
  bool qk_norm_behind_turn = false;
  double rotary = 1.0;             // partial_rotary_factor where the config has none
  bool pairs_interleaved = false;  // elements 2j and 2j + 1 turn together
  Turns turns = Turns::All;
  double theta = 10000.0;
  /// Without layer_types, every so manieth layer sees everything; below 0, the first of so many.
  std::int64_t sliding_pattern = 0;
  UseWindow use_window = UseWindow::Never;
  std::int64_t window_layers = 28;  // max_window_layers where the config has none
  MambaKind mamba = MambaKind::None;
  bool latent = false;         // multi-head latent attention
  bool indexed = false;        // an indexer chooses the tokens that it sees
  bool block_indexed = false;  // an indexer of some layers chooses blocks of tokens (MiniMax-M3)
  bool magnified = true;       // its scores grow with yarn's mscale_all_dim
  bool sinks = false;
  bool width_scales_embedding = false;  // Gemma: by the root of hidden_size
  bool query_scalar = false;            // query_pre_attn_scalar instead of the head size
  bool chunks = false;                  // chunked_attention of attention_chunk_size
  bool tempered = false;                // queries that do not turn grow with their position
  bool unit_heads = false;              // use_qk_norm: heads are normed without a weight
  bool caps = false;                    // attn_logit_softcapping and final_logit_softcapping
  bool norms_beside_blocks = false;     // Megatron keeps the norms behind the blocks beside them
  bool clips_qkv = false;
  bool layers_differ = false;   // Gemma 4: sizes by kind of layer, shared keys, embeddings by layer
  bool by_blocks = false;       // block_configs: sizes of each layer, and what it lacks (DeciLM)
  bool by_pattern = false;      // hybrid_layer_pattern: key/value heads and sinks of sliding layers
  bool clamped_swiglu = false;  // gpt-oss's activation, whatever hidden_act says
  bool scaled_queries = false;  // llama_4_scaling_beta of rope_parameters
  std::array<Must, 2> must = {};
  std::string_view mtp = "mtp_num_hidden_layers";
  bool mtp_behind = false;       // model.layers.{L + k} of HF, not mtp.
  bool multipliers = false;      // Granite's
  bool root_multiplier = false;  // attention_multiplier is the root of the head size where absent
  LogitScale logit_scale = LogitScale::None;
  HfNames names = {};
  MoeForm moe = {};
};

}  // namespace bv::oracle

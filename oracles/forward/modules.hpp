#pragma once
// Inside the forward oracles only: the parts that hold no weights, and the view of named weights.
// Shapes: S tokens, n heads, g key/value heads, d head size. All tensors are float64.

#include <ATen/ATen.h>

#include <initializer_list>
#include <map>
#include <memory>
#include <optional>
#include <set>
#include <string>
#include <string_view>
#include <vector>

#include "oracles/forward/forward.hpp"

namespace bv::oracle::forward {

/// Thrown inside this folder, turned into an Error at hf_forward and megatron_forward.
struct Refusal {
  Error error;
};

/// Named tensors seen through a prefix. `place` names the checkpoint or the rank in messages.
class Scope {
 public:
  Scope(const NamedTensors& tensors, std::string place, Code missing)
      : tensors_(&tensors), place_(std::move(place)), missing_(missing) {}
  /// As above; names of tensors that are read are added to `read`, which must outlive the scope.
  Scope(const NamedTensors& tensors, std::string place, Code missing, std::set<std::string>& read)
      : Scope(tensors, std::move(place), missing) {
    read_ = &read;
  }

  /// The scope without a prefix.
  [[nodiscard]] Scope whole() const;
  /// The scope one level deeper; `part` ends in a dot.
  [[nodiscard]] Scope in(std::string_view part) const;
  [[nodiscard]] bool has(std::string_view name) const;
  /// Throws Refusal when the tensor is missing or has another shape.
  [[nodiscard]] at::Tensor get(std::string_view name, const std::vector<std::int64_t>& shape) const;
  /// The first of two spellings that exists; the first spelling is named when neither does.
  [[nodiscard]] at::Tensor either(std::string_view one, std::string_view other,
                                  const std::vector<std::int64_t>& shape) const;
  [[nodiscard]] std::vector<std::int64_t> shape_of(std::string_view name) const;
  [[nodiscard]] const NamedTensors& tensors() const { return *tensors_; }
  [[nodiscard]] const std::string& prefix() const { return prefix_; }
  [[nodiscard]] const std::string& place() const { return place_; }

 private:
  const NamedTensors* tensors_;
  std::string prefix_;
  std::string place_;
  Code missing_;
  std::set<std::string>* read_ = nullptr;
};

[[noreturn]] void refuse_input(std::string message, std::string found, std::string wanted);
[[nodiscard]] Tensor to_tensor(const at::Tensor& tensor);
/// A view; the owner must outlive it.
[[nodiscard]] at::Tensor to_aten(const Tensor& tensor, std::string_view what);
/// Runs a computation, turning Refusal and what LibTorch throws into Error.
[[nodiscard]] Result<Outputs> guarded(const std::function<Outputs()>& compute);

// norm.cpp: x [.., H], weight [H].
[[nodiscard]] at::Tensor rms_norm(const at::Tensor& x, const at::Tensor& weight, double eps,
                                  bool zero_centred);
[[nodiscard]] at::Tensor layer_norm(const at::Tensor& x, const at::Tensor& weight,
                                    const at::Tensor& bias, double eps = 1e-6);
/// What a checkpoint stores of one norm, as its kind asks.
struct NormWeights {
  std::optional<at::Tensor> weight;
  std::optional<at::Tensor> bias;
};
/// Over the last axis; a weight of more axes lies on the last axes of x.
[[nodiscard]] at::Tensor normed(NormKind kind, const at::Tensor& x, const NormWeights& stored,
                                double eps, bool zero_centred);
/// The kind of the norms of queries and keys.
[[nodiscard]] inline NormKind head_norm(const ModelFacts& facts) {
  return facts.qk_norm_bias                    ? NormKind::Layer
         : facts.norm == NormKind::LayerNoBias ? NormKind::LayerNoBias
                                               : NormKind::Rms;
}
/// What an activation alone makes of x.
[[nodiscard]] at::Tensor activation_of(Activation activation, const at::Tensor& x);
/// Feed-forward core: gate and up [S, F] -> [S, F].
[[nodiscard]] at::Tensor gated_activation(Activation activation, const at::Tensor& gate,
                                          const at::Tensor& up);

// rope.cpp
struct RopeTable {
  at::Tensor cos;  // [S, rotary_dim]
  at::Tensor sin;
  bool pairs_interleaved = false;
};
/// positions [3, S]: temporal, row, column; equal rows for text.
[[nodiscard]] RopeTable rope_table(const RopeFacts& facts, const at::Tensor& positions);
/// x [S, heads, d]; turns the leading rotary_dim elements.
[[nodiscard]] at::Tensor turned(const at::Tensor& x, const RopeTable& table);
/// The positions [3, S] of a sequence with images (Qwen3-VL).
[[nodiscard]] at::Tensor token_positions(const ModelFacts& facts, const Inputs& inputs);

// attention.cpp
/// allowed [S, S]: query s may see key t. window 0: causal; otherwise also s - t < window.
[[nodiscard]] at::Tensor causal_mask(std::int64_t tokens, std::int64_t window);
/// causal, within chunks of so many tokens; 0: causal.
[[nodiscard]] at::Tensor chunked_mask(std::int64_t tokens, std::int64_t chunk);
/// q [S, n, d], k [S, g, d], v [S, g, e] -> [S, n * e]; head h reads key/value head h / (n / g).
/// sinks [n]: one more logit a head that takes weight and gives nothing. cap: as in `capped`.
[[nodiscard]] at::Tensor attend(const at::Tensor& q, const at::Tensor& k, const at::Tensor& v,
                                const at::Tensor& allowed, double scale,
                                const std::optional<at::Tensor>& sinks, double cap = 0);
/// x within -clip and clip; x itself without one (0).
[[nodiscard]] at::Tensor clipped(const at::Tensor& x, double clip);
/// cap * tanh(x / cap); x itself without a cap (0).
[[nodiscard]] at::Tensor capped(const at::Tensor& x, double cap);
/// The weights of an indexer (DeepSeek-V3.2): heads n of size d, one key.
struct Indexer {
  at::Tensor query;      // [n d, q_lora]
  at::Tensor key;        // [d, H]
  at::Tensor norm;       // [d], of the key
  at::Tensor norm_bias;  // [d]
  at::Tensor weights;    // [n, H]
};
/// allowed [S, S] with the tokens alone that the indexer chooses for each query. x [S, H];
/// latent_query [S, q_lora], normed.
[[nodiscard]] at::Tensor chosen_tokens(const LatentFacts& facts, const Indexer& indexer,
                                       const RopeTable& rope, const at::Tensor& x,
                                       const at::Tensor& latent_query, const at::Tensor& allowed);

/// The weights of an indexer that chooses blocks (MiniMax-M3): heads n of size d, one key.
struct BlockIndexer {
  at::Tensor query;       // [n d, H]
  at::Tensor key;         // [d, H]
  at::Tensor query_norm;  // [d]
  at::Tensor key_norm;    // [d]
};
/// That of a layer, under the names of its scope.
[[nodiscard]] BlockIndexer block_indexer(const ModelFacts& facts, const Scope& scope,
                                         std::string_view stem);
/// allowed [S, S] with the blocks alone that the indexer chooses for each query. x [S, H].
[[nodiscard]] at::Tensor chosen_blocks(const ModelFacts& facts, const BlockIndexer& indexer,
                                       const RopeTable& rope, const at::Tensor& x,
                                       const at::Tensor& allowed);

// mamba.cpp
/// The part of a Mamba 2 mixer between its projections, for all heads or one rank's.
struct MambaHeads {
  std::int64_t heads;
  std::int64_t groups;
  at::Tensor projected;            // [S, 2 i + 2 g n + h]: z, x, B, C, dt
  at::Tensor conv;                 // [i + 2 g n, 1, kernel]
  at::Tensor conv_bias;            // [i + 2 g n]
  at::Tensor a_log;                // [h]
  at::Tensor d;                    // [h]
  at::Tensor dt_bias;              // [h]
  std::optional<at::Tensor> norm;  // [i]
};
/// -> [S, i], to be projected out.
[[nodiscard]] at::Tensor mamba(const MambaFacts& facts, const MambaHeads& heads, double eps);

// gated_delta_net.cpp
/// Depthwise causal convolution, then silu. x [S, C], taps [C, 1, K].
[[nodiscard]] at::Tensor causal_convolution(const at::Tensor& x, const at::Tensor& taps,
                                            const std::optional<at::Tensor>& bias = {});
/// The part of a gated delta net between its projections, for any number of heads (all, or one
/// rank's).
struct DeltaHeads {
  std::int64_t key_heads;
  std::int64_t value_heads;
  at::Tensor query_key_value;  // [S, 2 nk dk + nv dv], before the convolution
  at::Tensor z;                // [S, nv dv]
  at::Tensor b;                // [S, nv]
  at::Tensor a;                // [S, nv]
  at::Tensor conv;             // [2 nk dk + nv dv, 1, kernel]
  at::Tensor a_log;            // [nv]
  at::Tensor dt_bias;          // [nv]
  at::Tensor norm;             // [dv]
  bool norm_zero_centred;
};
/// -> [S, nv dv], to be projected out.
[[nodiscard]] at::Tensor delta_net(const DeltaNetFacts& facts, const DeltaHeads& heads, double eps);

// moe.cpp
/// logits [S, E] -> weights [S, E], zero for experts not chosen. choice_bias [E] moves only the
/// choice.
[[nodiscard]] at::Tensor routing(const MoeFacts& facts, const at::Tensor& logits,
                                 const std::optional<at::Tensor>& choice_bias);
[[nodiscard]] inline bool before(const MoeFacts& facts) {
  return facts.router == Router::SigmoidBefore;
}
/// Sums weights[:, e] * expert(e, rows of x that chose e); with `before`, the rows are multiplied
/// instead.
[[nodiscard]] at::Tensor dispatched(
    const at::Tensor& x, const at::Tensor& weights, bool before,
    const std::function<at::Tensor(std::int64_t expert, const at::Tensor& rows)>& expert);

// vision.cpp: what needs no weights, and what is looked up in them.
struct VisionPlan {
  at::Tensor patches;               // [patches, channels * temporal * patch * patch]
  at::Tensor corner_index;          // [4, patches] rows of the learned position grid
  at::Tensor corner_weight;         // [4, patches]
  RopeTable rope;                   // [patches, head size]
  at::Tensor allowed;               // [patches, patches]: same image
  std::vector<std::int64_t> slots;  // positions of image tokens in the sequence
};
[[nodiscard]] VisionPlan vision_plan(const ModelFacts& facts, const Inputs& inputs);
/// table [positions, H] -> [patches, H]
[[nodiscard]] at::Tensor grid_positions(const VisionPlan& plan, const at::Tensor& table);
/// Puts (or adds) rows at the image slots of hidden [S, H].
[[nodiscard]] at::Tensor with_rows(const at::Tensor& hidden, const VisionPlan& plan,
                                   const at::Tensor& rows, bool add);

// inputs.cpp
void check_inputs(const ModelFacts& facts, const Inputs& inputs);
[[nodiscard]] at::Tensor token_ids(const Inputs& inputs);
/// Tokens 1 + depth to the left, 0 at the end: what an MTP block embeds.
[[nodiscard]] at::Tensor later_token_ids(const Inputs& inputs, std::int64_t depth);
/// The mixer of an MTP block's inner layer: the attention of the model, never the gated delta net.
[[nodiscard]] inline Mixer mtp_mixer(const ModelFacts& facts) {
  return facts.latent.kv_lora > 0 ? Mixer::LatentAttention : Mixer::FullAttention;
}

/// What kind of layer one is.
struct LayerKind {
  Mixer mixer;
  bool is_moe;
  bool turns;
  Block block = Block::Both;
  bool indexes = false;
  bool keys_are_values = false;
  bool shares = false;
  std::size_t number = 0;  // in the whole model
};
[[nodiscard]] inline LayerKind layer_kind(const ModelFacts& facts, std::size_t layer) {
  LayerKind kind{facts.mixers[layer], facts.is_moe[layer], facts.turns[layer], facts.blocks[layer],
                 facts.indexes[layer]};
  kind.number = layer;
  if (!facts.sizes.empty()) {
    kind.keys_are_values = facts.sizes[layer].keys_are_values;
    kind.shares = facts.sizes[layer].shares;
  }
  return kind;
}
[[nodiscard]] inline LayerKind mtp_kind(const ModelFacts& facts) {
  return {mtp_mixer(facts), facts.is_moe.back(), true, Block::Both, facts.latent.index_topk > 0};
}
[[nodiscard]] inline bool beside(Placement placement) {
  return placement == Placement::Beside || placement == Placement::BesideEach;
}
[[nodiscard]] inline bool behind(Placement placement) {
  return placement == Placement::Behind || placement == Placement::Both;
}

/// What layers leave for later ones, one of each a rank.
struct Left {
  /// What the last indexer chose; layers without one see the same.
  std::vector<at::Tensor> chosen;
  /// Keys and values of the last layer of a kind that has its own.
  std::map<Mixer, std::vector<std::pair<at::Tensor, at::Tensor>>> keys_values;
};

/// What every layer of one pass shares.
struct Pass {
  const ModelFacts& facts;
  RopeTable rope;
  RopeTable sliding_rope;
  at::Tensor allowed;
  at::Tensor sliding_allowed;
  at::Tensor chunked_allowed;
  at::Tensor query_growth;  // [S, 1, 1]
  std::shared_ptr<Left> left = std::make_shared<Left>();
};
/// The facts with the sizes of one layer in place of the model's.
[[nodiscard]] inline ModelFacts facts_of_layer(const ModelFacts& facts, std::size_t layer) {
  ModelFacts out = facts;
  out.head_dim = facts.sizes[layer].head_dim;
  out.kv_heads = facts.sizes[layer].kv_heads;
  out.ffn = facts.sizes[layer].ffn;
  out.sinks = facts.sinks || facts.sizes[layer].sinks;
  return out;
}
[[nodiscard]] inline Pass with_facts(const Pass& pass, const ModelFacts& facts) {
  return {facts,
          pass.rope,
          pass.sliding_rope,
          pass.allowed,
          pass.sliding_allowed,
          pass.chunked_allowed,
          pass.query_growth,
          pass.left};
}
/// Values of each head as they are summed: normed without a weight, or multiplied.
[[nodiscard]] inline at::Tensor value_of(const ModelFacts& facts, const at::Tensor& value) {
  const at::Tensor out =
      facts.unit_values ? normed(NormKind::Rms, value, {}, facts.eps, false) : value;
  return facts.value_scale == 1.0 ? out : out * facts.value_scale;
}
/// What a layer sees of each token once more [S, L, D]: `looked_up` [S, L D] in a table of its own,
/// `projected` [S, L D] from the embedding, each layer's part normed.
[[nodiscard]] at::Tensor layer_inputs(const ModelFacts& facts, const at::Tensor& looked_up,
                                      const at::Tensor& projected, const at::Tensor& norm);
[[nodiscard]] Pass make_pass(const ModelFacts& facts, const Inputs& inputs);
[[nodiscard]] inline const RopeTable& rope_of(const Pass& pass, Mixer mixer) {
  return mixer == Mixer::SlidingAttention ? pass.sliding_rope : pass.rope;
}
/// Queries or keys of a layer, turned by their positions where the layer turns.
[[nodiscard]] inline at::Tensor placed(const Pass& pass, const LayerKind& layer,
                                       const at::Tensor& x) {
  return layer.turns ? turned(x, rope_of(pass, layer.mixer)) : x;
}
/// Queries of a layer, grown with their positions where the model has that.
[[nodiscard]] inline at::Tensor grown(const Pass& pass, const LayerKind& layer,
                                      const at::Tensor& query) {
  return pass.facts.unturned_grow && layer.turns ? query : query * pass.query_growth;
}
[[nodiscard]] inline const at::Tensor& mask_of(const Pass& pass, Mixer mixer) {
  if (mixer == Mixer::ChunkedAttention) return pass.chunked_allowed;
  return mixer == Mixer::SlidingAttention ? pass.sliding_allowed : pass.allowed;
}

}  // namespace bv::oracle::forward

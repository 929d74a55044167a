#pragma once
// Inside the forward oracles only: the modules of the Megatron form. Every activation is kept once
// a tensor-parallel rank, because each rank computes its own copy: a replicated weight that is
// wrong on one rank only then shows in what that rank gives.

#include "oracles/forward/modules.hpp"

namespace bv::oracle::forward::megatron {

using PerRank = std::vector<at::Tensor>;  // one [S, ..] a tensor-parallel rank
using Team = std::vector<Scope>;          // one view a tensor-parallel rank

/// The ranks of one pipeline stage and chunk.
struct Stage {
  Team dense;                 // [tp_rank]
  std::vector<Team> experts;  // [ep_rank][etp_rank]

  [[nodiscard]] Stage in(std::string_view part) const;
  [[nodiscard]] std::int64_t tp_size() const { return static_cast<std::int64_t>(dense.size()); }
};

[[nodiscard]] Team in(const Team& team, std::string_view part);
/// total / parts; IndivisibleDim names what is cut.
[[nodiscard]] std::int64_t cut(std::int64_t total, std::int64_t parts, std::string_view what);
/// The collectives: the sum of all ranks' parts, and the parts side by side on the last axis.
[[nodiscard]] at::Tensor all_reduce(const PerRank& parts);
[[nodiscard]] at::Tensor all_gather(const PerRank& parts);
[[nodiscard]] PerRank plus(const PerRank& one, const PerRank& other);
[[nodiscard]] PerRank scaled(const PerRank& x, double factor);

/// Rank r gives rows r of the cut output: x[r] W_r^T (+ b_r).
[[nodiscard]] PerRank column_linear(const Team& team, std::string_view name, const PerRank& x,
                                    std::int64_t out, bool biased);
/// Rank r holds columns r of the weight; the partial products are summed, then each rank adds its
/// bias copy.
[[nodiscard]] PerRank row_linear(const Team& team, std::string_view name, const PerRank& x,
                                 std::int64_t out, bool biased);
/// A norm as Megatron computes it.
struct NormFacts {
  NormKind kind;
  double eps;
  bool zero_centred;
};
[[nodiscard]] inline NormFacts norm_of(const ModelFacts& facts) {
  return {facts.norm, facts.eps, facts.megatron_zero_centred};
}
/// Each rank norms with its own copy; `other` is the second spelling of what stands before
/// "weight" and "bias".
[[nodiscard]] PerRank norms(const NormFacts& norm, const Team& team, std::string_view stem,
                            std::string_view other, const PerRank& x);

[[nodiscard]] PerRank attention(const Pass& pass, const LayerKind& layer,
                                const Team& self_attention, const PerRank& x);
[[nodiscard]] PerRank latent_attention(const Pass& pass, const LayerKind& layer,
                                       const Team& self_attention, const PerRank& x);
[[nodiscard]] PerRank delta_mixer(const Pass& pass, const Team& self_attention, const PerRank& x);
[[nodiscard]] PerRank mamba_mixer(const Pass& pass, const Team& mixer, const PerRank& x);
/// The MLP, with a gate or without.
[[nodiscard]] PerRank feed_forward(const Pass& pass, const Team& mlp, const PerRank& x,
                                   std::int64_t ffn);
[[nodiscard]] PerRank moe(const Pass& pass, const Stage& mlp, const PerRank& x);
/// One transformer layer; `layer` ends in "layers.3." or "mtp_model_layer.".
[[nodiscard]] PerRank transformer_layer(const Pass& pass, const LayerKind& kind, const Stage& layer,
                                        const PerRank& hidden);

/// Gemma 4: the MLP and the experts beside it, each behind norms of its own; their sum, normed.
[[nodiscard]] PerRank experts_beside(const Pass& pass, const Stage& layer, const PerRank& residual);
/// What Gemma 4 does behind a layer: the layer's own input of each token, and its scalar.
[[nodiscard]] PerRank with_layer_input(const ModelFacts& facts, const Team& layer,
                                       const PerRank& hidden, const PerRank& input);

struct VisionOutputs {
  PerRank merged;  // [image tokens, H]
  std::vector<PerRank> deepstack;
};
[[nodiscard]] VisionOutputs vision(const ModelFacts& facts, const Team& vision_model,
                                   const VisionPlan& plan);

/// All stages in the order a token passes them.
struct World {
  std::vector<Stage> stages;         // chunk-major: [vpp * pp_size + pp]
  std::vector<std::int64_t> layers;  // decoder layers of each stage
  std::string body;                  // "", "language_model.", "thinker.language_model." ...
};
/// Sorts shards by coordinate, compares copies, counts layers.
/// Errors: BadValue for a shard that is missing, ReplicasDiffer, LayerOnNoStage.
[[nodiscard]] World make_world(const ModelFacts& facts, const std::vector<RankTensors>& ranks);

}  // namespace bv::oracle::forward::megatron

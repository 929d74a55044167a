// The whole model in its Megatron form, stage after stage.
#include <fmt/format.h>

#include "core/base/text.hpp"
#include "oracles/forward/megatron_layer.hpp"

namespace bv::oracle::forward {
namespace megatron {
namespace {

/// Each rank holds equal, consecutive rows of the padded vocabulary; a token outside them gives
/// zero there.
at::Tensor vocabulary_embedding(const ModelFacts& facts, const Team& team, const at::Tensor& ids) {
  constexpr std::string_view kName = "word_embeddings.weight";
  const std::vector<std::int64_t> shape = team.front().shape_of(kName);
  const std::int64_t rows = shape.size() == 2 ? shape[0] : 0;
  PerRank found;
  for (std::size_t r = 0; r < team.size(); ++r) {
    const at::Tensor table = team[r].get(kName, {rows, facts.hidden});
    const at::Tensor local = ids - static_cast<std::int64_t>(r) * rows;
    const at::Tensor inside = (local >= 0).logical_and(local < rows);
    const at::Tensor taken = table.index_select(0, local.clamp(0, rows - 1));
    found.push_back(taken * inside.unsqueeze(1).to(at::kDouble));
  }
  if (rows * static_cast<std::int64_t>(team.size()) < facts.vocab) {
    throw Refusal{
        fail(Code::ShapeMismatch, "the embedding shards do not reach the whole vocabulary")
            .pair(fmt::format("{} ranks of {} rows", team.size(), rows),
                  counted(facts.vocab, "row"))
            .advise("give every tensor-parallel rank its shard of the padded vocabulary")};
  }
  return all_reduce(found);
}

/// Column-parallel logits, gathered, the padding cut off. `name` is the weight to use.
at::Tensor vocabulary_logits(const ModelFacts& facts, const Team& team, std::string_view name,
                             const PerRank& hidden) {
  const std::vector<std::int64_t> shape = team.front().shape_of(name);
  const std::int64_t rows = shape.size() == 2 ? shape[0] : 0;
  PerRank local;
  for (std::size_t r = 0; r < team.size(); ++r) {
    local.push_back(at::matmul(hidden[r], team[r].get(name, {rows, facts.hidden}).t()));
    if (facts.head_bias) local[r] = local[r] + team[r].get("output_layer.bias", {rows});
  }
  const at::Tensor all = all_gather(local);
  if (all.size(1) < facts.vocab) {
    throw Refusal{
        fail(Code::ShapeMismatch, "the output shards do not reach the whole vocabulary")
            .pair(counted(all.size(1), "column"), counted(facts.vocab, "column"))
            .advise("give every tensor-parallel rank its shard of the padded vocabulary")};
  }
  return all.slice(1, 0, facts.vocab);
}

/// The last linear of a classifier: whole on every rank; each rank's copy gives its
/// share of rows.
at::Tensor label_logits(const ModelFacts& facts, const Team& team, const PerRank& hidden) {
  at::Tensor sum = at::zeros({hidden.front().size(0), facts.labels}, at::kDouble);
  for (std::size_t r = 0; r < team.size(); ++r) {
    const at::Tensor weight = team[r].get("output_layer.weight", {facts.labels, facts.hidden});
    sum = sum + at::matmul(hidden[r], weight.t());
    if (facts.label_bias) sum = sum + team[r].get("output_layer.bias", {facts.labels});
  }
  return sum / static_cast<double>(team.size());
}

class MegatronModel {
 public:
  MegatronModel(const ModelFacts& facts, const std::vector<RankTensors>& ranks)
      : facts_(facts), world_(make_world(facts, ranks)) {}

  Outputs run(const Inputs& inputs) {
    check_inputs(facts_, inputs);
    const Pass pass = make_pass(facts_, inputs);
    Outputs out;
    const Stage& first = world_.stages.front();
    PerRank hidden(first.dense.size(), embed(first, token_ids(inputs)));
    std::optional<VisionPlan> plan;
    VisionOutputs seen;
    if (!inputs.images.grid_thw.empty()) {
      plan = vision_plan(facts_, inputs);
      seen = vision(facts_, in(first.dense, "vision_model."), *plan);
      put_rows(hidden, *plan, seen.merged, false);
      out.vision_output = to_tensor(seen.merged.front());
      for (const PerRank& level : seen.deepstack)
        out.deepstack_outputs.push_back(to_tensor(level.front()));
    }
    inputs_of_layers_ = layers_see(first, token_ids(inputs), hidden);
    decode(pass, plan, seen, hidden, out);
    const Stage* const with_mtp = mtp_stage();
    hidden = norms(norm_of(facts_), in(norm_stage(with_mtp != nullptr).dense, world_.body),
                   "decoder.final_layernorm.", "decoder.final_norm.", hidden);
    out.final_norm_output = to_tensor(hidden.front());
    const Team last = in(world_.stages.back().dense, world_.body);
    out.logits = to_tensor(head(last, hidden));
    for (std::int64_t depth = 0; with_mtp != nullptr && depth < facts_.mtp_layers; ++depth) {
      hidden = mtp(pass, inputs, *with_mtp, hidden, depth);
      out.mtp_outputs.push_back(to_tensor(hidden.front()));
      out.mtp_logits.push_back(to_tensor(head(last, hidden)));
    }
    return out;
  }

 private:
  at::Tensor embed(const Stage& stage, const at::Tensor& ids) const {
    return vocabulary_embedding(facts_, in(stage.dense, world_.body + "embedding."), ids) *
           facts_.embedding_scale;
  }

  PerRank decoded(const Pass& pass, std::size_t layer, const Stage& scope,
                  const PerRank& hidden) const {
    if (facts_.sizes.empty())
      return transformer_layer(pass, layer_kind(facts_, layer), scope, hidden);
    const ModelFacts own = facts_of_layer(facts_, layer);
    PerRank input;
    for (const at::Tensor& all : inputs_of_layers_)
      input.push_back(all.select(1, static_cast<std::int64_t>(layer)));
    return with_layer_input(
        own, scope.dense,
        transformer_layer(with_facts(pass, own), layer_kind(facts_, layer), scope, hidden), input);
  }

  /// A table cut by rows and a projection cut by rows, both on the stage that embeds; gathered.
  /// Source: Megatron-Bridge 0.6.2, modeling_gemma4.py, _compute_per_layer_inputs.
  PerRank layers_see(const Stage& stage, const at::Tensor& ids, const PerRank& embedded) const {
    PerRank out;
    if (facts_.layer_input == 0) return out;
    const std::int64_t width = facts_.layers * facts_.layer_input;
    const Team team = in(stage.dense, world_.body);
    const std::int64_t rows = cut(facts_.layer_input_vocab, static_cast<std::int64_t>(team.size()),
                                  "per_layer_embedding");
    PerRank found;
    for (std::size_t r = 0; r < team.size(); ++r) {
      const at::Tensor table = team[r].get("per_layer_embedding.weight", {rows, width});
      const at::Tensor local = ids - static_cast<std::int64_t>(r) * rows;
      const at::Tensor inside = (local >= 0).logical_and(local < rows);
      found.push_back(table.index_select(0, local.clamp(0, rows - 1)) *
                      inside.unsqueeze(1).to(at::kDouble));
    }
    const at::Tensor looked_up = all_reduce(found);
    const at::Tensor projected =
        all_gather(column_linear(team, "per_layer_model_proj", embedded, width, false));
    for (const Scope& rank : team) {
      out.push_back(layer_inputs(facts_, looked_up, projected,
                                 rank.get("per_layer_proj_norm.weight", {facts_.layer_input})));
    }
    return out;
  }

  static void put_rows(PerRank& hidden, const VisionPlan& plan, const PerRank& rows, bool add) {
    for (std::size_t r = 0; r < hidden.size(); ++r)
      hidden[r] = with_rows(hidden[r], plan, rows[r], add);
  }

  void decode(const Pass& pass, const std::optional<VisionPlan>& plan, const VisionOutputs& seen,
              PerRank& hidden, Outputs& out) const {
    std::size_t layer = 0;
    for (std::size_t s = 0; s < world_.stages.size(); ++s) {
      for (std::int64_t i = 0; i < world_.layers[s]; ++i, ++layer) {
        const Stage scope =
            world_.stages[s].in(fmt::format("{}decoder.layers.{}.", world_.body, i));
        hidden = decoded(pass, layer, scope, hidden);
        out.layer_outputs.push_back(to_tensor(hidden.front()));
        if (layer < seen.deepstack.size()) put_rows(hidden, *plan, seen.deepstack[layer], true);
      }
    }
  }

  /// With a tied embedding on one stage there is no output_layer; the last of several stages has
  /// its own copy.
  at::Tensor head(const Team& last, const PerRank& hidden) const {
    if (facts_.labels > 0) return label_logits(facts_, last, hidden);
    const bool shared = facts_.tied && world_.stages.size() == 1;
    const std::string_view name =
        shared ? "embedding.word_embeddings.weight" : "output_layer.weight";
    return capped(vocabulary_logits(facts_, last, name, hidden) * facts_.logit_scale,
                  facts_.logit_cap);
  }

  /// The stage that the MTP layers stand on, any of a written pipeline layout; nullptr without
  /// them.
  const Stage* mtp_stage() const {
    const std::string first = world_.body + "mtp.";
    for (const Stage& stage : world_.stages) {
      for (const Scope& rank : stage.dense) {
        const auto at = rank.tensors().lower_bound(rank.prefix() + first);
        if (at != rank.tensors().end() && at->first.starts_with(rank.prefix() + first))
          return &stage;
      }
    }
    return nullptr;
  }

  /// With MTP the norm stands behind the last decoder layer, else before the loss.
  /// Source: Megatron-Core 0.19.2, TransformerBlock.has_final_layernorm_in_this_stage.
  const Stage& norm_stage(bool with_mtp) const {
    std::size_t stage = world_.stages.size() - 1;
    while (with_mtp && stage > 0 && world_.layers[stage] == 0) --stage;
    return world_.stages[stage];
  }

  /// eh_proj sees the normed embedding of a later token first, the normed hidden state second; its
  /// column-parallel output is gathered. `stage` embeds with its own copy of the table.
  /// Source: Megatron-Core 0.19.2, transformer/multi_token_prediction.py.
  PerRank mtp(const Pass& pass, const Inputs& inputs, const Stage& stage, const PerRank& hidden,
              std::int64_t depth) const {
    const Stage block = stage.in(fmt::format("{}mtp.layers.{}.", world_.body, depth));
    const PerRank later(hidden.size(), embed(stage, later_token_ids(inputs, depth)));
    const PerRank left = norms(norm_of(facts_), block.dense, "enorm.", "enorm.", later);
    const PerRank right = norms(norm_of(facts_), block.dense, "hnorm.", "hnorm.", hidden);
    PerRank joined;
    for (std::size_t r = 0; r < hidden.size(); ++r)
      joined.push_back(at::cat({left[r], right[r]}, -1));
    PerRank x(hidden.size(),
              all_gather(column_linear(block.dense, "eh_proj", joined, facts_.hidden, false)));
    const bool old_name =
        block.dense.front().has("transformer_layer.self_attention.linear_proj.weight");
    const Stage inner = block.in(old_name ? "transformer_layer." : "mtp_model_layer.");
    x = transformer_layer(pass, mtp_kind(facts_), inner, x);
    return norms(norm_of(facts_), block.dense, "final_layernorm.", "final_layernorm.", x);
  }

  const ModelFacts& facts_;
  World world_;
  PerRank inputs_of_layers_;  // [S, L, D]; none in most models
};

}  // namespace
}  // namespace megatron

Result<Outputs> megatron_forward(const ModelFacts& facts, const std::vector<RankTensors>& ranks,
                                 const Inputs& inputs) {
  return guarded([&] { return megatron::MegatronModel(facts, ranks).run(inputs); });
}

}  // namespace bv::oracle::forward

// The whole model in its HF form.
#include <fmt/format.h>

#include "oracles/forward/hf_layer.hpp"

namespace bv::oracle::forward {
namespace {

bool has_prefix(const NamedTensors& tensors, const std::string& prefix) {
  const auto at = tensors.lower_bound(prefix);
  return at != tensors.end() && at->first.starts_with(prefix);
}

/// "model.layers.1.mlp.experts.*.up_proj.weight".
std::string without_expert(std::string name) {
  constexpr std::string_view kPart = ".experts.";
  const std::size_t at = name.find(kPart);
  if (at == std::string::npos) return name;
  const std::size_t begin = at + kPart.size();
  const std::size_t end = name.find_first_not_of("0123456789", begin);
  return end == begin ? name : name.replace(begin, std::min(end, name.size()) - begin, "*");
}

class HfModel {
 public:
  HfModel(const ModelFacts& facts, const NamedTensors& tensors)
      : facts_(facts),
        root_(tensors, "the HF checkpoint", Code::HfTensorMissing, read_),
        body_(root_) {
    // Text classes loaded from a VL checkpoint keep its names, so the keys decide.
    const bool nested = has_prefix(tensors, "model.language_model.");
    body_ = root_.in(nested ? "model.language_model." : facts.names.body);
  }

  Outputs run(const Inputs& inputs) {
    check_inputs(facts_, inputs);
    const Pass pass = make_pass(facts_, inputs);
    Outputs out;
    at::Tensor hidden = embed(token_ids(inputs)) * facts_.embedding_scale;
    std::optional<VisionPlan> plan;
    hf::VisionOutputs seen;
    if (!inputs.images.grid_thw.empty()) {
      plan = vision_plan(facts_, inputs);
      seen = hf::vision(facts_, root_.in("model.visual."), *plan);
      hidden = with_rows(hidden, *plan, seen.merged, false);
      out.vision_output = to_tensor(seen.merged);
      for (const at::Tensor& level : seen.deepstack)
        out.deepstack_outputs.push_back(to_tensor(level));
    }
    const at::Tensor inputs_of_layers = layers_see(token_ids(inputs), hidden);
    for (std::size_t i = 0; i < facts_.mixers.size(); ++i) {
      const Scope layer = body_.in(fmt::format("layers.{}.", i));
      hidden = decoded(pass, i, layer, hidden, inputs_of_layers);
      out.layer_outputs.push_back(to_tensor(hidden));
      if (i < seen.deepstack.size()) hidden = with_rows(hidden, *plan, seen.deepstack[i], true);
    }
    hidden = hf::norm(facts_, body_, facts_.names.final_norm, hidden);
    out.final_norm_output = to_tensor(hidden);
    out.logits = to_tensor(head(hidden));
    for (std::int64_t depth = 0; depth < facts_.mtp_layers && holds_mtp(); ++depth) {
      hidden = mtp(pass, inputs, hidden, depth);
      out.mtp_outputs.push_back(to_tensor(hidden));
      out.mtp_logits.push_back(to_tensor(head(hidden)));
    }
    out.unread = unread();
    return out;
  }

 private:
  at::Tensor decoded(const Pass& pass, std::size_t i, const Scope& layer, const at::Tensor& hidden,
                     const at::Tensor& inputs_of_layers) const {
    if (facts_.sizes.empty()) return hf::decoder_layer(pass, layer_kind(facts_, i), layer, hidden);
    const ModelFacts own = facts_of_layer(facts_, i);
    const at::Tensor out =
        hf::decoder_layer(with_facts(pass, own), layer_kind(facts_, i), layer, hidden);
    return hf::with_layer_input(own, layer, out,
                                facts_.layer_input > 0
                                    ? inputs_of_layers.select(1, static_cast<std::int64_t>(i))
                                    : at::Tensor());
  }

  /// What every layer sees of each token once more; nothing in most models.
  at::Tensor layers_see(const at::Tensor& ids, const at::Tensor& embedded) const {
    if (facts_.layer_input == 0) return {};
    const std::int64_t width = facts_.layers * facts_.layer_input;
    return layer_inputs(
        facts_,
        body_.get("embed_tokens_per_layer.weight", {facts_.layer_input_vocab, width})
            .index_select(0, ids),
        hf::linear(body_, "per_layer_model_projection", embedded, width, false),
        body_.get("per_layer_projection_norm.weight", {facts_.layer_input}));
  }

  /// Tensors that nothing computes with. An expert that no token chose counts with the others.
  std::vector<std::string> unread() const {
    std::set<std::string> places;
    for (const std::string& name : read_) places.insert(without_expert(name));
    std::vector<std::string> out;
    for (const auto& entry : root_.tensors()) {
      if (!places.contains(without_expert(entry.first))) out.push_back(entry.first);
    }
    return out;
  }

  at::Tensor embed(const at::Tensor& ids) const { return embedding().index_select(0, ids); }
  at::Tensor embedding() const {
    // Nemotron-H: published with an s, written by transformers without.
    return body_.either(std::string(facts_.names.embedding) + ".weight", "embedding.weight",
                        {facts_.vocab, facts_.hidden});
  }

  at::Tensor head(const at::Tensor& hidden) const {
    if (facts_.labels > 0)
      return hf::linear(root_, "score", hidden, facts_.labels, facts_.label_bias);
    const std::string name(facts_.names.head);
    at::Tensor logits = facts_.tied ? at::matmul(hidden, embedding().t())
                                    : hf::linear(root_, name, hidden, facts_.vocab, false);
    if (facts_.head_bias) logits = logits + root_.get(name + ".bias", {facts_.vocab});
    return capped(logits * facts_.logit_scale, facts_.logit_cap);
  }

  std::string layer_part(std::int64_t number) const { return fmt::format("layers.{}.", number); }

  bool holds_mtp() const {
    return has_prefix(root_.tensors(), facts_.mtp_behind_layers || !facts_.names.mtp_list.empty()
                                           ? mtp_block(0).prefix()
                                           : "mtp.");
  }

  /// Names of an MTP layer by where it stands.
  struct MtpNames {
    std::string_view embedding_norm = "pre_fc_norm_embedding";
    std::string_view hidden_norm = "pre_fc_norm_hidden";
    std::string_view projection = "fc";
    std::string_view last_norm = "norm";
  };
  MtpNames mtp_names() const {
    if (!facts_.names.mtp_list.empty())
      return {"token_layernorm", "hidden_layernorm", "input_proj", "final_layernorm"};
    if (facts_.mtp_behind_layers) return {"enorm", "hnorm", "eh_proj", facts_.names.mtp_norm};
    return {};
  }
  Scope mtp_block(std::int64_t depth) const {
    if (!facts_.names.mtp_list.empty())
      return body_.in(fmt::format("{}{}.", facts_.names.mtp_list, depth));
    return facts_.mtp_behind_layers ? body_.in(layer_part(facts_.layers + depth))
                                    : root_.in("mtp.");
  }

  /// The projection sees the embedding of a later token first, the hidden state second; in MiMo the
  /// other way round. Source: vLLM qwen3_next_mtp.py, deepseek_mtp.py and mimo_mtp.py; transformers
  /// has no MTP module. Depths are chained as in Megatron-Core: each takes the normed output of the
  /// one before.
  at::Tensor mtp(const Pass& pass, const Inputs& inputs, const at::Tensor& hidden,
                 std::int64_t depth) const {
    const bool listed = !facts_.names.mtp_list.empty();
    const MtpNames names = mtp_names();
    const Scope block = mtp_block(depth);
    const Scope layer = listed || facts_.mtp_behind_layers ? block : block.in(layer_part(depth));
    const auto norm = [&](std::string_view name, const at::Tensor& x) {
      return hf::norm(facts_, block, name, x);
    };
    const at::Tensor later = embed(later_token_ids(inputs, depth)) * facts_.embedding_scale;
    const at::Tensor first = norm(names.embedding_norm, later);
    const at::Tensor second = norm(names.hidden_norm, hidden);
    const at::Tensor joined = listed ? at::cat({second, first}, -1) : at::cat({first, second}, -1);
    const at::Tensor x = hf::linear(block, names.projection, joined, facts_.hidden, false);
    return norm(names.last_norm, hf::decoder_layer(pass, mtp_kind(facts_), layer, x));
  }

  const ModelFacts& facts_;
  std::set<std::string> read_;
  Scope root_;
  Scope body_;
};

}  // namespace

Result<Outputs> hf_forward(const ModelFacts& facts, const NamedTensors& hf, const Inputs& inputs) {
  return guarded([&] {
    HfModel model(facts, hf);
    return model.run(inputs);
  });
}

}  // namespace bv::oracle::forward

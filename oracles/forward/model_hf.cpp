// The whole model in its HF form.
#include <fmt/format.h>

#include "oracles/forward/hf_layer.hpp"

namespace bv::oracle::forward {
namespace {

bool has_prefix(const NamedTensors& tensors, const std::string& prefix) {
  const auto at = tensors.lower_bound(prefix);
  return at != tensors.end() && at->first.starts_with(prefix);
}

class HfModel {
 public:
  HfModel(const ModelFacts& facts, const NamedTensors& tensors)
      : facts_(facts), root_(tensors, "the HF checkpoint", Code::HfTensorMissing), body_(root_) {
    // Text classes loaded from a VL checkpoint keep its names, so the keys decide.
    const bool nested = has_prefix(tensors, "model.language_model.");
    body_ = root_.in(nested ? "model.language_model." : "model.");
  }

  Outputs run(const Inputs& inputs) const {
    check_inputs(facts_, inputs);
    const Pass pass = make_pass(facts_, inputs);
    Outputs out;
    at::Tensor hidden = embed(token_ids(inputs)) * facts_.embedding_scale;
    std::optional<VisionPlan> plan;
    hf::VisionOutputs seen;
    if (inputs.images) {
      plan = vision_plan(facts_, inputs);
      seen = hf::vision(facts_, root_.in("model.visual."), *plan);
      hidden = with_rows(hidden, *plan, seen.merged, false);
      out.vision_output = to_tensor(seen.merged);
      for (const at::Tensor& level : seen.deepstack) out.deepstack_outputs.push_back(to_tensor(level));
    }
    for (std::size_t i = 0; i < facts_.mixers.size(); ++i) {
      const Scope layer = body_.in(fmt::format("layers.{}.", i));
      hidden = hf::decoder_layer(pass, facts_.mixers[i], facts_.is_moe[i], layer, hidden);
      out.layer_outputs.push_back(to_tensor(hidden));
      if (i < seen.deepstack.size()) hidden = with_rows(hidden, *plan, seen.deepstack[i], true);
    }
    hidden = rms_norm(hidden, body_.get("norm.weight", {facts_.hidden}), facts_.eps, facts_.zero_centred);
    out.final_norm_output = to_tensor(hidden);
    out.logits = to_tensor(head(hidden));
    if (facts_.mtp_layers > 0 && has_prefix(root_.tensors(), "mtp.")) add_mtp(pass, inputs, hidden, out);
    return out;
  }

 private:
  at::Tensor embed(const at::Tensor& ids) const { return embedding().index_select(0, ids); }
  at::Tensor embedding() const { return body_.get("embed_tokens.weight", {facts_.vocab, facts_.hidden}); }

  at::Tensor head(const at::Tensor& hidden) const {
    if (facts_.labels > 0) return hf::linear(root_, "score", hidden, facts_.labels, true);
    if (facts_.tied) return at::matmul(hidden, embedding().t());
    return hf::linear(root_, "lm_head", hidden, facts_.vocab, false);
  }

  /// fc sees the embedding of the next token first, the hidden state second; the inner layer is full attention.
  /// Source: vLLM qwen3_next_mtp.py; transformers has no MTP module.
  void add_mtp(const Pass& pass, const Inputs& inputs, const at::Tensor& hidden, Outputs& out) const {
    const Scope mtp = root_.in("mtp.");
    const auto norm = [&](std::string_view name, const at::Tensor& x) {
      return rms_norm(x, mtp.get(std::string(name) + ".weight", {facts_.hidden}), facts_.eps, facts_.zero_centred);
    };
    const at::Tensor next = norm("pre_fc_norm_embedding", embed(next_token_ids(inputs)) * facts_.embedding_scale);
    const at::Tensor joined = at::cat({next, norm("pre_fc_norm_hidden", hidden)}, -1);
    at::Tensor x = hf::linear(mtp, "fc", joined, facts_.hidden, false);
    x = hf::decoder_layer(pass, Mixer::FullAttention, facts_.is_moe.back(), mtp.in("layers.0."), x);
    x = norm("norm", x);
    out.mtp_output = to_tensor(x);
    out.mtp_logits = to_tensor(head(x));
  }

  const ModelFacts& facts_;
  Scope root_;
  Scope body_;
};

}  // namespace

Result<Outputs> hf_forward(const ModelFacts& facts, const NamedTensors& hf, const Inputs& inputs) {
  return guarded([&] { return HfModel(facts, hf).run(inputs); });
}

}  // namespace bv::oracle::forward

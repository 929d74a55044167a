#pragma once
// Inside the forward oracles only: the modules of the HF form. x is [S, H], normed where the
// module's name says.

#include "oracles/forward/modules.hpp"

namespace bv::oracle::forward::hf {

/// y = x W^T + b; the bias exists exactly when `biased`.
[[nodiscard]] at::Tensor linear(const Scope& scope, std::string_view name, const at::Tensor& x,
                                std::int64_t out, bool biased);
/// The norm `name` of the model's kind.
[[nodiscard]] at::Tensor norm(const ModelFacts& facts, const Scope& scope, std::string_view name,
                              const at::Tensor& x);
/// gate_up [rows, 2F] -> halves; gpt-oss keeps gate and up in alternating columns.
[[nodiscard]] std::pair<at::Tensor, at::Tensor> halves(const at::Tensor& gate_up, bool alternating);
[[nodiscard]] at::Tensor attention(const Pass& pass, const LayerKind& layer, const Scope& self_attn,
                                   const at::Tensor& x);
[[nodiscard]] at::Tensor latent_attention(const Pass& pass, const LayerKind& layer,
                                          const Scope& self_attn, const at::Tensor& x);
[[nodiscard]] at::Tensor delta_mixer(const Pass& pass, const Scope& linear_attn,
                                     const at::Tensor& x);
[[nodiscard]] at::Tensor mamba_mixer(const Pass& pass, const Scope& mixer, const at::Tensor& x);
/// The MLP, with a gate or without.
[[nodiscard]] at::Tensor feed_forward(const Pass& pass, const Scope& mlp, const at::Tensor& x,
                                      std::int64_t ffn);
[[nodiscard]] at::Tensor moe(const Pass& pass, const Scope& layer, const at::Tensor& x);
/// One decoder layer; `layer` ends in "layers.3.".
[[nodiscard]] at::Tensor decoder_layer(const Pass& pass, const LayerKind& kind, const Scope& layer,
                                       const at::Tensor& hidden);

/// Gemma 4: the MLP, which sees `y`, and the experts, which see `residual`; each normed, summed.
[[nodiscard]] at::Tensor experts_beside(const Pass& pass, const Scope& layer, const at::Tensor& y,
                                        const at::Tensor& residual);
/// What Gemma 4 does behind a layer: the layer's own input of each token, and its scalar.
[[nodiscard]] at::Tensor with_layer_input(const ModelFacts& facts, const Scope& layer,
                                          const at::Tensor& hidden, const at::Tensor& input);

struct VisionOutputs {
  at::Tensor merged;  // [image tokens, H]
  std::vector<at::Tensor> deepstack;
};
[[nodiscard]] VisionOutputs vision(const ModelFacts& facts, const Scope& visual,
                                   const VisionPlan& plan);

}  // namespace bv::oracle::forward::hf

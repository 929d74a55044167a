#pragma once
// Inside the forward oracles only: the modules of the HF form. x is [S, H], normed where the
// module's name says.

#include "oracles/forward/modules.hpp"

namespace bv::oracle::forward::hf {

/// y = x W^T + b; the bias exists exactly when `biased`.
[[nodiscard]] at::Tensor linear(const Scope& scope, std::string_view name, const at::Tensor& x,
                                std::int64_t out, bool biased);
[[nodiscard]] at::Tensor attention(const Pass& pass, Mixer mixer, const Scope& self_attn,
                                   const at::Tensor& x);
[[nodiscard]] at::Tensor latent_attention(const Pass& pass, const Scope& self_attn,
                                          const at::Tensor& x);
[[nodiscard]] at::Tensor delta_mixer(const Pass& pass, const Scope& linear_attn,
                                     const at::Tensor& x);
[[nodiscard]] at::Tensor gated_mlp(const Pass& pass, const Scope& mlp, const at::Tensor& x,
                                   std::int64_t ffn);
[[nodiscard]] at::Tensor moe(const Pass& pass, const Scope& layer, const at::Tensor& x);
/// One decoder layer; `layer` ends in "layers.3.".
[[nodiscard]] at::Tensor decoder_layer(const Pass& pass, Mixer mixer, bool is_moe,
                                       const Scope& layer, const at::Tensor& hidden);

struct VisionOutputs {
  at::Tensor merged;  // [image tokens, H]
  std::vector<at::Tensor> deepstack;
};
[[nodiscard]] VisionOutputs vision(const ModelFacts& facts, const Scope& visual,
                                   const VisionPlan& plan);

}  // namespace bv::oracle::forward::hf

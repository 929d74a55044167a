// Norms and the elementwise core of a feed-forward block.
#include <cmath>

#include "oracles/forward/modules.hpp"

namespace bv::oracle::forward {

at::Tensor rms_norm(const at::Tensor& x, const at::Tensor& weight, double eps, bool zero_centred) {
  const at::Tensor unit = x * at::rsqrt(x.pow(2).mean(-1, true) + eps);
  return unit * (zero_centred ? 1.0 + weight : weight);
}

at::Tensor layer_norm(const at::Tensor& x, const at::Tensor& weight, const at::Tensor& bias,
                      double eps) {
  return normed(NormKind::Layer, x, {weight, bias}, eps, false);
}

at::Tensor normed(NormKind kind, const at::Tensor& x, const NormWeights& stored, double eps,
                  bool zero_centred) {
  const at::Tensor centred = kind == NormKind::Rms ? x : x - x.mean(-1, true);
  at::Tensor unit = centred * at::rsqrt(centred.pow(2).mean(-1, true) + eps);
  if (stored.weight) unit = unit * (zero_centred ? 1.0 + *stored.weight : *stored.weight);
  return stored.bias ? unit + *stored.bias : unit;
}

at::Tensor layer_inputs(const ModelFacts& facts, const at::Tensor& looked_up,
                        const at::Tensor& projected, const at::Tensor& norm) {
  const auto root = [](std::int64_t of) { return std::sqrt(static_cast<double>(of)); };
  const std::vector<std::int64_t> shape{looked_up.size(0), facts.layers, facts.layer_input};
  const at::Tensor seen =
      rms_norm((projected / root(facts.hidden)).reshape(shape), norm, facts.eps, false);
  return (seen + looked_up.reshape(shape) * root(facts.layer_input)) / root(2);
}

at::Tensor activation_of(Activation activation, const at::Tensor& x) {
  switch (activation) {
    case Activation::Silu:
      return at::silu(x);
    case Activation::GeluTanh:
      return at::gelu(x, "tanh");
    case Activation::Gelu:
      return at::gelu(x, "none");
    case Activation::Relu2:
      return at::relu(x).pow(2);
    case Activation::ClampedSwiglu: {
      const at::Tensor bounded = x.clamp_max(7.0);
      return bounded * at::sigmoid(1.702 * bounded);
    }
  }
  return {};
}

at::Tensor gated_activation(Activation activation, const at::Tensor& gate, const at::Tensor& up) {
  // gpt-oss: both halves are clamped at 7, the up half moves by one.
  const bool clamped = activation == Activation::ClampedSwiglu;
  return activation_of(activation, gate) * (clamped ? up.clamp(-7.0, 7.0) + 1.0 : up);
}

}  // namespace bv::oracle::forward

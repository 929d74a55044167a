// Norms and the elementwise core of a feed-forward block.
#include "oracles/forward/modules.hpp"

namespace bv::oracle::forward {

at::Tensor rms_norm(const at::Tensor& x, const at::Tensor& weight, double eps, bool zero_centred) {
  const at::Tensor unit = x * at::rsqrt(x.pow(2).mean(-1, true) + eps);
  return unit * (zero_centred ? 1.0 + weight : weight);
}

at::Tensor layer_norm(const at::Tensor& x, const at::Tensor& weight, const at::Tensor& bias) {
  constexpr double kVisionEps = 1e-6;
  const at::Tensor centred = x - x.mean(-1, true);
  return centred * at::rsqrt(centred.pow(2).mean(-1, true) + kVisionEps) * weight + bias;
}

at::Tensor gated_activation(Activation activation, const at::Tensor& gate, const at::Tensor& up) {
  switch (activation) {
    case Activation::Silu:
      return at::silu(gate) * up;
    case Activation::GeluTanh:
      return at::gelu(gate, "tanh") * up;
    case Activation::ClampedSwiglu: {
      // gpt-oss: both halves are clamped at 7, the up half moves by one.
      const at::Tensor bounded = gate.clamp_max(7.0);
      return (up.clamp(-7.0, 7.0) + 1.0) * bounded * at::sigmoid(1.702 * bounded);
    }
  }
  return {};
}

}  // namespace bv::oracle::forward

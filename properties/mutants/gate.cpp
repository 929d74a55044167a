// The gate used upstream, run on the same mutants: Megatron-Bridge examples/conversion/hf_megatron_roundtrip_multi_gpu.py
// (067f987df): for every tensor that the export yields, torch.allclose(a, b, atol=1e-1, rtol=1e-5) after a cast to F32.

#include <fmt/format.h>

#include <cmath>
#include <random>

#include "core/base/arith.hpp"
#include "core/base/text.hpp"
#include "core/kinds/values.hpp"
#include "properties/mutants/judge.hpp"

namespace bv::mutants {
namespace {

constexpr double kAtol = 0.1;
constexpr double kRtol = 1e-5;

Tensor random_tensor(const TensorSpec& spec, double std, std::mt19937_64& engine) {
  Tensor out{spec.dtype, spec.shape, {}};
  const auto count = static_cast<std::size_t>(element_count(spec.shape).value());
  const auto size = static_cast<std::size_t>(bytes(spec.dtype));
  out.bytes.resize(count * size);
  std::normal_distribution<double> draw(spec.shape.size() == 1 ? 1.0 : 0.0, std);
  for (std::size_t i = 0; i < count; ++i) {
    kinds::store(draw(engine), out.bytes.data() + i * size, spec.dtype);
  }
  return out;
}

float as_float(const Tensor& tensor, std::size_t i) {
  return static_cast<float>(kinds::load(
      tensor.bytes.data() + i * static_cast<std::size_t>(bytes(tensor.dtype)), tensor.dtype));
}

/// The offset in a tensor of `shape` that broadcasting pairs with element `flat` of `whole`; nullopt when the shapes
/// cannot be broadcast.
std::optional<std::size_t> broadcast(std::size_t flat, const Shape& whole, const Shape& shape) {
  std::size_t out = 0;
  std::size_t stride = 1;
  for (std::size_t i = 0; i < whole.size(); ++i) {
    const std::size_t d = whole.size() - 1 - i;
    const auto at = flat % static_cast<std::size_t>(whole[d]);
    flat /= static_cast<std::size_t>(whole[d]);
    if (i >= shape.size()) {
      continue;
    }
    const std::int64_t extent = shape[shape.size() - 1 - i];
    if (extent != whole[d] && extent != 1) {
      return std::nullopt;
    }
    out += extent == 1 ? 0 : at * stride;
    stride *= static_cast<std::size_t>(extent);
  }
  return out;
}

/// Why the tensor is red; "" when it passes.
std::string compare(const std::string& name, const Tensor& original, const Tensor& found) {
  const std::size_t count = static_cast<std::size_t>(element_count(original.shape).value());
  if (found.shape.size() > original.shape.size()) {
    return fmt::format("raises: {} has shape {}", name, shape_text(found.shape));
  }
  for (std::size_t i = 0; i < count; ++i) {
    const auto other = broadcast(i, original.shape, found.shape);
    if (!other) {
      return fmt::format("raises: {} has shape {}, not {}", name, shape_text(found.shape),
                         shape_text(original.shape));
    }
    const double a = static_cast<double>(as_float(original, i));
    const double b = static_cast<double>(as_float(found, *other));
    if (!(std::abs(a - b) <= kAtol + kRtol * std::abs(b))) {
      return fmt::format("{} differs by {:.3g}", name, std::abs(a - b));
    }
  }
  return "";
}

}  // namespace

Tensors random_weights(const Headers& headers, double std, std::uint64_t seed) {
  std::mt19937_64 engine(seed);
  Tensors out;
  for (const auto& [name, spec] : headers) {
    out.emplace(name, random_tensor(spec, std, engine));
  }
  return out;
}

GateResult run_gate(const Reference& reference, const Attack& attack, double std,
                    std::uint64_t seed) {
  GateResult out;
  if (attack.refused) {
    // A line that is no bijection has no upstream form; a bridge author would get the shape error.
    out.red = true;
    out.why = "raises: " + attack.refused->message;
    return out;
  }
  const Headers& headers = reference.model().headers;
  const Tensors weights = random_weights(headers, std, seed);
  Tensors hf = weights;
  std::mt19937_64 engine(seed + 1);
  const Fill initial = [&](Tensor& tensor, const std::string& name) {
    tensor = random_tensor({name, tensor.dtype, tensor.shape}, std, engine);
  };
  const Image image = run_import(reference.right(), attack.way_there, hf, initial);
  Export back = run_export(attack.way_back, image, headers, std::byte{0});
  for (const std::string& loud : image.loud) {
    back.loud.push_back(loud);
  }
  if (!back.loud.empty()) {
    out.red = true;
    out.why = "raises: " + back.loud.front();
    return out;
  }
  for (const auto& [name, tensor] : back.tensors) {
    const auto original = hf.find(name);
    if (original == hf.end()) {
      continue;
    }
    ++out.tensors_compared;
    if (out.why = compare(name, original->second, tensor); !out.why.empty()) {
      out.red = true;
      return out;
    }
  }
  return out;
}

}  // namespace bv::mutants

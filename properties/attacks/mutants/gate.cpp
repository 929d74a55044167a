// The gate used upstream, run on the same mutants: Megatron-Bridge
// examples/conversion/hf_megatron_roundtrip_multi_gpu.py (067f987df): for every tensor that the
// export yields, torch.allclose(a, b, atol=1e-1, rtol=1e-5) after a cast to F32.

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <random>

#include "core/base/arith.hpp"
#include "core/base/text.hpp"
#include "core/kinds/values.hpp"
#include "properties/attacks/mutants/gate.hpp"

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

/// The shape that torch broadcasts two shapes to; nullopt when it raises.
std::optional<Shape> broadcast(const Shape& a, const Shape& b) {
  Shape out(std::max(a.size(), b.size()), 1);
  for (std::size_t i = 0; i < out.size(); ++i) {
    const std::int64_t x = i < a.size() ? a[a.size() - 1 - i] : 1;
    const std::int64_t y = i < b.size() ? b[b.size() - 1 - i] : 1;
    if (x != y && x != 1 && y != 1) {
      return std::nullopt;
    }
    out[out.size() - 1 - i] = x == 1 ? y : x;
  }
  return out;
}

/// The element of a tensor of `shape` that broadcasting puts at element `flat` of `whole`.
std::size_t element_at(std::size_t flat, const Shape& whole, const Shape& shape) {
  std::size_t out = 0;
  std::size_t stride = 1;
  for (std::size_t i = 0; i < shape.size(); ++i) {
    const auto extent = static_cast<std::size_t>(whole[whole.size() - 1 - i]);
    const std::int64_t own = shape[shape.size() - 1 - i];
    out += own == 1 ? 0 : flat % extent * stride;
    stride *= static_cast<std::size_t>(own);
    flat /= extent;
  }
  return out;
}

/// Why the tensor is red; "" when it passes.
std::string compare(const std::string& name, const Tensor& original, const Tensor& found) {
  const auto whole = broadcast(original.shape, found.shape);
  if (!whole) {
    return fmt::format("raises: {} has shape {}, not {}", name, shape_text(found.shape),
                       shape_text(original.shape));
  }
  const auto count = static_cast<std::size_t>(element_count(*whole).value());
  for (std::size_t i = 0; i < count; ++i) {
    const auto a = static_cast<double>(as_float(original, element_at(i, *whole, original.shape)));
    const auto b = static_cast<double>(as_float(found, element_at(i, *whole, found.shape)));
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

Gate::Gate(const Reference& reference, double std, std::uint64_t seed)
    : reference_(reference),
      std_(std),
      seed_(seed),
      weights_(random_weights(reference.model().headers, std, seed)),
      initial_(reference.right().files.size()) {
  std::mt19937_64 engine(seed + 1);
  for (const Move& move : reference.right().moves) {
    const DType dtype = reference.wanted_values().files[move.file].find(move.name)->second.dtype;
    initial_[move.file].emplace(move.name,
                                random_tensor({move.name, dtype, move.shape}, std, engine));
  }
}

GateResult Gate::run(const Attack& attack) const {
  GateResult out;
  if (attack.refused) {
    // A line that is not a bijection has no upstream form; a bridge author would get the shape
    // error.
    out.red = true;
    out.why = "raises: " + attack.refused->message;
    return out;
  }
  Tensors hf = weights_;
  std::mt19937_64 engine(seed_ + 2);
  const Fill fill = [&](Tensor& tensor, const Move& move) {
    const auto found = initial_[move.file].find(move.name);
    const bool known = found != initial_[move.file].end() && found->second.shape == tensor.shape &&
                       found->second.dtype == tensor.dtype;
    tensor = known ? found->second
                   : random_tensor({move.name, tensor.dtype, tensor.shape}, std_, engine);
  };
  const Image image = run_import(reference_.right(), attack.way_there, hf, fill);
  Export back = run_export(attack.way_back, image, reference_.model().headers, std::byte{0});
  back.loud.insert(back.loud.end(), image.loud.begin(), image.loud.end());
  if (!back.loud.empty()) {
    out.red = true;
    out.why = "raises: " + back.loud.front();
    return out;
  }
  for (const auto& [name, tensor] : back.tensors) {
    const auto original = weights_.find(name);  // the script reads them from the files again
    if (original == weights_.end()) {
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

GateResult run_gate(const Reference& reference, const Attack& attack, double std,
                    std::uint64_t seed) {
  return Gate(reference, std, seed).run(attack);
}

}  // namespace bv::mutants

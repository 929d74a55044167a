#include "core/lora/scaled_factors.hpp"

#include <cmath>

#include "core/kinds/values.hpp"

namespace bv::lora {
namespace {

/// Nothing was lost on the way.
bool comes_back(std::span<const std::byte> from, std::span<const std::byte> to, DType dtype,
                int exponent) {
  const auto size = static_cast<std::size_t>(bytes(dtype));
  for (std::size_t at = 0; at + size <= from.size(); at += size) {
    const double found = kinds::load(&to[at], dtype);
    if (!std::isfinite(found) || std::ldexp(found, -exponent) != kinds::load(&from[at], dtype)) {
      return false;
    }
  }
  return true;
}

}  // namespace

std::optional<int> power_between(double from, double to) {
  int from_exponent = 0;
  int to_exponent = 0;
  const double from_digits = std::frexp(from, &from_exponent);
  const double to_digits = std::frexp(to, &to_exponent);
  const bool same = std::isfinite(from) && std::isfinite(to) && from_digits == to_digits;
  return same ? std::optional(to_exponent - from_exponent) : std::nullopt;
}

std::vector<std::byte> times_power(std::span<const std::byte> elements, DType dtype, int exponent) {
  std::vector<std::byte> out(elements.size());
  const auto size = static_cast<std::size_t>(bytes(dtype));
  for (std::size_t at = 0; at + size <= elements.size(); at += size) {
    kinds::store(std::ldexp(kinds::load(&elements[at], dtype), exponent), &out[at], dtype);
  }
  return out;
}

checkpoint::SourceTensor ScaledFactors::Scaled::source() const {
  return {&view, view.find(tensor.spec.name)};
}

const ScaledFactors::Scaled* ScaledFactors::times(const checkpoint::SourceTensor& tensor,
                                                  int exponent) {
  const auto [at, added] = made_.try_emplace({tensor.spec, exponent});
  if (!added) {
    return at->second.get();
  }
  const checkpoint::WholeTensor whole(tensor);
  auto out = std::make_unique<Scaled>();
  const DType dtype = tensor.spec->dtype;
  if (!whole.status()) {
    return nullptr;
  }
  out->bytes = times_power(whole.bytes(), dtype, exponent);
  if (!comes_back(whole.bytes(), out->bytes, dtype, exponent)) {
    return nullptr;
  }
  out->tensor.spec = *tensor.spec;
  out->tensor.end = out->bytes.size();
  out->view.add(*tensor.spec, out->bytes);
  at->second = std::move(out);
  return at->second.get();
}

}  // namespace bv::lora

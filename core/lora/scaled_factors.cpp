#include "core/lora/scaled_factors.hpp"

#include <cmath>

#include "core/kinds/values.hpp"

namespace bv::lora {
namespace {

/// False when an element is not its product.
bool multiply(std::span<const std::byte> from, DType dtype, int exponent,
              std::vector<std::byte>& out) {
  const auto size = static_cast<std::size_t>(bytes(dtype));
  out.resize(from.size());
  for (std::size_t at = 0; at + size <= from.size(); at += size) {
    const double wanted = std::ldexp(kinds::load(&from[at], dtype), exponent);
    kinds::store(wanted, &out[at], dtype);
    const double found = kinds::load(&out[at], dtype);
    if (!std::isfinite(wanted) || found != wanted ||
        std::ldexp(found, -exponent) != kinds::load(&from[at], dtype)) {
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
  if (!whole.status() || !multiply(whole.bytes(), tensor.spec->dtype, exponent, out->bytes)) {
    return nullptr;
  }
  out->tensor.spec = *tensor.spec;
  out->tensor.end = out->bytes.size();
  out->view.add(*tensor.spec, out->bytes);
  at->second = std::move(out);
  return at->second.get();
}

}  // namespace bv::lora
